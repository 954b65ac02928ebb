"""A fleet whose servers live in this process, and the faults that may happen to the fleet.

Planner, executor, ledger, library, store, drift and reconcile are the product's own. Servers are
the fake vLLM's own application, called without a network, so that thousands of steps take minutes.
"""

import asyncio
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fleet.errors import FleetError
from fleet.history import settled
from fleet.names import AdapterName
from fleet.planning import DriftCause, classify_drift
from fleet.spec import FleetSpec
from runtime.execute.outcome import ApplyOutcome
from runtime.fake_vllm.weights import (
    read_weights,
)
from runtime.gateway.admin.state_dir import read_table
from runtime.gateway.table.table import RoutingTable
from runtime.library.add import add
from runtime.library.layout import folder_digest, version_folder
from runtime.library.served_copies import damaged
from runtime.messages import FailureMessage, Message
from runtime.operations.change.apply import execute_plan
from runtime.operations.change.planning import observe_copies, plan_fleet
from runtime.operations.rollouts.drills import release_versions
from runtime.operations.rollouts.rollback import roll_back
from runtime.operations.rounds.reconcile import Reconciler
from runtime.project.known_base import known_base
from runtime.rollback.rollback import RollbackRequest
from tests.runtime.execute.memory_gateways import serving
from tests.runtime.library import synthetic
from tests.runtime.operations.walk_engine import Host, Killed, WalkWorkspace

ALIASES = ("acme-support", "birch-faq", "corvid-dates")
NUMBERS = ("1.0.0", "1.1.0", "1.2.0")
FLEET = """\
fleet: walk
bases:
  tiny: {model: models/base/tiny, dtype: bfloat16, max_model_len: 512, kv_cache: 64MiB}
hosts:
  laptop:
    engine: fake
    devices:
      cpu0: {kind: cpu, memory: 6GiB, price_per_hour: 0, port: 18211}
      cpu1: {kind: cpu, memory: 6GiB, price_per_hour: 0, port: 18212}
rollouts:
  quick: {weights: [20%, 100%], bake: 1h, retain: 1d, gates: []}
defaults: {rollout: quick}
"""
CLIENT = """\
clients:
  CLIENT:
    adapters:
      TASK:
        base: tiny
        version: "VERSION"
        replicas: REPLICAS
        smoke: [one, two, three, four, five]
        demand: {peak_rpm: 5}
"""


