"""What a command works with: the project, its state folder, and the effects wired up."""

import asyncio
import getpass
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING
from uuid import uuid4

from fleet.history import History
from fleet.resources import Server, State
from fleet.spec import FleetSpec

if TYPE_CHECKING:  # each is imported where it is used, so that small commands start fast
    from fleet.placement import SearchLimits
    from fleet.plan import Plan
    from fleet.planning import BestEffort
    from runtime.engines.protocol import Engine
    from runtime.gateway.envoy.admin import Envoys
    from runtime.gateway.protocol import Gateways
    from runtime.ledger.fallback import FallbackLedger, LedgerSnapshot
    from runtime.ledger.outbox import LedgerOutbox
    from runtime.ledger.protocol import Ledger
    from runtime.ledger.replica import LedgerReplica


@dataclass
class Session:
    """One run of the command line. Everything is made when first asked for."""

    root: Path
    environment: str | None
    variables: Mapping[str, str]
    state_dir: Path
    run: str = field(default_factory=lambda: uuid4().hex[:12])
    """Id of this run, on every ledger entry it writes."""
    given: FleetSpec | None = None
    """Taken for what is declared; None: the files are read."""
    hung: list[Thread] = field(default_factory=list)
    """Readings of the ledger that have not ended; copies of a session share the list."""
    _delivered: bool = field(default=False, init=False)

    @cached_property
    def by(self) -> str:
        """Who runs this: the CI job's actor, or user and host."""
        actor = os.environ.get("GITHUB_ACTOR") or os.environ.get("GITLAB_USER_LOGIN")
        return actor or f"{getpass.getuser()}@{socket.gethostname()}"

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC)

    @cached_property
    def _fleet(self) -> FleetSpec:
        from runtime.project.load import load_fleet  # noqa: PLC0415

        if self.given is not None:
            return self.given
        return load_fleet(self.root, self.environment, self.variables, self.state_dir)

    def fleet(self) -> FleetSpec:
        """Return the declared fleet; raises `ConfigError` with every problem."""
        return self._fleet

    @cached_property
    def _ledger(self) -> "FallbackLedger":
        from runtime.ledger import open_ledger  # noqa: PLC0415
        from runtime.ledger.fallback import FallbackLedger  # noqa: PLC0415

        found = open_ledger(self.state_dir, run=self.run, by=self.by, clock=self.now)
        return FallbackLedger(found, self.mirror, self.hung)

    @property
    def mirror(self) -> "LedgerReplica":
        """What was last read of the ledger."""
        import click  # noqa: PLC0415

        from runtime.ledger.replica import LedgerReplica  # noqa: PLC0415

        return LedgerReplica(self.state_dir, lambda line: click.echo(f"Warning: {line}", err=True))

    def last_known(self) -> "LedgerSnapshot":
        """Return the ledger, or where its home cannot be read what is known of it here.

        Raises:
            FleetError: its home cannot be read, and nothing is known of it.
        """
        from runtime.ledger.fallback import last_known  # noqa: PLC0415

        return last_known(self.ledger, self.mirror, self.queue)

    def _deliver(self, ledger: "Ledger") -> None:
        """Write down what a rollback had to leave queued, before anything is planned without it."""
        if self._delivered or not self.queue.is_dir():
            return
        self._delivered = True  # first, for it may hang
        from fleet.errors import FleetError  # noqa: PLC0415
        from runtime.ledger.outbox import deliver  # noqa: PLC0415

        with suppress(FleetError, OSError):  # whoever needs the ledger is told by itself
            deliver(self.queue, ledger)

    @property
    def queue(self) -> Path:
        """Where entries wait for a ledger that does not answer."""
        from runtime.ledger.outbox import FOLDER  # noqa: PLC0415

        return self.state_dir / FOLDER

    def scribe(self, limit_s: float | None = None, down: str = "") -> "LedgerOutbox":
        """Return what writes to the ledger without waiting for a home that hangs.

        Args:
            limit_s: How long it may take for an entry; None: as long as a rollback has time for.
            down: Why its home is known to be away; empty: it is not.
        """
        from runtime.deadline import LIMIT_S  # noqa: PLC0415
        from runtime.ledger.outbox import LedgerOutbox  # noqa: PLC0415

        return LedgerOutbox(self.ledger, self.queue, self.by, self.run, limit_s or LIMIT_S, down)

    def is_ledger_lost(self) -> bool:
        """Say whether the ledger's home is empty and was not."""
        return self._ledger.is_lost()

    def ledger(self) -> "Ledger":
        """Return the ledger of this fleet."""
        self._deliver(self._ledger)
        return self._ledger

    def history(self) -> History:
        """Return the ledger folded into what planning needs."""
        from fleet.history import fold_entries  # noqa: PLC0415

        return fold_entries(self.ledger().read())

    @property
    def library(self) -> Path:
        """The adapter library's folder."""
        from runtime.project.load import library_folder  # noqa: PLC0415

        return library_folder(self.root)

    def engines(self) -> "dict[str, Engine]":
        """Return an engine for each declared host, by host name."""
        from runtime.engines.registry import make_engine  # noqa: PLC0415

        return {
            name: make_engine(host, self.root, self.state_dir, self.fleet().name)
            for name, host in self.fleet().hosts.items()
        }

    def gateways(self) -> "Gateways":
        """Return all gateways of the fleet as one."""
        from runtime.gateway.control import LocalGateways  # noqa: PLC0415

        return LocalGateways(self.state_dir, self.fleet().gateways, self.envoys())

    def envoys(self) -> "Envoys":
        """Return how the files of gateways that are Envoys are made."""
        from fleetctl.envoys import envoys_of  # noqa: PLC0415

        return envoys_of(self.root)

    @asynccontextmanager
    async def connected(self) -> "AsyncIterator[tuple[dict[str, Engine], Gateways]]":
        """Give engines and gateways, and release their connections at the end."""
        engines, gateways = self.engines(), self.gateways()
        try:
            yield engines, gateways
        finally:
            await asyncio.gather(*(each.close() for each in engines.values()), gateways.close())

    async def observe_now(self) -> State:
        """Ask every server and gateway what it holds."""
        from runtime.observe import observe  # noqa: PLC0415

        async with self.connected() as (engines, gateways):
            return await observe(engines, gateways)

    def observe(self) -> State:
        """Ask every server and gateway what it holds (for synchronous callers)."""
        return asyncio.run(self.observe_now())

    def plan(
        self,
        live: State | None = None,
        fleet: FleetSpec | None = None,
        search: "SearchLimits | None" = None,
    ) -> "Plan":
        """Make the plan from what is declared, live (observed unless given) and past.

        A fleet may be given in place of the declared one, to see what it would mean.
        """
        from fleet.history import settled  # noqa: PLC0415
        from fleet.planning import USUAL, make_plan  # noqa: PLC0415

        wanted = self.fleet() if fleet is None else fleet
        state = self.observe() if live is None else live
        return make_plan(wanted, state, settled(self.history(), state), self.now(), search or USUAL)

    def plan_rest(
        self, live: State, search: "SearchLimits | None" = None
    ) -> "tuple[Plan, BestEffort] | None":
        """Plan without the aliases that find no place; None where not even that fits."""
        from fleet.history import settled  # noqa: PLC0415
        from fleet.planning import USUAL, best_effort, make_plan  # noqa: PLC0415

        hard, now = search or USUAL, self.now()
        rest = best_effort(self.fleet(), live, settled(self.history(), live), now, hard)
        if rest is None:
            return None
        return make_plan(rest.fleet, live, rest.history, now, hard), rest

    def desired_servers(self) -> tuple[Server, ...]:
        """Return the servers that the fleet should have, with their flags."""
        from fleet.planning import desired_state  # noqa: PLC0415

        state = desired_state(self.fleet(), self.observe(), self.history(), self.now())
        return tuple(state.servers().values())

    def close(self) -> None:
        """Nothing to release: connections live no longer than the call that needs them."""
