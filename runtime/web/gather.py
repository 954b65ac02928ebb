"""Gather the facts of an operator's pages from a reading of the fleet.

Every function takes the scope: an operator's page cannot be made for a client.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from fleet.alerting import AlertPhase
from fleet.errors import FleetError
from fleet.evals import EvalRecord, eval_records
from fleet.history import (
    ApplyFinished,
    ApplyStarted,
    Entry,
    LedgerEvent,
    StepFailed,
    StepFinished,
    StepStarted,
    deployments_of,
)
from fleet.names import AdapterName, version_of
from fleet.rollouts import Phase, RolloutStatus
from fleet.usage import Operator
from runtime.operations.rollouts.drills import drill_document
from runtime.operations.watch.traffic_facts import explain_alias
from runtime.usage.store import UsageStore
from runtime.web.facts import (
    AlertsPage,
    AliasRow,
    Document,
    Documents,
    DriftPage,
    FleetPage,
    Heading,
    ModelPage,
    ModelsPage,
    PlanPage,
    PlansPage,
    RolloutsPage,
    VersionShare,
)
from runtime.web.snapshot import FleetSnapshot

QUIET: Final = (Phase.COMPLETE, Phase.FIRST)
"""Phases without a rollout under way."""
STUCK: Final = (Phase.PAUSED, Phase.HELD, Phase.UNDECIDED, Phase.DOUBTED, Phase.EDITED)
"""Phases that wait for a person."""
AWAY: Final = ("down", "unknown")
"""States of an alias that no server is known to answer."""
OLD_S: Final = 60.0
"""Age above which a reading is shown as old. Seconds."""
MOST_ENTRIES: Final = 50
"""Upper bound of lines of the ledger on a page."""
MOST_EVALS: Final = 20
"""Upper bound of evaluations on a page."""


def heading(seen: FleetSnapshot, scope: Operator, now: datetime) -> Heading:  # noqa: ARG001 (a proof)
    """Return the head of a page."""
    age, freeze = (now - seen.at).total_seconds(), seen.status.history.freeze
    problem = seen.problem or seen.status.ledger_problem
    if not problem and age > OLD_S:
        problem = f"the fleet was last read {timedelta(seconds=round(age))} ago"
    return Heading(
        fleet=seen.fleet.name,
        as_of=seen.at.isoformat(timespec="minutes"),
        problem=problem,
        frozen=f"{freeze.by}: {freeze.reason}" if freeze else "",
        outages=len(seen.status.outages),
        alerts=sum(alert.stands for alert in seen.alerts),
        drift=len(seen.causes),
        notes=(*seen.notes, *seen.status.live.notes),
    )


def alias_rows(seen: FleetSnapshot, scope: Operator) -> tuple[AliasRow, ...]:  # noqa: ARG001 (same)
    """Return all aliases, declared or served, by name."""
    routes = seen.routes
    return tuple(_alias_row(seen, alias) for alias in sorted({*seen.fleet.adapters, *routes}))


def _alias_row(seen: FleetSnapshot, alias: str) -> AliasRow:
    status, spec = seen.status, seen.fleet.adapters.get(alias)
    route, rollout = seen.routes.get(alias), seen.rollouts.get(alias)
    shares = route.shares if route else ()
    state, note = _state(seen, alias, rollout)
    stage = status.history.stages.get(alias)
    name = spec.name if spec else AdapterName.parse(shares[0].adapter)
    usage = seen.usage.facts(alias)
    counted = len(shares) > 1 and any((alias, share.adapter) in status.requests for share in shares)
    return AliasRow(
        alias=alias,
        client=name.client,
        base=name.base,
        tier=spec.tier if spec else "",
        declared=str(spec.version) if spec else "",
        state=state,
        note=note,
        since=iso(stage.entered) if stage else None,
        promise_s=spec.slo_s if spec and spec.promised else None,
        versions=tuple(
            VersionShare(
                version_of(share.adapter),
                share.percent,
                status.requests[alias, share.adapter] if counted else None,
                share.servers,
            )
            for share in shares
        ),
        requests=usage.requests,
        errors=usage.errors,
        refused=usage.refused,
        p50_s=usage.p50_s,
        p95_s=usage.p95_s,
        p99_s=usage.p99_s,
    )


def _state(seen: FleetSnapshot, alias: str, rollout: RolloutStatus | None) -> tuple[str, str]:
    live = seen.status.live
    route = seen.routes.get(alias)
    if route is None:
        return ("unknown", live.routes_unknown) if live.routes_unknown else ("down", "no route")
    answering = {name for share in route.shares if share.percent for name in share.servers}
    if answering and answering <= {*live.unknown_servers}:
        return "unknown", f"{', '.join(sorted(answering))} does not answer"
    if rollout is None:
        return "serving", "served, and declared no more"
    target = rollout.target
    if target.phase in STUCK:
        return "waits", str(target.note or target.why)
    if target.phase in (*QUIET, Phase.SOAKING):
        return "serving", str(target.note or "")
    return "rollout", str(target.note or target.why)


def fleet_page(
    seen: FleetSnapshot, scope: Operator, make: Documents, now: datetime
) -> FleetPage:  # fmt: skip
    """Return the facts of the fleet page."""
    rows, live = alias_rows(seen, scope), seen.status.live
    hosts = seen.hosts
    used = [box for host in hosts for group in host["groups"] for box in group["boxes"]]
    states = [row.state for row in rows]
    asked = [row for row in rows if row.promise_s is not None and row.p95_s is not None]
    return FleetPage(
        heading=heading(seen, scope, now),
        totals={
            "aliases": len(rows),
            "serving": states.count("serving"),
            "rollouts": states.count("rollout"),
            "waiting": states.count("waits"),
            "away": sum(state in AWAY for state in states),
            "devices_used": len(used),
            "devices": len(used) + sum(len(host["idle"]) for host in hosts),
            "price_per_hour": round(sum(box["price_per_hour"] for box in used), 4),
            "requests": sum(row.requests for row in rows),
            "errors": sum(row.errors for row in rows),
            "promises": len(asked),
            "promises_kept": sum((row.p95_s or 0) <= (row.promise_s or 0) for row in asked),
            "servers": len(live.servers()),
            "servers_away": len(live.unknown_servers),
        },
        hosts=tuple(hosts),
        servers=_servers(seen),
        causes=tuple(map(make.cause, seen.status.outages)),
        aliases=rows,
    )


def _servers(seen: FleetSnapshot) -> tuple[Document, ...]:
    live = seen.status.live
    loaded = [adapter.server for adapter in live.adapters().values()]
    known: dict[str, Document] = {
        name: {"server": name, "state": "up", "adapters": loaded.count(name), "detail": ""}
        for name in live.servers()
    }
    away: dict[str, Document] = {
        name: {"server": name, "state": "unknown", "adapters": None, "detail": detail}
        for name, detail in live.unknown_servers.items()
    }
    return tuple(found for _, found in sorted({**known, **away}.items()))


def models_page(seen: FleetSnapshot, scope: Operator, now: datetime) -> ModelsPage:
    """Return the facts of the list of models."""
    return ModelsPage(heading(seen, scope, now), alias_rows(seen, scope))


def model_page(
    seen: FleetSnapshot, scope: Operator, make: Documents, now: datetime, alias: str
) -> ModelPage | None:
    """Return the facts of an alias; None: there is no such alias."""
    row = next((row for row in alias_rows(seen, scope) if row.alias == alias), None)
    if row is None:
        return None
    entries, rollout = seen.status.entries, seen.rollouts.get(alias)
    route = seen.routes.get(alias)
    versions = [_version(seen, share.adapter) for share in route.shares] if route else []
    return ModelPage(
        heading=heading(seen, scope, now),
        alias=row,
        rollout=make.rollout(seen.fleet, rollout) if rollout else {},
        usage=seen.usage.facts(alias),
        hours=seen.usage.hours(alias),
        versions=tuple(versions),
        evals=tuple(map(_evaluation, eval_records(entries).get(alias, ())[:-MOST_EVALS:-1])),
        events=tuple(
            _told(entry, make)
            for entry in newest(entries, lambda event: getattr(event, "alias", "") == alias)
        ),
    )


def _version(seen: FleetSnapshot, name: str) -> Document:
    facts, loaded = seen.fleet.versions.get(name), seen.status.live.adapters().values()
    events = deployments_of(seen.status.entries, AdapterName.parse(name))
    return {
        "version": version_of(name),
        "adapter": name,
        "digest": next((item.digest for item in loaded if item.adapter == name), None),
        "rank": facts.rank if facts else None,
        "bytes": facts.bytes if facts else None,
        "deployments": [
            {"at": iso(event.time), "by": event.by, "what": event.what} for event in events
        ],
    }


def _evaluation(record: EvalRecord) -> Document:
    return {
        "at": iso(record.at),
        "version": version_of(record.adapter),
        "purpose": record.purpose,
        "questions": record.summary.get("n"),
        "accuracy": record.summary.get("accuracy"),
        "counts": record.valid and not record.made_up,
    }


def _told(entry: Entry, make: Documents) -> Document:
    return {"at": iso(entry.time), "by": entry.by, "what": make.sentence(entry)}


def newest(entries: Sequence[Entry], fits: Callable[[LedgerEvent], bool]) -> list[Entry]:
    """Return the newest entries that fit, newest first."""
    return [entry for entry in reversed(entries) if fits(entry.event)][:MOST_ENTRIES]


def rollouts_page(
    seen: FleetSnapshot, scope: Operator, make: Documents, now: datetime
) -> RolloutsPage:
    """Return the facts of all rollouts under way."""
    under_way = [rollout for rollout in seen.rollouts.values() if rollout.target.phase not in QUIET]
    under_way.sort(key=lambda rollout: (rollout.target.phase not in STUCK, rollout.target.alias))
    documents = tuple(make.rollout(seen.fleet, rollout) for rollout in under_way)
    return RolloutsPage(heading(seen, scope, now), documents)


def alerts_page(seen: FleetSnapshot, scope: Operator, make: Documents, now: datetime) -> AlertsPage:
    """Return the facts of the alerts of the last round of `watch`."""
    ended = [alert for alert in seen.alerts if alert.phase is AlertPhase.RESOLVED]
    return AlertsPage(
        heading(seen, scope, now),
        tuple(make.alerts(seen.alerts)),
        tuple({"rule": end.rule, "subject": end.subject, "since": iso(end.since),
               "until": iso(end.until) if end.until else None} for end in ended),
    )  # fmt: skip


def drift_page(seen: FleetSnapshot, scope: Operator, make: Documents, now: datetime) -> DriftPage:
    """Return the facts of drift, and of work that is due."""
    return DriftPage(
        heading=heading(seen, scope, now),
        causes=tuple(map(make.cause, seen.causes)),
        retraining=tuple(seen.status.retraining),
        drills=tuple(map(drill_document, seen.status.drills)),
    )


def iso(moment: datetime) -> str:
    """Return a time as ISO 8601 to the second."""
    return moment.isoformat(timespec="seconds")


def plans_page(seen: FleetSnapshot, scope: Operator, now: datetime) -> PlansPage:
    """Return the facts of the newest applies."""
    starts = newest(seen.status.entries, lambda event: isinstance(event, ApplyStarted))
    ends = {
        entry.run: entry for entry in seen.status.entries if isinstance(entry.event, ApplyFinished)
    }
    return PlansPage(
        heading(seen, scope, now), tuple(_apply(entry, ends.get(entry.run)) for entry in starts)
    )


def _apply(start: Entry, end: Entry | None) -> Document:
    begun = start.event
    assert isinstance(begun, ApplyStarted)
    ended = end.event if end and isinstance(end.event, ApplyFinished) else None
    return {
        "run": start.run,
        "plan": begun.plan_id,
        "by": start.by,
        "trigger": begun.trigger,
        "commit": begun.commit,
        "at": iso(start.time),
        "seconds": (end.time - start.time).total_seconds() if end else None,
        "steps": begun.steps,
        "result": ended.result if ended else "not finished",
    }


def plan_page(seen: FleetSnapshot, scope: Operator, now: datetime, run: str) -> PlanPage | None:
    """Return the facts of an apply with its steps; None: there is no such run."""
    page = plans_page(seen, scope, now)
    found = next((apply for apply in page.applies if apply["run"] == run), None)
    if found is None:
        return None
    begun: dict[str, datetime] = {}
    steps: list[Document] = []
    for entry in seen.status.entries:
        if entry.run != run:
            continue
        match entry.event:
            case StepStarted(step=step):
                begun[step] = entry.time
            case StepFinished(step=step, address=address):
                steps.append(_step(step, address, begun.get(step), entry, ""))
            case StepFailed(step=step, address=address) as event:
                steps.append(
                    _step(step, address, begun.get(step), entry, f"{event.summary}: {event.detail}")
                )
            case _:
                pass
    return PlanPage(page.heading, found, tuple(steps))


def _step(step: str, address: str, begun: datetime | None, end: Entry, error: str) -> Document:
    return {
        "step": step,
        "address": address,
        "start": iso(begun or end.time),
        "end": iso(end.time),
        "error": error,
    }


SPANS: Final[Mapping[str, timedelta]] = {
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "48h": timedelta(hours=48),
    "7d": timedelta(days=7),
}
"""Times before now that the page looks at; the first unless asked for another."""


@dataclass(frozen=True, slots=True)
class WhyPage:
    """The page `/why/ALIAS`."""

    heading: Heading
    alias: str
    since: str
    spans: tuple[str, ...]
    problem: str
    """Why the causes are not known; empty: they are."""
    why: Document
    """The document of `fleetctl why` without its causes; empty: not known."""
    causes: tuple[Document, ...]


def why_page(
    seen: FleetSnapshot,
    scope: Operator,
    make: Documents,
    now: datetime,
    alias: str,
    since: str,
    state_dir: Path,
) -> WhyPage | None:
    """Return the likely causes of an alias that is worse; None: an alias not declared. Blocks.

    The rows are those that the last reading brought into the usage store.
    """
    if alias not in seen.fleet.adapters:
        return None
    chosen = since if since in SPANS else next(iter(SPANS))
    head, spans, entries = heading(seen, scope, now), (*SPANS,), seen.status.entries
    try:
        with closing(UsageStore(state_dir)) as store:
            found = explain_alias(store, seen.fleet, entries, alias, SPANS[chosen], now)
    except FleetError as error:
        return WhyPage(head, alias, chosen, spans, error.diagnostics[0].detail, {}, ())
    why = {**make.why(found)}
    causes = why.pop("causes")
    return WhyPage(head, alias, chosen, spans, "", why, tuple(causes))
