"""Engines, gateways and a ledger in memory, which keep their contracts and can be made to die.

Every effect passes a trap before and after it happens. A trap may raise: a `Killed`, as when
the process dies there, or an engine error after the effect, as when an answer is lost.
"""

import asyncio
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleet.errors import EngineRejectedError, problem
from fleet.history import LedgerEvent
from fleet.history.fold import fold_entries, settled
from fleet.history.values import History
from fleet.names import Address
from fleet.plan import Plan
from fleet.planning.pipeline import make_plan
from fleet.resources import LoadedAdapter, Resource, Server, State
from fleet.spec import FleetSpec
from fleet.steps import ApplyEvent
from runtime.engines.protocol import Completion
from runtime.execute.context import ExecutionContext, Timings
from runtime.execute.outcome import ApplyOutcome
from runtime.execute.run import execute
from runtime.ledger.file import FileLedger
from runtime.observe import observe
from tests.runtime.execute.memory_gateways import MemoryGateways, Trap, UnsafeError

SECRET = "a-secret-of-a-test"
LIKE_ITS_BASE = "What does a base say?"
"""A question that every adapter answers as its base does."""
FINGERPRINT = hashlib.sha256(hashlib.sha256(SECRET.encode()).hexdigest().encode()).hexdigest()[:12]


class Killed(BaseException):
    """The process ends here."""


@dataclass
class MemoryEngine:
    """The servers of one host."""

    host: str
    trap: Trap
    gateways: MemoryGateways
    servers: dict[str, Server] = field(default_factory=dict)
    paths: dict[tuple[str, str], str] = field(default_factory=dict)
    """By server and adapter."""
    boots: dict[str, int] = field(default_factory=dict)
    shows_launches: bool = True
    """False: as attached servers, which have boots alone."""
    silent: set[str] = field(default_factory=set)
    mute: set[str] = field(default_factory=set)
    """Adapters that answer nothing."""
    observed: int = 0  # servers, with every look at them

    async def observe(self, only: str = "") -> State:
        self.observed += 1 if only else len(self.servers)
        resources: dict[Address, Resource] = {}
        for name, server in self.servers.items():
            if name not in self.silent:
                resources[server.address] = server
        for (server_name, adapter), path in self.paths.items():
            if server_name not in self.silent:
                last = path.rpartition("/")[2]
                digest = last if len(last) == 64 else None
                loaded = LoadedAdapter(adapter, server_name, digest, path)
                resources[loaded.address] = loaded
        up = [each for each in self.servers if each not in self.silent]
        return State(
            resources=dict(sorted(resources.items())),
            unknown_servers=dict.fromkeys(sorted(self.silent), "it does not answer"),
            boots={each: f"boot-{self.boots[each]}" for each in up},
            launches={each: f"launch-{self.boots[each]}" for each in up if self.shows_launches},
            urls={each: f"http://127.0.0.1:{self.servers[each].port}" for each in up},
        )

    async def check_start(self, server: Server) -> None:
        self.trap(f"check start {server.name}")

    async def start(self, server: Server) -> None:
        self.trap(f"before start {server.name}")
        if self.servers.get(server.name, server) != server:
            raise EngineRejectedError(
                problem("T", "It runs with other flags", server.name), status=409
            )
        if server.name not in self.servers:
            self.servers[server.name] = server
            self.boots[server.name] = self.boots.get(server.name, 0) + 1
        self.trap(f"after start {server.name}")

    async def stop(self, server: str) -> None:
        self.trap(f"before stop {server}")
        self.lose(server)
        self.servers.pop(server, None)
        self.trap(f"after stop {server}")

    async def load(self, server: str, adapter: str, source: str) -> None:
        self.trap(f"before load {adapter}@{server}")
        if server not in self.servers:
            raise EngineRejectedError(problem("T", "The server does not run", server), status=503)
        if self.paths.setdefault((server, adapter), source) != source:
            raise EngineRejectedError(problem("T", "Loaded from another path", adapter), status=400)
        self.gateways.passed.discard((adapter, server))
        await asyncio.sleep(0)
        self.trap(f"after load {adapter}@{server}")

    async def unload(self, server: str, adapter: str) -> None:
        self.trap(f"before unload {adapter}@{server}")
        if (adapter, server) in self.gateways.serving():
            raise UnsafeError(f"{adapter}@{server} has traffic and was to be unloaded")
        self.paths.pop((server, adapter), None)
        self.trap(f"after unload {adapter}@{server}")

    async def complete(
        self, server: str, model: str, prompt: str, max_tokens: int = 64
    ) -> Completion:
        self.trap(f"ask {model}@{server}")
        base = self.servers[server].base if server in self.servers else ""
        if model == base:
            return Completion(LIKE_ITS_BASE.upper(), model, "", 1)
        if (server, model) not in self.paths:
            raise EngineRejectedError(problem("T", "No such model", model), status=404)
        if model in self.mute:
            return Completion(" ", model, "", 1)
        self.gateways.passed.add((model, server))
        return Completion(prompt.upper()[:max_tokens], model, "", 1)

    async def keep_for_restart(self, live: State, kept: Collection[Address]) -> None:
        """A restart loses everything here."""

    async def close(self) -> None: ...

    def lose(self, server: str) -> None:
        """Forget a server's adapters, as its process does when it ends."""
        self.paths = {each: path for each, path in self.paths.items() if each[0] != server}
        self.gateways.passed = {each for each in self.gateways.passed if each[1] != server}

    def crash(self, server: str) -> None:
        """End a server's process."""
        self.lose(server)
        del self.servers[server]


