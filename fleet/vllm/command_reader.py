"""Reads a server back from its command line; the stamped digest proves that the flags are right."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from fleet.names import Stamps
from fleet.resources import ServerFlags

_OWN = {
    "model", "served-model-name", "host", "port", "enable-lora", "max-loras", "max-lora-rank",
    "max-cpu-loras", "dtype", "max-model-len", "tensor-parallel-size", "gpu-memory-utilization",
    "kv-cache-memory-bytes", "fingerprint-mode", "fingerprint-value", "shutdown-timeout",
    "disable-fastapi-docs", "disable-uvicorn-access-log",
}  # fmt: skip
"""Flags that `command_line` writes for every server, or from a field of `ServerFlags`."""
_DERIVED = {"enforce-eager", "distributed-executor-backend", "api-server-count"}
"""Flags that `command_line` adds by kind of device, and that a base may declare as well."""


@dataclass(frozen=True, slots=True)
class CommandRead:
    """A server as its command line says."""

    base: str
    """Main served name, which is the name of the base."""
    port: int
    stamps: Stamps
    flags: ServerFlags
    """The flags; their digest is the stamped digest."""


def read_back(arguments: Sequence[str], folder: str) -> CommandRead | None:
    """Return the server that an argument vector starts; None: no such line is written by fleetctl.

    `folder` is the project, to which a declared path of a base is relative.
    """
    words = _grouped(arguments)
    base, *others = words.get("served-model-name", ("",))
    stamps = Stamps.among(others)
    if stamps.digest is None:
        return None
    try:
        for flags in _readings(words, base, folder):
            if flags.digest_like(stamps.digest) == stamps.digest:
                return CommandRead(base, int(_one(words, "port")), stamps, flags)
    except ValueError:
        return None
    return None


def _grouped(arguments: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    words: dict[str, tuple[str, ...]] = {}
    name = ""
    for word in arguments:
        if word.startswith("--"):
            name = word[2:]
            words[name] = ()
        elif name:
            words[name] += (word,)
    return words


def _readings(
    words: Mapping[str, tuple[str, ...]], base: str, folder: str
) -> Iterator[ServerFlags]:
    """Yield the flags that lead to these words: paths, spellings and derived flags differ."""
    model = _one(words, "model")
    relative = model.removeprefix(f"{folder.rstrip('/')}/")
    extras = {name: values for name, values in words.items() if name not in _OWN}
    plain = {name: values for name, values in extras.items() if name not in _DERIVED}
    paths = dict.fromkeys((relative, model))
    for path, kept, sep, join in product(paths, (plain, extras), "-_", (shlex.join, " ".join)):
        yield ServerFlags(
            model=path,
            served_name=base,
            max_loras=int(_one(words, "max-loras")),
            max_lora_rank=int(_one(words, "max-lora-rank")),
            max_cpu_loras=int(_one(words, "max-cpu-loras")),
            dtype=_one(words, "dtype"),
            max_model_len=int(found) if (found := _one(words, "max-model-len")) else None,
            tensor_parallel=int(_one(words, "tensor-parallel-size") or 1),
            memory_share=float(found) if (found := _one(words, "gpu-memory-utilization")) else None,
            kv_cache_bytes=int(found) if (found := _one(words, "kv-cache-memory-bytes")) else None,
            extra=tuple(sorted((name.replace("-", sep), join(v)) for name, v in kept.items())),
        )


def _one(words: Mapping[str, tuple[str, ...]], name: str) -> str:
    return next(iter(words.get(name, ())), "")
