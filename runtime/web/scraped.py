"""Answer Prometheus: the fleet's figures, the counters of gateways, and where to find more."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from fleet.costing import Bill
from fleet.errors import FleetError
from fleet.evals import eval_records
from fleet.policies import MICRO
from fleet.traffic import LATENCY_BOUNDS_S
from fleet.usage import Operator
from runtime.gateway.admin.state_dir import known_gateways, read_table
from runtime.gateway.control.client import connect
from runtime.gateway.traffic.accounting import CONTENT_TYPE, in_families, labelled
from runtime.operations.rounds.watch import FILE as ALERTS_FILE
from runtime.operations.watch.costs import BillReader
from runtime.operations.watch.traffic_facts import projected_shares
from runtime.web.access import not_found
from runtime.web.gather import alias_rows
from runtime.web.snapshot import FleetSnapshot
from runtime.workspace import Workspace

HELP: Final = {
    "fleetctl_reading_timestamp_seconds": "Time of the last reading of the fleet and of alerts.",
    "fleetctl_alert": "1 for an alert that fires, as of the last round of `watch`.",
    "fleetctl_promise_seconds": "Promised p95, or the class's aim; `le`: the bucket of kept ones.",
    "fleetctl_alias_state": "1 for the present state of an alias.",
    "fleetctl_version_percent": "Share of a version in the requests of its alias.",
    "fleetctl_eval_accuracy": "Accuracy of the last evaluation that counts, 0 to 1.",
    "fleetctl_drift_causes": "Causes of drift.",
    "fleetctl_survives_device_loss": "1: all promises outlast the loss of any one device; 0: not.",
    "fleetctl_device_bytes": "Memory of a device by part, with the placement of the declarations.",
    "fleetctl_device_price_per_hour": "Price of a device.",
    "fleetctl_slots": "Slots for adapters of a server.",
    "fleetctl_cost": "Cost of the month so far; without a client: the operator's own.",
    "fleetctl_fee": "Fee of a client for a month.",
    "fleetctl_projected_cost_share": "Projected cost of the month as a part of the fee.",
}
_Sample = tuple[str, float, dict[str, str]]


@dataclass(frozen=True, slots=True)
class ScrapedPages:
    """The addresses that Prometheus asks."""

    workspace: Workspace
    bills: BillReader
    reading_for: Callable[[Request], Awaitable[FleetSnapshot | None]]
    """Returns the reading for an operator's request; None for others."""

    def routes(self) -> tuple[Route, ...]:
        """Return the routes."""
        return (
            Route("/metrics", self._fleet),
            Route("/metrics/{name}", self._gateway),
            Route("/targets/gateways", self._gateways),
            Route("/targets/servers", self._servers),
        )

    async def _fleet(self, request: Request) -> Response:
        seen = await self.reading_for(request)
        if seen is None:
            return not_found()
        bill = (await asyncio.to_thread(self.bills.read, "")).bill
        text = exposition(seen, Operator(), bill, self._watched())
        return Response(text.encode(), headers={"Content-Type": CONTENT_TYPE})

    def _watched(self) -> float | None:
        """Return the time of the last round of `watch`; None: there was none."""
        try:
            return (self.workspace.state_dir / ALERTS_FILE).stat().st_mtime
        except OSError:
            return None

    async def _gateway(self, request: Request) -> Response:
        """Pass the counters of a gateway on, whose admin side may be a socket."""
        seen, state_dir = await self.reading_for(request), self.workspace.state_dir
        gateways = {} if seen is None else seen.fleet.gateways or known_gateways(state_dir)
        gateway = gateways.get(request.path_params["name"])
        if gateway is None:
            return not_found()
        try:
            client = connect(state_dir, gateway, self.workspace.machines.envoys())
            try:
                text = await client.metrics()
            finally:
                await client.close()
        except FleetError as error:
            return PlainTextResponse(f"{error}\n", 503)
        return Response(text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _gateways(self, request: Request) -> Response:
        seen = await self.reading_for(request)
        if seen is None:
            return not_found()
        known = seen.fleet.gateways or known_gateways(self.workspace.state_dir)
        return JSONResponse(
            [
                _target(request.headers["host"], gateway=name, __metrics_path__=f"/metrics/{name}")
                for name in sorted(known)
            ]
        )

    async def _servers(self, request: Request) -> Response:
        if await self.reading_for(request) is None:
            return not_found()
        table = await asyncio.to_thread(read_table, self.workspace.state_dir)
        servers = sorted(table.servers.items()) if table else ()
        found = ((name, urlsplit(url)) for name, url in servers if url)
        return JSONResponse([_target(u.netloc, server=n, __scheme__=u.scheme) for n, u in found])


def _target(address: str, **labels: str) -> dict[str, Any]:
    return {"targets": [address], "labels": labels}


def exposition(
    seen: FleetSnapshot, scope: Operator, bill: Bill | None, watched: float | None
) -> str:
    """Return the figures of a reading as Prometheus reads them; `watched`: time of the alerts."""
    lines: dict[str, list[str]] = defaultdict(list)
    for family, value, labels in (
        *_of_fleet(seen, watched), *_of_aliases(seen, scope), *_of_devices(seen), *_of_costs(bill),
    ):  # fmt: skip
        lines[family].append(f"{family}{{{labelled(**labels)}}} {value!r}")
    return in_families({family: ("gauge", text) for family, text in HELP.items()}, lines)


def _of_fleet(seen: FleetSnapshot, watched: float | None) -> Iterator[_Sample]:
    yield "fleetctl_reading_timestamp_seconds", seen.at.timestamp(), {"reading": "fleet"}
    if watched is not None:
        yield "fleetctl_reading_timestamp_seconds", watched, {"reading": "alerts"}
    for alert in seen.alerts:
        if alert.stands:
            labels = {"rule": alert.rule.value, "subject": alert.subject}
            labels["severity"] = "page" if alert.urgent else "ticket"
            labels |= {"server": alert.servers[0]} if len(alert.servers) == 1 else {}
            yield "fleetctl_alert", 1, labels
    yield "fleetctl_drift_causes", len(seen.causes), {}
    if seen.loss and seen.loss.kept is not None:
        yield "fleetctl_survives_device_loss", int(seen.loss.kept), {}


def _of_aliases(seen: FleetSnapshot, scope: Operator) -> Iterator[_Sample]:
    evaluations = eval_records(seen.status.entries)
    has_envoy = any(gateway.kind == "envoy" for gateway in seen.fleet.gateways.values())
    for row in alias_rows(seen, scope):
        labels = {"client": row.client, "alias": row.alias}
        route = seen.routes.get(row.alias)
        shares = route.shares if route else ()
        servers = {name for share in shares if share.percent for name in share.servers}
        at = {"server": servers.pop()} if len(servers) == 1 else {}
        yield "fleetctl_alias_state", 1, {**labels, "state": row.state, **at}
        for share in shares:
            yield "fleetctl_version_percent", share.percent, {**labels, "version": share.adapter}
        spec = seen.fleet.adapters.get(row.alias)
        if spec and spec.aimed:
            # Where a gateway has no such bound, the next lower counts: what is surely kept.
            least = LATENCY_BOUNDS_S[0]
            routed = route.policy.promise_s if route and route.policy and not has_envoy else None
            bounds = (*LATENCY_BOUNDS_S, routed or least)
            kept = max((bound for bound in bounds if bound <= spec.slo_s), default=least)
            yield "fleetctl_promise_seconds", spec.slo_s, {**labels, "le": str(kept)}
        scores = [run for run in evaluations.get(row.alias, ()) if run.valid and not run.made_up]
        if scores and isinstance(accuracy := scores[-1].summary.get("accuracy"), int | float):
            yield "fleetctl_eval_accuracy", accuracy, labels


def _of_devices(seen: FleetSnapshot) -> Iterator[_Sample]:
    for group in (group for host in seen.hosts for group in host["groups"]):
        for box in group["boxes"]:
            device = {"device": box["device"]}
            yield "fleetctl_device_price_per_hour", box["price_per_hour"], device
            parts = Counter({("", "free"): box["free_bytes"]})
            for part in box["parts"]:
                parts[part["server"], part["name"]] += part["bytes"]
            for (holder, name), size in sorted(parts.items()):
                yield "fleetctl_device_bytes", size, {**device, "server": holder, "part": name}
        for panel in group["panels"]:
            server = {"server": panel["server"]}
            yield "fleetctl_slots", panel["empty"], {**server, "state": "free"}
            yield "fleetctl_slots", panel["slots"] - panel["empty"], {**server, "state": "used"}


def _of_costs(bill: Bill | None) -> Iterator[_Sample]:
    if bill is None:
        return
    sums = Counter[tuple[str, str]]()
    for line in bill.cost.lines:
        sums[line.client, line.kind.value] += line.micro
    currency = {"currency": bill.cost.currency}
    for (client, purpose), micro in sorted(sums.items()):
        labels = {"client": client, "purpose": purpose, **currency}
        yield "fleetctl_cost", micro / MICRO, labels
    for client, terms in bill.terms.clients.items():
        if terms.fee is not None:
            yield "fleetctl_fee", terms.fee / MICRO, {"client": client, **currency}
    for cost in projected_shares(bill):
        if cost.share is not None:
            yield "fleetctl_projected_cost_share", cost.share, {"client": cost.client}