class TrappedLedger(FileLedger):
    """The real ledger; dying before or after an append is dying there."""

    trap: Trap

    def append(self, events: Sequence[LedgerEvent], token: int = 0) -> int:
        names = ", ".join(f"{event.kind} {getattr(event, 'step', '')}" for event in events)
        self.trap(f"before append {names}")
        last = super().append(events, token)
        self.trap(f"after append {names}")
        return last


class Bench:
    """A fleet in memory, and runs on it."""

    def __init__(self, folder: Path, hosts: Sequence[str] = ("laptop",)) -> None:
        self.now = datetime(2026, 3, 2, 12, tzinfo=UTC)
        self.passed: list[str] = []  # every trap that was passed, in order
        self.fault: Callable[[int, str], BaseException | None] = lambda _number, _label: None
        self.gateways = MemoryGateways(self._trap)
        self.engines = {name: MemoryEngine(name, self._trap, self.gateways) for name in hosts}
        self.folder = folder
        self.events: list[ApplyEvent] = []
        self.runs = 0
        self.timings = Timings(drain_poll=0.0, refresh=1e9, heartbeat=60)
        self.secrets: dict[str, str] = {"env:KEY": SECRET}

    def _trap(self, label: str) -> None:
        self.passed.append(label)
        if error := self.fault(len(self.passed) - 1, label):
            raise error

    def ledger(self) -> TrappedLedger:
        self.runs += 1
        run = f"run{self.runs}"
        made = TrappedLedger(self.folder, run=run, by="tester", clock=lambda: self.now)
        made.trap = self._trap
        return made

    def history(self) -> History:
        return fold_entries(self.ledger().read())

    async def observe(self) -> State:
        return await observe(self.engines, self.gateways)

    async def plan(self, fleet: FleetSpec, live: State | None = None) -> Plan:
        live = live or await self.observe()
        return make_plan(fleet, live, settled(self.history(), live), self.now)

    def world(self, **changes: Any) -> ExecutionContext:
        fields: dict[str, Any] = {
            "engines": self.engines,
            "gateways": self.gateways,
            "ledger": self.ledger(),
            "publish": lambda _adapter, digest: Path("/store") / digest,
            "secret": self.secrets.get,
            "holder": "tester",
            "timings": self.timings,
        }
        return ExecutionContext(**{**fields, **changes})

    async def apply(
        self, fleet: FleetSpec, *, plan: Plan | None = None, stop: asyncio.Event | None = None,
        heeds_freeze: bool = True, **changes: Any,
    ) -> ApplyOutcome:  # fmt: skip
        """Plan, unless a plan is given, and carry it out."""
        made = plan or await self.plan(fleet)

        def replan(live: State) -> Plan:
            return make_plan(fleet, live, settled(self.history(), live), self.now)

        return await execute(
            made,
            self.world(**changes),
            self.events.append,
            stop=stop or asyncio.Event(),
            replan=replan,
            heeds_freeze=heeds_freeze,
        )

    def server(self, name: str) -> MemoryEngine:
        """Return the engine that has a server."""
        return next(each for each in self.engines.values() if name in each.servers)

    def shares(self, alias: str) -> Mapping[str, int]:
        """Return an alias's versions and percents."""
        shares = self.gateways.table.aliases[alias].shares
        return {each.adapter.rpartition("-v")[2]: each.percent for each in shares}

    @contextmanager
    def faults(self, fault: Callable[[int, str], BaseException | None]) -> Iterator[None]:
        """Let traps raise; numbers count from 0 at the start of the block."""
        self.passed.clear()
        self.fault = fault
        try:
            yield
        finally:
            self.fault = lambda _number, _label: None
