"""Builds the command line of a server of the plan, and reads such a command line back.

The flags decide everything that a server is started with. Their digest is stamped on the server as
a served name and as its fingerprint, and tells later whether the flags still hold. The launch is
stamped beside the digest and tells which start answers; the launch is no flag.
"""

import hashlib
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from fleet.errors import ConfigError
from fleet.hardware import HostSpec
from fleet.names import Stamps
from fleet.resources import Server, ServerFlags
from fleet.vllm.flag_rules import fault_of, spelling_hint, words_of
from fleet.vllm.flags import long_name

VLLM_MODULE = "vllm.entrypoints.openai.api_server"
"""Module started with `python -m`; the `vllm` command of the CPU build does not run."""

FAKE_MODULE = "runtime.fake_vllm.server"
FAKE_SUFFIX = "+fake"
"""Suffix of the version and the fingerprint of the fake engine, scripted or not."""
CPU = "cpu"
"""Kind of a device that is not a GPU."""

RESOLVER = "fleetctl_resolver"
"""Plug-in of vLLM by which a server that restarted answers for the adapters that were loaded."""
SHUTDOWN_TIMEOUT_S = 20
"""Seconds that running requests get when a server is told to stop."""


@dataclass(frozen=True, slots=True)
class LaunchProgram:
    """The program of a server, and where the program listens."""

    python: str
    """Interpreter that runs the module."""
    host: str
    """Address to listen on; vLLM's own key guards only some of its paths, so clients must not reach
    that address."""
    port: int
    kind: str = ""
    """Kind of the devices; those of kind `cpu` need switches of their own."""
    module: str = VLLM_MODULE
    """That of the fake server takes the same flags."""


def command_line(
    flags: ServerFlags, program: LaunchProgram, stamps: Stamps, allowed: Collection[str] | None = ()
) -> tuple[str, ...]:
    """Return the argument vector that starts a server and stamps digest and launch on the server.

    `stamps`: with a digest. `allowed`: as for `fault_of`.

    Raises:
        ConfigError: FC4008, `flags.extra` has a flag that may not be declared so, or a value could
            be read as a flag.
    """
    extra = _extra(flags, allowed)
    stamp, *further_stamps = stamps.names
    arguments: dict[str, tuple[str, ...]] = {
        "model": (flags.model,),
        "served-model-name": (flags.served_name, stamp, *further_stamps),
        "host": (program.host,),
        "port": (str(program.port),),
        "enable-lora": (),
        "max-loras": (str(flags.max_loras),),
        "max-lora-rank": (str(flags.max_lora_rank),),
        "max-cpu-loras": (str(flags.max_cpu_loras),),
        "dtype": (flags.dtype,),
        "fingerprint-mode": ("custom",),
        "fingerprint-value": (stamp,),
        "shutdown-timeout": (str(SHUTDOWN_TIMEOUT_S),),
        "disable-fastapi-docs": (),
        "disable-uvicorn-access-log": (),  # the gateway writes one line per request already
    }
    arguments |= _sizes(flags)
    if program.kind == CPU:  # a LoRA forces eager mode there anyway; one process less to start
        arguments["enforce-eager"] = ()
        if flags.tensor_parallel == 1:
            arguments["distributed-executor-backend"] = ("uni",)
    if "data-parallel-size" in extra:  # adapters are listed per API process
        arguments["api-server-count"] = ("1",)
    _refuse_leading(arguments, flags)
    arguments |= extra
    words = (word for name, values in arguments.items() for word in (f"--{name}", *values))
    return (program.python, "-m", program.module, *words)


def _sizes(flags: ServerFlags) -> dict[str, tuple[str, ...]]:
    """Return the sizes that were declared or computed; vLLM chooses the others."""
    share = flags.memory_share
    sizes = {
        "max-model-len": flags.max_model_len,
        "tensor-parallel-size": flags.tensor_parallel if flags.tensor_parallel > 1 else None,
        "gpu-memory-utilization": None if share is None else f"{share:g}",
        "kv-cache-memory-bytes": flags.kv_cache_bytes,
    }
    return {name: (str(size),) for name, size in sizes.items() if size is not None}


def _extra(flags: ServerFlags, allowed: Collection[str] | None) -> dict[str, tuple[str, ...]]:
    arguments = {}
    for declared, value in flags.extra:
        name = long_name(declared)
        if fault := fault_of(name, value, allowed):
            raise _refused(declared, flags, fault.detail, fault.hint or spelling_hint(name))
        arguments[name] = words_of(name, value)
    return arguments