class World:
    """A project on disk, its servers, and the truth about every version's bytes."""

    def __init__(self, root: Path) -> None:
        self.root, self.state_dir = root, root / ".fleetctl"
        self.now = datetime(2026, 3, 2, 12, tzinfo=UTC)
        self.dies_at = self.passed = 0
        self.said: list[str] = []
        self.rejected: dict[str, set[str]] = {alias: set() for alias in ALIASES}
        """Versions that were rolled back from, by alias, until released."""
        self.declared = dict.fromkeys(ALIASES, NUMBERS[0])
        self.replicas = {**dict.fromkeys(ALIASES, 1), "acme-support": 2}
        self.truth: dict[str, tuple[str, str]] = {}
        """By version: digest of its folder, and the fake's digest of what it answers with."""
        self._fleets: dict[object, FleetSpec] = {}
        (root / "clients").mkdir(parents=True)
        (root / "fleet.yaml").write_text(FLEET, encoding="utf-8")
        synthetic.base(root / "models" / "base" / "tiny")
        self._declare()
        base = known_base(root, None, {}, "tiny")
        for seed, name in enumerate(self.names()):
            source = synthetic.adapter(root / "scratch" / name, seed=seed)
            add(source, AdapterName.parse(name), base, root / "models", root)
            folder = self.original(name)
            digest = folder_digest(folder)
            self.truth[name] = digest, read_weights(str(folder), 16).digest
        self.lock = (root / "fleet.lock").read_bytes()
        self.aside = root / "aside"
        shutil.copytree(root / "models" / "adapters", self.aside)
        self.host = Host(self.fleet().hosts["laptop"], self)

    def names(self) -> list[str]:
        return [f"{alias}-tiny-v{number}" for alias in ALIASES for number in NUMBERS]

    def original(self, name: str) -> Path:
        return version_folder(self.root / "models", AdapterName.parse(name))

    def _declare(self) -> None:
        for alias, number in self.declared.items():
            client, task = alias.split("-")
            text = CLIENT.replace("CLIENT", client).replace("TASK", task)
            text = text.replace("VERSION", number).replace("REPLICAS", str(self.replicas[alias]))
            (self.root / "clients" / f"{client}.yaml").write_text(text, encoding="utf-8")

    def declare(self, alias: str, number: str) -> None:
        """Ask for a version of an alias."""
        self.declared[alias] = number
        self._declare()

    def workspace(self, *, read: bool = False) -> WalkWorkspace:
        """Return the workspace of a new run; `read`: the files are read, not a kept fleet."""
        made = WalkWorkspace(
            self.root, None, {}, self.state_dir, self._hear, lambda *_: {}, lambda _: None  # type: ignore[arg-type,return-value]
        )  # fmt: skip
        made.world = self
        made.given = None if read else self.fleet()
        return made

    def _hear(self, message: Message | FailureMessage) -> None:
        if isinstance(message, Message):
            self.said.append(message.text)
        else:
            self.said += [f"{each.code} {each.detail}" for each in message.diagnostics]

    def fleet(self) -> FleetSpec:
        """Read the declared fleet; kept by the texts that it was read from."""
        file = self.root / "fleet.lock"
        key = (*self.declared.values(), file.read_bytes() if file.exists() else None)
        if key not in self._fleets:
            self._fleets[key] = self.workspace(read=True).project.fleet()
        return self._fleets[key]

    def pass_by(self, _: str) -> None:
        """Let a run die at the point that was drawn."""
        self.passed += 1
        if self.passed == self.dies_at:
            raise Killed

    def table(self) -> RoutingTable:
        return read_table(self.state_dir) or RoutingTable(revision=0)

    def serving(self) -> set[tuple[str, str]]:
        """Return every (version, server) that gets traffic."""
        return serving(self.table())

    # What people and jobs do.

    def run(self, work: Callable[[], Any]) -> int:
        """Run a command; return its exit code."""
        try:
            return int(work() or 0)
        except FleetError as error:
            self.said += [f"{each.code} {each.detail}" for each in error.diagnostics]
            return error.exit_code
        except OSError as error:
            self.said.append(f"OSError {error}")
            return 1

    def apply(self) -> int:
        async def body() -> int:
            workspace = self.workspace()
            plan = plan_fleet(workspace, await asyncio.to_thread(observe_copies, workspace))
            outcome = await execute_plan(
                workspace,
                plan,
                lambda _: None,
                stop=asyncio.Event(),
                trigger="apply",
                heeds_freeze=True,
            )
            self._told(outcome)
            return outcome.exit_code

        return self.run(lambda: asyncio.run(body()))

    def _told(self, outcome: ApplyOutcome) -> None:
        for step, result in outcome.results.items():
            if result.diagnostics:
                self.said.append(f"{step}: {result.diagnostics[0].detail}")

    def reconcile(self) -> int:
        rounds = Reconciler(lambda *_: lambda _: None, self._told)
        return self.run(lambda: asyncio.run(rounds.run(self.workspace(), None)))

    def rollback(self, alias: str) -> int:
        entry = self.table().aliases.get(alias)
        answering = {each.adapter for each in entry.shares if each.percent} if entry else set()

        def body() -> int:
            request = RollbackRequest(alias, None, "walk")
            result = asyncio.run(roll_back(self.workspace(), request, smoke=("hello",)))
            self.rejected[alias] |= answering - {result.target}
            self.rejected[alias].discard(result.target)
            return 0

        return self.run(body)

    def drift(self) -> tuple[DriftCause, ...]:
        workspace = self.workspace()
        live = workspace.machines.observe()
        copies = damaged(live.adapters().values(), self.state_dir / "store")
        return classify_drift(settled(workspace.ledger.history(), live), live, copies)

    def due(self) -> int:
        """Return how many changes a plan has."""
        workspace = self.workspace()
        return len(plan_fleet(workspace, observe_copies(workspace)).changes)

    @contextmanager
    def dying(self, at: int) -> Iterator[None]:
        """Let the run inside die at its nth effect."""
        self.passed, self.dies_at = 0, at
        try:
            yield
        except Killed:
            self.said.append("killed")
        finally:
            self.dies_at = 0

    @contextmanager
    def disk_full(self) -> Iterator[None]:
        """Let no file of this process grow inside."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def pass_time(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    def release(self, alias: str) -> int:
        def body() -> int:
            release_versions(self.workspace(), alias, None, "walk")
            self.rejected[alias].clear()
            return 0

        return self.run(body)

    def restore(self) -> None:
        """Put back what only people can: lock and library."""
        (self.root / "fleet.lock").write_bytes(self.lock)
