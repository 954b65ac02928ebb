"""Decides which versions, served copies and eval answers may be deleted, and why others stay.

A file is deleted last. Before that a version is out of every route, answers no request, is
listed by no server, and will be loaded by no plan: what a plan unloads is still kept here.

A verdict is recomputed from the counts in the ledger, for ever. The answers behind the counts,
which people read and `fleetctl evidence verify` compares with their digest, stay as long as the
version is in the library.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from fleet.decoding import operation_result
from fleet.evals import AFTER_TRAINING, EvalRecord, eval_records
from fleet.history import Entry, GateJudged, History, is_out
from fleet.names import AdapterName
from fleet.resources import LoadedAdapter, State
from fleet.spec import LEAST_KEPT, AdapterSpec, FleetSpec

UNRECORDED = timedelta(days=1)
"""How long an evaluation that no entry names may be under way, or wait for its gate."""


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """The answers of one evaluation, and what is to become of them."""

    name: str
    """Id of the run."""
    needed: bool
    why: str


def kept_answers(
    stored: Mapping[str, datetime],
    entries: Sequence[Entry],
    locked: Collection[str],
    now: datetime,
    keep: timedelta,
) -> tuple[KeptAnswers, ...]:
    """Decide which answers may be deleted.

    Args:
        stored: By run: when its file was written.
        entries: The ledger.
        locked: Full names of the versions in the library.
        now: The time.
        keep: How long all answers stay.
    """
    past = eval_records(entries)
    known = {record.run: record.at for runs in past.values() for record in runs}
    behind = _behind_verdicts(entries, locked)
    marks = {run: why for runs in past.values() for run, why in _marks(runs, locked)}

    def why(run: str, at: datetime) -> str:
        if run not in known:
            return "no entry names it yet" if now - at < UNRECORDED else ""
        if now - known[run] < keep:
            return f"younger than {keep.days} days"
        return behind.get(run) or marks.get(run) or ""

    found = ((run, why(run, at)) for run, at in sorted(stored.items()))
    return tuple(
        KeptAnswers(run, bool(text), text or "nothing is judged or compared by it any more")
        for run, text in found
    )


def _behind_verdicts(entries: Iterable[Entry], locked: Collection[str]) -> dict[str, str]:
    return {
        run: f"a verdict on {event.adapter} is computed from it"
        for event in (entry.event for entry in entries)
        if isinstance(event, GateJudged) and event.adapter in locked
        for run in event.runs
    }


def _marks(runs: Sequence[EvalRecord], locked: Collection[str]) -> Iterable[tuple[str, str]]:
    """Yield the runs that later evaluations of an alias are compared with, and why they stay."""
    latest: dict[str, str] = {}
    first: dict[tuple[str, str, str], EvalRecord] = {}
    for record in runs:
        if not record.valid or record.adapter not in locked:
            continue
        if record.purpose in AFTER_TRAINING:
            asked = json.dumps(record.summary.get("decoding"), sort_keys=True)
            first.setdefault((record.adapter, record.golden_digest, asked), record)
        if record.purpose == "anchor":
            latest[record.adapter] = record.run
    for adapter, run in latest.items():
        yield run, f"the last anchor run of {adapter}"
    for record in first.values():
        yield record.run, f"what {record.adapter} answered after its training"


@dataclass(frozen=True, slots=True)
class RetentionDecision:
    """One version of the library or one served copy, and what is to become of it."""

    name: str
    """Full name of a version; digest of a copy."""
    needed: bool
    why: str


@dataclass(frozen=True, slots=True)
class RetainedVersions:
    """What stands in the library and in the store, sorted, each with its reason."""

    versions: tuple[RetentionDecision, ...]
    copies: tuple[RetentionDecision, ...]


def retained(
    fleet: FleetSpec,
    live: State,
    history: History,
    now: datetime,
    *,
    copies: Collection[str],
    busy: Mapping[str, int],
) -> RetainedVersions:
    """Decide which versions and copies may be deleted.

    Args:
        fleet: What is declared; `versions` are those of the lock.
        live: What was observed. Where a server or the routes are unknown, everything is needed.
        history: The ledger, folded.
        now: The time; replaced versions stay for as long as their rollout retains them.
        copies: Digests of the copies that servers load from.
        busy: Requests in flight by full name.
    """
    unknown = _unknown(live)
    uses = _uses(live, history, busy)
    serving = {s.adapter for route in live.routes().values() for s in route.shares if s.percent}
    versions = tuple(
        RetentionDecision(name, bool(why), why or "older than the earlier versions that are kept")
        for names in _by_alias(fleet)
        for name, own in _of_alias(fleet, names, history, now, serving).items()
        for why in [unknown or _use(uses, name, fleet.versions[name].digest) or own]
    )
    wanted = {
        facts.digest: f"{name} is declared"
        for adapter in fleet.adapters.values()
        if (facts := fleet.versions.get(name := str(adapter.name)))
    }
    return RetainedVersions(
        tuple(sorted(versions, key=lambda version: version.name)),
        tuple(
            RetentionDecision(digest, bool(why), why or "no server lists it and none will load it")
            for digest in sorted(copies)
            for why in [unknown or uses.get(digest) or wanted.get(digest) or ""]
        ),
    )


def _unknown(live: State) -> str:
    if live.unknown_servers:
        return f"nobody knows what {', '.join(sorted(live.unknown_servers))} holds"
    return "nobody knows what the routes are" if live.routes_unknown else ""


def _uses(live: State, history: History, busy: Mapping[str, int]) -> dict[str, str]:
    """Return the use of versions, by full name and by digest; the strongest reason stays."""
    found: dict[str, str] = {}
    for adapter in history.established.values():
        if isinstance(adapter, LoadedAdapter):
            found |= _both(adapter, f"the last apply left it on {adapter.server}")
    for step in history.unfinished.values():
        _, after = operation_result(step.operation)
        if isinstance(after, LoadedAdapter):
            found |= _both(after, f"a run that was killed may have loaded it on {after.server}")
    for adapter in live.adapters().values():
        found |= _both(adapter, f"{adapter.server} lists it; an apply unloads what is not wanted")
    for alias, route in live.routes().items():
        found |= {share.adapter: f"the route of {alias} names it" for share in route.shares}
    answering = "{} requests are in flight"
    return found | {name: answering.format(count) for name, count in busy.items() if count}


def _both(adapter: LoadedAdapter, why: str) -> dict[str, str]:
    # What was loaded from elsewhere, such as the library itself, is known by its path's end.
    end = adapter.path.rstrip("/").split("/")[-2:]
    return {text: why for text in (adapter.adapter, adapter.digest, end[-1], "/".join(end)) if text}


def _use(uses: Mapping[str, str], name: str, digest: str) -> str:
    """Return the use of a version, by its name, its bytes or its folder; empty: unused."""
    parsed = AdapterName.parse(name)
    folder = f"{parsed.client}/{parsed.task}-v{parsed.version}"
    return uses.get(name) or uses.get(digest) or uses.get(folder) or ""


def _by_alias(fleet: FleetSpec) -> Iterator[list[AdapterName]]:
    names = sorted(map(AdapterName.parse, fleet.versions))
    for _, group in groupby(names, key=lambda name: name.alias):
        yield list(group)


def _of_alias(
    fleet: FleetSpec,
    names: list[AdapterName],
    history: History,
    now: datetime,
    serving: Collection[str],
) -> dict[str, str]:
    """Return why versions of an alias are kept, newest first; empty: may be deleted.

    Earlier versions are those before the declared one that do not answer: while a rollout is
    under way, what it may be taken back to has as many before it as it had.
    """
    declared = fleet.adapters.get(names[0].alias)
    ordered = sorted(names, key=lambda named: (named.version, named.base), reverse=True)
    if declared is None:
        return {str(named): "its alias is not declared" for named in ordered}
    proven = _proven(fleet, declared, ordered, history)
    keep = max(fleet.keep_versions, LEAST_KEPT)
    retain = fleet.rollouts[declared.rollout].retain
    found: dict[str, str] = {}
    earlier = 0
    for named in ordered:
        name = str(named)
        found[name] = _own_reason(declared, named) or _resting(name, history, retain, now)
        if named.version >= declared.version or earlier >= keep:
            continue
        counts = f"one of {keep} earlier versions" if name in proven else ""
        found[name] = found[name] or counts or f"not {keep} newer ones have proven themselves"
        earlier += name in proven and name not in serving
    return found


def _proven(
    fleet: FleetSpec, declared: AdapterSpec, ordered: list[AdapterName], history: History
) -> frozenset[str]:
    """Return the earlier versions that count as something to go back to.

    Those that once had all traffic and were not taken out. Where the ledger knows none such,
    for it was begun later, all that were not taken out.
    """
    known = fleet.versions
    good = frozenset(
        name
        for named in ordered
        if named.version < declared.version
        for name in [str(named)]
        if not is_out(history, known, declared.alias, name, known[name].digest)
    )
    return good & history.answered_all or good


def _own_reason(declared: AdapterSpec, name: AdapterName) -> str:
    if name == declared.name:
        return "it is declared"
    return f"not older than {declared.version}" if name.version >= declared.version else ""


def _resting(name: str, history: History, retain: timedelta, now: datetime) -> str:
    since = history.cutovers.get(name)
    if since is None or now - since >= retain:
        return ""
    return f"replaced at {since:%Y-%m-%d %H:%M} UTC, kept until {since + retain:%Y-%m-%d %H:%M}"
