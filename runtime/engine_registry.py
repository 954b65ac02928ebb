"""Makes the engine that a host declares: a shipped one, or that of an extension."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import which
from typing import Final, TypeVar

import runtime
from fleet.environment import SERVER_KEY, inherited, server_key
from fleet.errors import EngineError, EngineRejectedError, FleetError
from fleet.hardware import HostSpec
from fleet.names import Address, server_name
from fleet.resources import Server, State
from fleet.vllm import launch_of
from runtime.engines.adapters_file import adapters_path
from runtime.engines.attach import AttachEngine
from runtime.engines.launch_records import LaunchRecord, LaunchRecords
from runtime.engines.local import LocalEngine
from runtime.engines.observation import merge
from runtime.engines.protocol import Completion, Engine, HostSetup
from runtime.engines.ray.engine import RayEngine
from runtime.engines.recognition import FleetMark, unrecorded
from runtime.engines.remote.box import MEMORIES
from runtime.engines.remote.connection import connection_to
from runtime.engines.remote.engine import SshEngine
from runtime.engines.remote.units import has_units
from runtime.extensions import load, make, unusable, words_of
from runtime.files import normal_path
from runtime.processes import raise_file_limit
from runtime.secrets import read_secret, secret_unreadable
from runtime.state_folder import STORE, StoreView
from runtime.trust import load_trust

Answer = TypeVar("Answer")
OBSERVE_TIMEOUT_S: Final = 60.0
"""Upper bound of an observation by an extension. Seconds."""
NEEDED: Final = (
    "observe", "close", "check_start", "start", "stop", "load", "unload", "keep_for_restart",
    "complete",
)  # fmt: skip
"""Methods of an engine."""


def extension_engine(setup: HostSetup) -> "ExtensionEngine":
    """Return the engine of a host whose engine fleetctl does not ship.

    Where the package cannot be used, all servers that the host may have are unknown, and every
    call says why.
    """
    name, package = setup.host.engine, setup.host.package
    try:
        made = make("engines", name, package, NEEDED, lambda factory: factory(setup))
    except FleetError as error:
        return ExtensionEngine(setup, EngineRejectedError(*error.diagnostics))
    return ExtensionEngine(setup, made)


class ExtensionEngine:
    """Passes calls to an engine; what the engine raises besides `EngineError`s is made one."""

    def __init__(self, setup: HostSetup, engine: Engine | EngineError) -> None:
        """Prepare; an error in the place of the engine is the answer to every call."""
        self._setup = setup
        self._engine = engine

    async def observe(self, only: str = "") -> State:
        """Return the engine's state; where it fails, every server that may be there is unknown."""
        try:
            async with asyncio.timeout(OBSERVE_TIMEOUT_S):
                return await self._guarded(self._made().observe(only))
        except EngineError as error:
            why = "; ".join(problem.detail for problem in error.diagnostics)
        except TimeoutError:
            why = f"its engine gave no answer within {OBSERVE_TIMEOUT_S:g} s"
        host = self._setup.host
        devices = [device.name for device in (*host.devices, *host.left)]
        bases = self._setup.bases
        names = (server_name(base, host.name, device) for base in bases for device in devices)
        unknown = {name: why for name in sorted(names) if only in {"", name}}
        return State(unknown_servers=unknown, notes=(f"Host {host.name}: {why}",))

    async def check_start(self, server: Server) -> None:
        """Refuse a start that cannot succeed."""
        await self._guarded(self._made().check_start(server))

    async def start(self, server: Server) -> None:
        """Start a server and return once the server answers."""
        await self._guarded(self._made().start(server))

    async def stop(self, server: str) -> None:
        """Stop a server."""
        await self._guarded(self._made().stop(server))

    async def load(self, server: str, adapter: str, source: str) -> None:
        """Load an adapter from a folder of this machine."""
        await self._guarded(self._made().load(server, adapter, source))

    async def unload(self, server: str, adapter: str) -> None:
        """Unload an adapter."""
        await self._guarded(self._made().unload(server, adapter))

    async def keep_for_restart(self, live: State, kept: Collection[Address]) -> None:
        """Let a restart bring back the adapters that are kept; an unusable engine is passed by."""
        if not isinstance(self._engine, EngineError):
            await self._guarded(self._engine.keep_for_restart(live, kept))

    async def complete(
        self, server: str, model: str, prompt: str, max_tokens: int = 64
    ) -> Completion:
        """Return the greedy answer to a text."""
        return await self._guarded(self._made().complete(server, model, prompt, max_tokens))

    async def close(self) -> None:
        """Release connections; servers go on running."""
        if not isinstance(self._engine, EngineError):
            await self._guarded(self._engine.close())

    def _made(self) -> Engine:
        if isinstance(self._engine, EngineError):
            raise self._engine
        return self._engine

    async def _guarded(self, call: Awaitable[Answer]) -> Answer:
        """Await a call.

        Raises:
            EngineError: FC1343, the extension has raised another error.
        """
        try:
            return await call
        except (EngineError, TimeoutError):
            raise
        except Exception as error:
            host = self._setup.host
            found = unusable(host.engine, host.package, f"it failed: {words_of(error)}")
            raise EngineError(*found.diagnostics) from error


