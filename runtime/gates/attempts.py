"""Finds when an attempt with a new version began, by the entries of the ledger."""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from itertools import takewhile

from fleet.codec import operation_result
from fleet.gates import Beliefs, Counts, Finding, believed_of
from fleet.history import SKEW, Entry, GateJudged, Released, RolledBack, StepStarted
from fleet.names import route_address
from fleet.resources import Route
from fleet.rollouts import GateTrial


def before_the_future(since: datetime, entries: Iterable[Entry], now: datetime) -> datetime | None:
    """Return the time of the last entry before the first of the future; None: not needed."""
    if since - now <= SKEW:
        return None
    past = [entry.time for entry in takewhile(lambda entry: entry.time <= now, entries)]
    return past[-1] if past else None


def began(trial: GateTrial, entries: Iterable[Entry]) -> datetime:
    """Return when traffic first reached the new version, by the first evidence of this attempt.

    Evidence from before the version lost all of its traffic, or was released, or beside another
    old version, is of an attempt that has ended: since then the old version has been usual.
    """
    stages: list[datetime] = []
    for entry in entries:
        if _ends(entry, trial):
            stages.clear()
        elif isinstance(event := entry.event, GateJudged) and event.percent:
            about = event.alias, event.adapter, event.stable
            if about == (trial.alias, trial.adapter, trial.stable):
                stages.append(event.since or entry.time)
    return min([*stages, *([trial.since] if trial.since else [])])


def beliefs_before(
    trial: GateTrial, entries: Iterable[Entry], start: datetime
) -> dict[str, Beliefs]:
    """Return the beliefs about users by earlier findings about other aliases, by metric.

    Findings count from before the rollout alone, so that all looks believe the same.
    """
    newest = {
        (event.alias, event.gate): event.finding
        for entry in entries
        if isinstance(event := entry.event, GateJudged)
        and event.alias != trial.alias
        and entry.time < start
        and "alike" in event.finding.get("counts", ())
    }
    found: dict[str, list[Counts]] = defaultdict(list)
    for document in newest.values():
        with suppress(ValueError):  # which `check_evidence` says
            finding = Finding.of(document)
            found[finding.metric].append(finding.counts)
    return {metric: believed_of(others) for metric, others in found.items()}


def beliefs_recorded(event: GateJudged) -> dict[str, Beliefs]:
    """Return the beliefs that a finding counted by, by metric."""
    finding = Finding.of(event.finding)
    found = {
        name: counted
        for name in Beliefs._fields
        if isinstance(counted := finding.counts.get(f"believed_{name}"), float)
    }
    return {finding.metric: Beliefs(**found)} if found else {}


def _ends(entry: Entry, trial: GateTrial) -> bool:
    """Say whether an entry ends an attempt with the new version."""
    match entry.event:
        case RolledBack(alias=trial.alias, to=to):
            return to != trial.adapter
        case Released(alias=trial.alias, adapter=adapter):
            return adapter in (None, trial.adapter)
        case StepStarted(address=address, operation=operation) if address == route_address(
            trial.alias
        ):
            _, route = operation_result(operation)
            shares = route.shares if isinstance(route, Route) else ()
            return not any(share.adapter == trial.adapter and share.percent for share in shares)
        case _:
            return False
