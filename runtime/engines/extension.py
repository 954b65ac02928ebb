"""Guards the engine of an extension: its faults are of its own host alone."""

import asyncio
from collections.abc import Awaitable, Collection
from typing import Final, TypeVar

from fleet.errors import EngineError, EngineRejectedError, FleetError
from fleet.names import Address, server_name
from fleet.resources import Server, State
from runtime.engines.protocol import Completion, Engine, HostSetup
from runtime.extensions import make, unusable, words_of

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