@dataclass(eq=False)
class HandoverEngine:
    """Starts servers by the declared supervisor; finds and stops those of the other too.

    A server of the other supervisor differs from the plan's by its `supervisor`, so that the plan
    replaces the server: stops it where it runs, and starts it anew.
    """

    declared: Engine
    other: Engine
    _by_other: frozenset[str] | None = field(default=None, init=False)
    """Servers of the other supervisor; None: not observed yet."""

    async def observe(self, only: str = "") -> State:
        """Return the servers of both supervisors."""
        seen, other = await asyncio.gather(self.declared.observe(only), self.other.observe(only))
        if not only:
            self._by_other = frozenset(other.servers()) | other.unknown_servers.keys()
        return merge(seen, other)

    async def check_start(self, server: Server) -> None:
        """Refuse a start that cannot succeed, by the declared supervisor."""
        await self.declared.check_start(server)

    async def start(self, server: Server) -> None:
        """Start a server by the declared supervisor, after a stop by the other supervisor."""
        await self.other.stop(server.name)
        self._by_other = (self._by_other or frozenset()) - {server.name}
        await self.declared.start(server)

    async def stop(self, server: str) -> None:
        """Stop a server of either supervisor."""
        await asyncio.gather(self.declared.stop(server), self.other.stop(server))

    async def load(self, server: str, adapter: str, source: str) -> None:
        """Load an adapter from a folder."""
        await (await self._of(server)).load(server, adapter, source)

    async def unload(self, server: str, adapter: str) -> None:
        """Unload an adapter; an absent one is fine."""
        await (await self._of(server)).unload(server, adapter)

    async def keep_for_restart(self, live: State, kept: Collection[Address]) -> None:
        """Let a restart bring back the live adapters that are kept, and no others."""
        await self.declared.keep_for_restart(live, kept)

    async def complete(
        self, server: str, model: str, prompt: str, max_tokens: int = 64
    ) -> Completion:
        """Return the greedy answer to a text."""
        return await (await self._of(server)).complete(server, model, prompt, max_tokens)

    async def close(self) -> None:
        """Release connections; servers go on running."""
        await asyncio.gather(self.declared.close(), self.other.close())

    async def _of(self, server: str) -> Engine:
        if self._by_other is None:
            await self.observe()
        return self.other if server in (self._by_other or ()) else self.declared


def make_engine(setup: HostSetup) -> Engine:
    """Return the engine of a host. No server is contacted or started."""
    if setup.host.package:
        return extension_engine(setup)
    engine: Engine = load("engines", setup.host.engine)(setup)
    return engine


def attach_engine(setup: HostSetup) -> Engine:
    """Return the engine of servers that others run."""
    return AttachEngine(setup.host, setup.state_dir / STORE, root=setup.root)


def ssh_engine(setup: HostSetup) -> Engine:
    """Return the engine of a host that is reached by SSH."""
    raise_file_limit()  # a round has 5 files open for every host
    return _units(setup, setup.host)


def ray_engine(setup: HostSetup) -> Engine:
    """Return the engine of a node of a Ray cluster."""
    raise_file_limit()
    return RayEngine.of(setup, _secret(setup))


