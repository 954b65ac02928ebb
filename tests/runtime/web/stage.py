"""A dashboard over a made reading of the quickstart fleet: no server runs."""

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from fleet.alerting import Alert, AlertPhase, AlertRule
from fleet.costing import FleetTerms, Terms
from fleet.history import (
    ApplyFinished,
    ApplyStarted,
    CostTermsChanged,
    Entry,
    History,
    LedgerEvent,
    RolloutMarked,
    StepFinished,
    StepStarted,
    fold_entries,
)
from fleet.placement import SearchLimits, place
from fleet.planning import desired_state
from fleet.policies import MICRO, IdleRule
from fleet.resources import Route, Share, State
from fleet.rollouts import decide_rollouts, rollout_statuses
from fleet.usage import OfClient, Operator, Sketch, UsageCell, UsageFigures
from fleetctl.commands.dashboard import make_dashboard
from fleetctl.wiring import open_workspace
from plans.dashboard import hosts
from runtime.ledger import open_ledger
from runtime.operations.watch.status import FleetStatus
from runtime.web.access import Grant, TokenKind, TrustedProxy, revocations
from runtime.web.app import CLIENT_COOKIE, OPERATOR_COOKIE, Dashboard
from runtime.web.snapshot import FleetSnapshot, SnapshotReader
from runtime.web.usage import UsageReading
from runtime.workspace import Workspace
from tests.fleet.costing.worlds import NOON, client, leases, resident, server
from tests.fleetctl.project_on_disk import QUICKSTART, by_time_alone

BASE = "http://127.0.0.1:8090"
PERSON = "mara@agency-secret-host"
SERVER = "tiny-laptop-cpu0"
OLD, NEW = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0"


class WorkspaceAtNoon(Workspace):
    """A workspace whose clock stands still."""

    def now(self) -> datetime:
        return NOON


def project(folder: Path) -> Workspace:
    """Return the workspace of a copy of the quickstart fleet, in which acme has a rollout."""
    leave = shutil.ignore_patterns(".fleetctl", "training", "v2.4.0")
    shutil.copytree(QUICKSTART, folder, ignore=leave)
    by_time_alone(folder)
    acme = folder / "clients" / "acme.yaml"
    acme.write_text(acme.read_text("utf-8").replace('"2.1.0"', '"2.2.0"'), "utf-8")
    its = open_workspace(folder, "fake", {}, folder / ".fleetctl")
    made = WorkspaceAtNoon(
        its.root, its.environment, its.variables, its.state_dir, its.emit, its.render_notice,
        its.make_envoys,
    )  # fmt: skip
    terms = Terms(
        FleetTerms("EUR", "UTC", IdleRule.RESERVED, 0),
        leases(1_500_000, "laptop/cpu0"),
        {SERVER: server(resident("acme", 50), resident("birch", 50), devices=("laptop/cpu0",))},
        {
            "acme": client(2000 * MICRO),
            "birch": client(1777 * MICRO, promises={"birch-units": 2000}),
        },
    )
    ledger = open_ledger(its.state_dir, "run0", PERSON, lambda: NOON - timedelta(hours=5))
    ledger.append([CostTermsChanged(terms.documents())])
    return made