def _refuse_leading(arguments: Mapping[str, Sequence[str]], flags: ServerFlags) -> None:
    for name, values in arguments.items():
        if leading := next((word for word in values if word.startswith("-")), ""):
            raise _refused(name, flags, f"vLLM would read its value `{leading:.40}` as a flag")


def _refused(flag: str, flags: ServerFlags, why: str, hint: str = "") -> ConfigError:
    return ConfigError.of(
        "FC4008",
        "A flag may not be given to a server",
        f"`{flag}` of base `{flags.served_name}` may not be declared so: {why}.",
        hint=hint or "Change the base's declaration.",
        command="fleetctl validate",
    )


def environment(kind: str = "", devices: Sequence[int] = (), adapters: str = "") -> dict[str, str]:
    """Return the variables that a server needs beside the inherited variables.

    `devices` are the indices of its GPUs on the host; empty: all visible GPUs. `adapters` is the
    file that the plug-in answers by; empty: no plug-in of vLLM is loaded.
    """
    variables = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_PLUGINS": RESOLVER if adapters else "",
    }
    if adapters:
        variables["FLEETCTL_ADAPTERS"] = adapters
    if kind == CPU:
        variables |= {
            "OMP_NUM_THREADS": "1",
            "VLLM_CPU_CI_ENV": "1",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_LOGGING_LEVEL": "WARNING",
        }
    elif devices:
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(str(device) for device in devices)
    return variables


@dataclass(frozen=True, slots=True)
class LaunchCommand:
    """A server, ready to be started by hand or by a supervisor."""

    server: Server
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    launch: str


POD_PORT = 8000
"""TCP port of every pod: a pod has an address of its own."""
POD_STORE = "/fleetctl"
"""Folder of the claim in a pod, with adapters as `DIGEST` and bases as `bases/NAME`."""
POD_ADAPTERS = "/etc/fleetctl/adapters.json"
"""File of a pod with the adapters of its server."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A server with the needs of its pod beside the launch."""

    launch: LaunchCommand
    """Command line and variables as they are inside the pod."""
    image: str
    kind: str
    """Kind of its devices."""
    adapters: Mapping[str, str]
    """Digests of the versions that the server holds, by full name."""


def compiled_launch(server: Server) -> str:
    """Return the launch in a command line that others run: the same as long as the line is.

    A supervisor that repeats the line keeps the launch; a line with other flags has another.
    """
    return hashlib.sha256(f"{server.name} {server.digest}".encode()).hexdigest()[:12]


def launch_of(
    server: Server,
    host: HostSpec,
    *,
    python: str,
    model: str = "",
    launch: str = "",
    adapters: str = "",
    allowed: Collection[str] = (),
) -> LaunchCommand | None:
    """Return the command that starts a server of the plan on its host, by the host's interpreter.

    A fake host runs the fake server with the same flags. `model` is the path of the base, where the
    path differs from the declared path. `launch` empty: others run the command. `adapters` is the
    server's file of adapters, if the interpreter has the plug-in. `allowed`: flags that the
    operator lets run code on the host. None: one of others or of an
    extension.

    Raises:
        ConfigError: as `command_line`.
    """
    if server.flags is None or host.engine == "attach" or host.package:
        return None
    kinds = {device.name: device.kind for device in host.devices}
    kind = CPU if {kinds.get(device) for device in server.devices} == {CPU} else ""
    launch = launch or compiled_launch(server)
    is_fake = host.engine == "fake"
    module = FAKE_MODULE if is_fake else VLLM_MODULE
    arguments = command_line(
        replace(server.flags, model=model or server.flags.model),
        LaunchProgram(python, host.listens_on, server.port, kind, module),
        Stamps(server.digest or server.flags.digest, launch, has_resolver=bool(adapters)),
        allowed=None if is_fake else allowed,
    )
    variables = environment(kind, gpus_of(server, host), adapters)
    return LaunchCommand(server, arguments, variables, launch)


def gpus_of(server: Server, host: HostSpec) -> tuple[int, ...]:
    """Return the indices of a server's GPUs on its host."""
    gpus = [device.name for device in host.devices if device.kind != CPU]
    return tuple(gpus.index(device) for device in server.devices if device in gpus)


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