def process_engine(setup: HostSetup) -> Engine:
    """Return the engine of this machine, real or fake; its servers may be units of systemd."""
    host, folder, secret = setup.host, Path(normal_path(setup.root)), _secret(setup)
    records = LaunchRecords(setup.state_dir / "servers")

    def command(server: Server, drawn: str) -> tuple[tuple[str, ...], dict[str, str]]:
        model = folder / server.flags.model if server.flags else folder
        fake = host.engine == "fake"
        python = sys.executable if fake else _interpreter(host, folder)
        allowed = load_trust().code.get(host.name, ())
        launch = launch_of(
            server,
            host,
            python=python,
            model=str(model) if model.is_dir() else "",
            launch=drawn,
            adapters=adapters_path(records.folder, server.name, python, fake=fake),
            allowed=allowed,
        )
        assert launch is not None, "local and fake hosts start their servers"
        named = (name for name in allowed if name.isupper())
        environment = {**inherited(os.environ, named), **launch.environment}
        # Modules that lie in the project must not shadow those of the server.
        environment["PYTHONSAFEPATH"] = "1"
        if fake:
            environment["PYTHONPATH"] = str(Path(runtime.__file__).parent.parent)
        environment |= _mark(setup).variables if setup.fleet_name else {}
        if secret is None:
            raise secret_unreadable()
        if secret:
            environment[SERVER_KEY] = server_key(secret, server.name, launch.launch)
        return launch.arguments, environment

    starts = host.engine == "local" and host.python
    processes = LocalEngine(
        host, records, folder, command, StoreView(setup.state_dir / STORE), _mark(setup),
        secret or "",
        (host.python, _interpreter(host, folder)) if starts else ("", ""),
    )  # fmt: skip
    if not has_units(host):
        return processes
    python = _interpreter(host, folder)
    by_units = replace(
        host, python=which(python) or python, supervisor=host.supervisor or "systemd"
    )
    supervised = _units(setup, by_units)
    both = (supervised, processes) if host.supervisor else (processes, supervised)
    return HandoverEngine(*both)


def _units(setup: HostSetup, host: HostSpec) -> SshEngine:
    memory = setup.state_dir / MEMORIES / f"{host.name}.json"
    known = setup.bases if host.engine == "ssh" else ()  # units here run or do not
    own = setup.direct if host.fetch else None
    return SshEngine(
        host, connection_to(host), Path(normal_path(setup.root)), setup.state_dir / STORE, memory,
        _mark(setup), _secret(setup), known, setup.report, own,
    )  # fmt: skip


def _mark(setup: HostSetup) -> FleetMark:
    return FleetMark(setup.fleet_name, setup.fleet_id)


def _secret(setup: HostSetup) -> str | None:
    return read_secret(setup.root, setup.servers_secret) if setup.servers_secret else ""


def write_missing_records(
    hosts: Iterable[HostSpec], root: Path, state_dir: Path, fleet_name: str
) -> tuple[LaunchRecord, ...]:
    """Write the missing launch records of servers that run here; return the records."""
    records = LaunchRecords(state_dir / "servers")
    written = list(records.lost())
    for host in hosts:
        if host.engine in ("local", "fake"):
            known = (*records.all(), *written)
            ports = {record.port for record in known if record.leader() is not None}
            mark = FleetMark(fleet_name)
            found = unrecorded(host, records, Path(normal_path(root)), mark, ports)
            written += (record for record, elsewhere in found if not elsewhere)
    for record in written:
        records.write(record)
    return tuple(written)


def _interpreter(host: HostSpec, root: Path) -> str:
    """Return the interpreter that has vLLM; links stay, because they name the environment."""
    if not host.python:
        detail = f"Host `{host.name}` says not which interpreter has vLLM."
        hint = "Set `python` of the host, such as `.venv-vllm/bin/python`."
        raise EngineError.of(
            "FC4018",
            "A server cannot be started",
            detail,
            hint=hint,
            command="fleetctl vllm install",
        )
    if os.sep not in host.python:
        return host.python
    return normal_path(root / host.python)