def reading(
    workspace: Workspace, events: tuple[LedgerEvent, ...] = (), silent: Mapping[str, str] = {}
) -> FleetSnapshot:
    """Return a reading in which 2.2.0 of acme-support has 10 % of the requests."""
    fleet, now = workspace.project.fleet(), NOON
    live = desired_state(fleet, State(), History(), now)
    route = live.routes()["acme-support"]
    shares = (Share(NEW, 10, (SERVER,)), Share(OLD, 90, (SERVER,)))
    split: Route = replace(route, shares=shares)
    live = replace(live, resources={**live.resources, route.address: split})
    live = replace(live, unknown_servers=dict(silent))
    steps: tuple[LedgerEvent, ...] = (
        ApplyStarted(plan_id="0123456789abcdef", fleet="quickstart", trigger="apply", steps=1),
        StepStarted(step="1", address="route/acme-support", operation={"route": {"shares": [
            {"adapter": NEW, "percent": 10}, {"adapter": OLD, "percent": 90}]}}),
        StepFinished(step="1", address="route/acme-support"),
        ApplyFinished(plan_id="0123456789abcdef", result="converged"),
        RolloutMarked("acme-support", NEW, "hold", "the launch"),
    )  # fmt: skip
    routes = live.routes()
    percent = {part.adapter: part.percent for its in routes.values() for part in its.shares}
    entries = [
        Entry(number, now - timedelta(minutes=50 - number), event, "run1", PERSON, 1, "", "")
        for number, event in enumerate((*steps, *events), 1)
    ]
    history = fold_entries(entries)
    wanted = decide_rollouts(fleet, live, history, now)
    alert = Alert(
        AlertRule.SLOW, "birch-units", 3.0, 2.0, now, "fleetctl why birch-units",
        phase=AlertPhase.FIRING,
    )  # fmt: skip
    return FleetSnapshot(
        fleet=fleet,
        status=FleetStatus(live, history, entries, entries, Counter({("acme-support", NEW): 7})),
        rollouts=rollout_statuses(fleet, wanted.wanted, history, live.routes()),
        hosts=hosts(fleet, place(fleet, wanted, live, SearchLimits()), silent, percent),
        causes=(),
        usage=usage(now),
        alerts=(alert,),
        routes=routes,
        revoked=revocations(entries),
        at=now,
    )


def usage(now: datetime) -> UsageReading:
    """Return a day in which acme-support and birch-units were asked in the present hour."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    times = Sketch.of_values([0.5] * 95 + [3.0] * 5)
    figures = UsageFigures(requests=101, errors=1, input_tokens=1000, latency=times)
    cells = tuple(
        UsageCell(hour, figures, client=alias.partition("-")[0], alias=alias)
        for alias in ("acme-support", "birch-units")
    )
    return UsageReading.of(hour - timedelta(hours=23), cells)


@dataclass(frozen=True)
class Http:
    """Asks the application in this process; keeps no cookie."""

    runner: asyncio.Runner
    client: httpx.AsyncClient

    def request(self, method: str, path: str, **its: Any) -> httpx.Response:
        answer = self.runner.run(self.client.request(method, path, **its))
        self.client.cookies.clear()
        return answer

    def get(self, path: str, **its: Any) -> httpx.Response:
        return self.request("GET", path, **its)

    def post(self, path: str, **its: Any) -> httpx.Response:
        return self.request("POST", path, **its)


@dataclass(frozen=True)
class Viewer:
    """A browser or a program that asks the dashboard."""

    pages: Dashboard
    http: Http

    def token(self, kind: TokenKind, who: str = "", generation: int = 0) -> str:
        scope = OfClient(who) if who else Operator()
        until = NOON + timedelta(hours=1)
        return self.pages.signer.make(kind, Grant(scope, PERSON, until, generation))

    def session(self, who: str = "") -> dict[str, str]:
        name = CLIENT_COOKIE if who else OPERATOR_COOKIE
        return {"cookie": f"{name}={self.token('session', who)}"}

    def bearer(self, who: str = "") -> dict[str, str]:
        return {"authorization": f"Bearer {self.token('token', who)}"}


@contextmanager
def viewing(
    workspace: Workspace,
    seen: FleetSnapshot,
    *,
    read_only: bool = False,
    proxy: TrustedProxy | None = None,
    read: Callable[[FleetSnapshot | None], FleetSnapshot] | None = None,
    breaks: str = "",
) -> Iterator[Viewer]:
    """Serve a reading, and yield a viewer without any access.

    `read`: makes the readings in the place of `seen`; `breaks`: the page whose template raises.
    """
    reader = SnapshotReader(read or (lambda _: seen))
    pages = make_dashboard(workspace, reader, proxy=proxy, read_only=read_only)
    sound = pages.render

    def render(page: str, values: Mapping[str, Any]) -> str:
        return sound(page, {} if page == breaks else values)

    pages = replace(pages, render=render)
    application = pages.application()
    asker = httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url=BASE)
    with asyncio.Runner() as runner:
        lifespan = application.router.lifespan_context(application)
        runner.run(lifespan.__aenter__())
        yield Viewer(pages, Http(runner, asker))
        runner.run(lifespan.__aexit__(None, None, None))
