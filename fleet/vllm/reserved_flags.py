"""Lists the flags of vLLM that fleetctl sets itself: one table for validate, plan and apply.

A flag counts under every spelling that vLLM reads as it: underscores for hyphens, a `--no-` before
it, a short form or alias, and any beginning of its name, which Python's argparse completes.
"""

import shlex
from collections.abc import Mapping
from types import MappingProxyType

RESERVED: Mapping[str, str] = MappingProxyType(
    {
        "api-key": "clients' keys are checked by the gateway",
        "dtype": "set `dtype`",
        "enable-lora": "it is always on",
        "fingerprint-mode": "it stamps the digest of the flags",
        "fingerprint-value": "it stamps the digest of the flags",
        "gpu-memory-utilization": "the planner sets it; see `kv_cache` and the device's `memory`",
        "host": "set `address` on the host",
        "kv-cache-memory-bytes": "set `kv_cache`",
        "lora-modules": "adapters are loaded by `apply`",
        "max-cpu-loras": "the planner sets it",
        "max-lora-rank": "set `max_lora_rank`",
        "max-loras": "set `max_loras`",
        "max-model-len": "set `max_model_len`",
        "middleware": "it would run code on the requests of every client of the server",
        "model": "set `model`",
        "port": "set `port` on the host or device",
        "served-model-name": "it is the base's name",
        "shutdown-timeout": "running requests get a fixed time before a server stops",
        "tensor-parallel-size": "set `tensor_parallel`",
        "uds": "servers listen on the host's `address` and `port`",
    }
)
"""Long name of each reserved flag, and why a declaration may not set it."""

ALIASES: Mapping[str, str] = MappingProxyType(
    {"device-memory-utilization": "gpu-memory-utilization", "tp": "tensor-parallel-size"}
)
"""Other names that vLLM gives to reserved flags, without dashes; extend for a release that has
more."""


def long_name(flag: str) -> str:
    """Return a flag's name as fleetctl writes it: without leading dashes, with hyphens."""
    return flag.replace("_", "-").lstrip("-")


def why_reserved(flag: str, value: str = "") -> str:
    """Return why a flag may not be declared with this value; empty: the flag may.

    Args:
        flag: As declared or as it stands on a command line.
        value: As declared; a further flag among its words counts as well.
    """
    reason = _why(long_name(flag))
    if reason:
        return reason
    for word in words_of(value):
        name = word.partition("=")[0]
        reason = _why(long_name(name)) if name.startswith("--") or name[1:] in ALIASES else ""
        if reason:
            return f"its value holds `{name}`; {reason}"
    return ""


def words_of(value: str) -> tuple[str, ...]:
    """Return the arguments that a flag's value becomes.

    Raises:
        ValueError: a quote is left open.
    """
    return tuple(shlex.split(value))


def _why(name: str) -> str:
    """Return why the flag of this long name is reserved; empty: not reserved."""
    name = name.removeprefix("no-")
    if name in RESERVED:
        return RESERVED[name]
    read_as = ALIASES.get(name) or next(
        (known for known in (*RESERVED, *ALIASES) if name and known.startswith(name)), ""
    )
    if not read_as:
        return ""
    return f"vLLM may read it as `{read_as}`; {RESERVED[ALIASES.get(read_as, read_as)]}"
