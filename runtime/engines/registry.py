"""The engines by the name that a host declares, and how one is made."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import runtime
from fleet.errors import EngineError, problem
from fleet.hardware import HostSpec
from fleet.resources import Server
from fleet.vllm import inherited, launch_of
from runtime.engines.attach import AttachEngine
from runtime.engines.launch_records import LaunchRecords
from runtime.engines.local import LocalEngine
from runtime.engines.protocol import Engine

Progress = Callable[[str], None]
Maker = Callable[[HostSpec, Path, Path, Progress], Engine]
"""Makes an engine from a host, the project's folder, the state folder and a listener."""


def make_engine(
    host: HostSpec,
    root: Path,
    state_dir: Path,
    fleet_name: str = "",
    *,
    progress: Progress = lambda _: None,
) -> Engine:
    """Return the engine of a host. Nothing is contacted or started.

    Args:
        host: As declared.
        root: The project's folder, to which declared paths are relative.
        state_dir: Where launches are written down, under `servers/`.
        fleet_name: Told to the started processes, so that a process list says whose they are.
        progress: Told now and then what is being waited for.
    """
    made = ENGINES[host.engine](host, root, state_dir, progress)
    if fleet_name and isinstance(made, LocalEngine):
        made.labels["FLEETCTL_FLEET"] = fleet_name
    return made


def _attach(host: HostSpec, _root: Path, _state_dir: Path, _progress: Progress) -> Engine:
    return AttachEngine(host)


def _local(host: HostSpec, root: Path, state_dir: Path, progress: Progress) -> Engine:
    folder = root.absolute()

    def command(server: Server) -> tuple[tuple[str, ...], dict[str, str]]:
        return _command(server, host, folder, _interpreter(host, folder))

    return LocalEngine(
        host, LaunchRecords(state_dir / "servers"), folder, command, progress=progress
    )


def _fake(host: HostSpec, root: Path, state_dir: Path, progress: Progress) -> Engine:
    folder = root.absolute()
    package_root = str(Path(runtime.__file__).parent.parent)

    def command(server: Server) -> tuple[tuple[str, ...], dict[str, str]]:
        arguments, environment = _command(server, host, folder, sys.executable)
        return arguments, environment | {"PYTHONPATH": package_root}

    return LocalEngine(
        host, LaunchRecords(state_dir / "servers"), folder, command, progress=progress
    )


def _command(
    server: Server, host: HostSpec, root: Path, python: str
) -> tuple[tuple[str, ...], dict[str, str]]:
    flags = server.flags
    here = root / flags.model if flags else root
    launch = launch_of(server, host, python=python, model=str(here) if here.is_dir() else "")
    assert launch is not None, "local and fake hosts start their servers"
    # Modules lying about in the project must not shadow those of the server.
    safe = {"PYTHONSAFEPATH": "1"}
    return launch.arguments, {**inherited(os.environ), **launch.environment, **safe}


def _interpreter(host: HostSpec, root: Path) -> str:
    """Return the interpreter that has vLLM; its links stay, they say which environment it is."""
    if not host.python:
        raise EngineError(
            problem(
                "FC4018",
                "A server cannot be started",
                f"Host `{host.name}` says not which interpreter has vLLM.",
                hint="Set `python` of the host, such as `.venv-vllm/bin/python`.",
                command="make vllm",
            )
        )
    if os.sep not in host.python:
        return host.python
    return os.path.abspath(root / host.python)  # noqa: PTH100 (`resolve` would follow the links)


ENGINES: Mapping[str, Maker] = MappingProxyType({"local": _local, "attach": _attach, "fake": _fake})
