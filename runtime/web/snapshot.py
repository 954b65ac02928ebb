"""Read the fleet at an interval: all pages of all viewers show the same reading."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypeAlias

from fleet.alerting import Alert
from fleet.errors import Diagnostic, FleetError, problem_of
from fleet.placement import PlacementResult, SearchLimits, loss_outlook, placement_accounts
from fleet.plan import LossOutlook
from fleet.planning import DriftCause, desired_state_of
from fleet.resources import Route
from fleet.rollouts import RolloutStatus, decide_rollouts, rollout_statuses
from fleet.spec import FleetSpec
from runtime.messages import FailureMessage, Message
from runtime.operations.change.planning import as_far_as_valid, drift_causes, place_fleet
from runtime.operations.rounds.rounds import RoundParts
from runtime.operations.rounds.watch import read_alerts
from runtime.operations.watch.status import FleetStatus, observe_status
from runtime.web.access import revocations
from runtime.web.usage import UsageReading, read_usage
from runtime.workspace import Workspace

INTERVAL_S: Final = 5.0
"""Time between the end of a reading and the next. Seconds."""
LEAST_PAUSE: Final = 4
"""Lower bound of the time between readings, in durations of a reading: a large fleet costs a part
of a core alone."""
MakeHosts: TypeAlias = Callable[
    [FleetSpec, PlacementResult, Iterable[str], Mapping[str, int]], Sequence[Mapping[str, Any]]
]
"""Makes the devices by host; takes silent servers and the live percent by full adapter name."""


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """A reading of declarations, servers, gateways and ledger."""

    fleet: FleetSpec
    status: FleetStatus
    rollouts: Mapping[str, RolloutStatus]
    hosts: Sequence[Mapping[str, Any]]
    """Devices by host with their servers and adapters; empty: no alias can be placed."""
    causes: tuple[DriftCause, ...]
    usage: UsageReading
    routes: Mapping[str, Route]
    """The live routes by alias."""
    alerts: tuple[Alert, ...]
    """Alerts of the last round of `watch`."""
    revoked: Mapping[str, int]
    """Number of revocations of the dashboard's tokens, by client."""
    at: datetime
    left_out: tuple[str, ...] = ()
    """The notes of the placement: aliases that have no place."""
    notes: tuple[str, ...] = ()
    """Messages of the reading, such as problems of the declarations."""
    loss: LossOutlook | None = None
    """Whether any single device can be lost; None: not placed, or there is one device at most."""
    problem: str = ""
    """Why a later reading failed; empty: this is the latest."""


def read_fleet(
    workspace: Workspace, make_hosts: MakeHosts, before: FleetSnapshot | None
) -> FleetSnapshot:
    """Return a reading of the fleet; an unchanged fleet is not placed again. Blocks.

    Raises:
        FleetError: the declarations are broken in `fleet.yaml`, or the ledger was never read.
    """
    notes: list[str] = []

    def note(message: Message | FailureMessage) -> None:
        match message:
            case Message(text):
                notes.append(text)
            case FailureMessage(diagnostics):
                notes.extend(map(_line, diagnostics))

    fresh, _ = as_far_as_valid(replace(workspace, emit=note))
    fleet, status, now = fresh.project.fleet(), observe_status(fresh, None), fresh.now()
    live = status.live
    wanted = decide_rollouts(fleet, live, status.history, now).wanted
    routes = live.routes()
    rollouts = rollout_statuses(fleet, wanted, status.history, routes)
    hosts: Sequence[Mapping[str, Any]] = ()
    loss: LossOutlook | None = None
    causes: tuple[DriftCause, ...] = ()
    parts = RoundParts(note)
    already = len(notes)
    if before and (fleet, live, rollouts) == (before.fleet, before.status.live, before.rollouts):
        hosts, loss = before.hosts, before.loss
        notes.extend(before.left_out)
    else:
        with parts.part("the map of devices"):
            placed = place_fleet(fresh, live, SearchLimits())
            shares = {
                share.adapter: share.percent for route in routes.values() for share in route.shares
            }
            hosts = make_hosts(placed.fleet, placed.placement, live.unknown_servers, shares)
            loss = loss_outlook(
                placed.fleet,
                placed.wanted,
                replace(
                    desired_state_of(placed.fleet, placed.wanted, placed.placement, live),
                    unknown_servers=live.unknown_servers,
                ),
                placement_accounts(placed.fleet, placed.placement).values(),
            )
    left_out = tuple(notes[already:])
    with parts.part("the causes of drift"):
        causes = drift_causes(fresh, live, status.history, status.standing)
    usage = read_usage(workspace.state_dir, now, before.usage if before else None)
    if usage.problem:
        notes.append(f"usage is not up to date: {usage.problem}")
    return FleetSnapshot(
        fleet=fleet,
        status=status,
        rollouts=rollouts,
        hosts=hosts,
        loss=loss,
        left_out=left_out,
        causes=causes,
        usage=usage,
        alerts=read_alerts(workspace.state_dir),
        routes=routes,
        revoked=revocations(status.entries),
        at=now,
        notes=tuple(dict.fromkeys(notes)),
    )


def _line(problem: Diagnostic) -> str:
    place = f"{problem.place}: " if problem.place else ""
    return f"{place}{problem.summary} [{problem.code}]: {problem.detail}"


class SnapshotReader:
    """Keeps the latest reading; where a reading fails, the one before stays with the reason."""

    def __init__(self, read: Callable[[FleetSnapshot | None], FleetSnapshot]) -> None:
        """Read nothing yet; `read` makes a reading from the one before, and blocks."""
        self._reading = read
        self._latest: FleetSnapshot | None = None
        self._wanted, self._read = asyncio.Event(), asyncio.Event()
        self._problem = ""

    async def run(self) -> None:
        """Read at the interval, and at once after `refresh`, until cancelled."""
        while True:
            self._wanted.clear()
            began = time.monotonic()
            try:
                self._latest = await asyncio.to_thread(self._reading, self._latest)
                self._problem = ""
            except Exception as error:  # noqa: BLE001 (the next reading may succeed)
                self._problem = _line(problem_of(error).diagnostics[0])
                if self._latest is not None:
                    self._latest = replace(self._latest, problem=self._problem)
            self._read.set()
            with suppress(TimeoutError):
                pause = max(INTERVAL_S, LEAST_PAUSE * (time.monotonic() - began))
                await asyncio.wait_for(self._wanted.wait(), pause)

    async def latest(self) -> FleetSnapshot:
        """Return the latest reading; wait for the first.

        Raises:
            FleetError: FC6110, no reading has succeeded yet.
        """
        await self._read.wait()
        if self._latest is None:
            raise FleetError.of(
                "FC6110",
                "The fleet could not be read yet",
                self._problem,
                command="fleetctl status",
            )
        return self._latest

    async def refresh(self) -> None:
        """Read again, and wait for the reading."""
        self._read.clear()
        self._wanted.set()
        await self._read.wait()
