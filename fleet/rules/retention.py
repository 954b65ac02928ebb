"""Decides which versions, served copies and eval answers may be deleted, and why others stay.

A file is deleted last. Before that a version is out of every route, answers no request, is
listed by no server, and will be loaded by no plan: a version that a plan unloads is still kept.

The counts in the ledger, from which a verdict is recomputed, stay for ever. The answers behind the
counts, which people read and `fleetctl evidence verify` compares with their digest, stay as long
as the version is in the library.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from fleet.codec import operation_result
from fleet.evals import AFTER_TRAINING, EvalRecord, eval_records
from fleet.history import Entry, GateVerdict, History, blocks_on
from fleet.names import AdapterName
from fleet.resources import LoadedAdapter, State
from fleet.spec import LEAST_KEPT, AdapterSpec, FleetSpec

UNRECORDED = timedelta(days=1)
"""Upper bound of the time that an evaluation without an entry runs, or waits for its gate."""


@dataclass(frozen=True, slots=True)
class RetentionDecision:
    """A version of the library, a served copy, or answers of an evaluation: kept or deleted."""

    name: str
    """Full name of a version; digest of a copy; id of a run."""
    needed: bool
    why: str


def kept_answers(
    stored: Mapping[str, datetime],
    entries: Sequence[Entry],
    locked: Collection[str],
    now: datetime,
    keep: timedelta,
) -> tuple[RetentionDecision, ...]:
    """Decide which answers may be deleted: not those younger than `keep`.

    `stored` has, by run, the time at which its file was written, and `locked` the full names of
    the versions in the library.
    """
    past = eval_records(entries)
    known = {record.run: record.at for runs in past.values() for record in runs}
    uses = {run: why for runs in past.values() for run, why in _compared(runs, locked)}
    uses |= {
        run: f"a verdict on {event.adapter} is computed from it"
        for event in (entry.event for entry in entries)
        if isinstance(event, GateVerdict) and event.adapter in locked
        for run in event.runs
    }

    def why(run: str, at: datetime) -> str:
        if run not in known:
            return "no entry names it yet" if now - at < UNRECORDED else ""
        return f"younger than {keep.days} days" if now - known[run] < keep else uses.get(run, "")

    return tuple(
        _decision(run, why(run, at), "nothing is judged or compared by it any more")
        for run, at in sorted(stored.items())
    )


def _decision(name: str, why: str, otherwise: str) -> RetentionDecision:
    return RetentionDecision(name, bool(why), why or otherwise)


def _compared(runs: Sequence[EvalRecord], locked: Collection[str]) -> Iterable[tuple[str, str]]:
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


_WHEN_ASKED = "loads it when asked, since its restart"


def retained(
    fleet: FleetSpec,
    live: State,
    history: History,
    now: datetime,
    *,
    copies: Collection[str],
    busy: Mapping[str, int],
) -> tuple[tuple[RetentionDecision, ...], tuple[RetentionDecision, ...]]:
    """Decide which versions and copies may be deleted; return both, sorted by name.

    Where a server or the routes are unknown, everything is needed. Replaced versions stay for as
    long as their rollout retains them. `copies` are digests of the copies that servers load from,
    `busy` the requests in flight by full name.
    """
    unknown = _unknown(live)
    uses = _uses(live, history, busy)
    serving = {s.adapter for route in live.routes().values() for s in route.shares if s.percent}
    names = sorted(map(AdapterName.parse, fleet.versions))
    versions = [
        _decision(
            name,
            unknown or _use(uses, name, fleet.versions[name].digest) or own,
            "older than the earlier versions that are kept",
        )
        for _, group in groupby(names, key=lambda name: name.alias)
        for name, own in _of_alias(fleet, [*group], history, now, serving).items()
    ]
    wanted = {
        facts.digest: f"{name} is declared"
        for adapter in fleet.adapters.values()
        if (facts := fleet.versions.get(name := str(adapter.name)))
    }
    listed = {
        adapter.path.rstrip("/").rpartition("/")[2]: f"{adapter.server} {how}"
        for adapters, how in ((live.resolvable, _WHEN_ASKED), (live.adapters(), "lists it"))
        for adapter in adapters.values()
    }
    newest = {copy.partition("-")[0]: copy for copy in sorted(copies, key=_age)}

    def why(copy: str) -> str:
        digest = copy.partition("-")[0]
        if unknown or copy in listed or newest[digest] != copy:
            return unknown or listed.get(copy, "")
        return uses.get(digest) or wanted.get(digest, "")

    return (
        tuple(sorted(versions, key=lambda version: version.name)),
        tuple(
            _decision(copy, why(copy), "no server lists it and none will load it")
            for copy in sorted(copies)
        ),
    )


def _age(copy: str) -> tuple[int, str]:
    """Sort the copies of a digest: `<digest>`, then those at fresh paths, `<digest>-<n>`."""
    return len(copy), copy


def _unknown(live: State) -> str:
    if live.unknown_servers:
        return f"the versions on {', '.join(sorted(live.unknown_servers))} are not known"
    return "the routes are not known" if live.routes_unknown else ""


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
    for adapter in live.resolvable.values():
        found |= _both(adapter, f"{adapter.server} {_WHEN_ASKED}")
    for adapter in live.adapters().values():
        found |= _both(adapter, f"{adapter.server} lists it; an apply unloads what is not wanted")
    for alias, route in live.routes().items():
        found |= {share.adapter: f"the route of {alias} names it" for share in route.shares}
    return found | {
        name: f"{count} requests are in flight" for name, count in busy.items() if count
    }


def _both(adapter: LoadedAdapter, why: str) -> dict[str, str]:
    # A version that was loaded from elsewhere, such as the library, is known by its path's end.
    end = adapter.path.rstrip("/").split("/")[-2:]
    return {text: why for text in (adapter.adapter, adapter.digest, end[-1], "/".join(end)) if text}


def _use(uses: Mapping[str, str], name: str, digest: str) -> str:
    """Return the use of a version, by its name, its bytes or its folder; empty: unused."""
    parsed = AdapterName.parse(name)
    folder = f"{parsed.client}/{parsed.task}-v{parsed.version}"
    return uses.get(name) or uses.get(digest) or uses.get(folder) or ""


def _of_alias(
    fleet: FleetSpec,
    names: list[AdapterName],
    history: History,
    now: datetime,
    serving: Collection[str],
) -> dict[str, str]:
    """Return why versions of an alias are kept, newest first; empty: may be deleted.

    Earlier versions are those before the declared version that do not answer: while a rollout is
    under way, the version that it may be taken back to keeps as many versions before it.
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
        if named.version >= declared.version:
            is_declared = named == declared.name
            found[name] = "it is declared" if is_declared else f"not older than {declared.version}"
            continue
        found[name] = _resting(name, history, retain, now)
        if earlier >= keep:
            continue
        counts = f"one of {keep} earlier versions" if name in proven else ""
        found[name] = found[name] or counts or f"not {keep} newer ones have proven themselves"
        earlier += name in proven and name not in serving
    return found


def _proven(
    fleet: FleetSpec, declared: AdapterSpec, ordered: list[AdapterName], history: History
) -> frozenset[str]:
    """Return the earlier versions that a rollback may go back to.

    Those are the versions that once had all traffic and are not blocked. Where the ledger, begun
    later, has no such version, they are all that are not blocked.
    """
    known = fleet.versions
    good = frozenset(
        name
        for name in (str(named) for named in ordered if named.version < declared.version)
        if not blocks_on(history, known, declared.alias, name, known[name].digest)
    )
    return good & history.answered_all or good


def _resting(name: str, history: History, retain: timedelta, now: datetime) -> str:
    since = history.cutovers.get(name)
    if since is None or now - since >= retain:
        return ""
    return f"replaced at {since:%Y-%m-%d %H:%M} UTC, kept until {since + retain:%Y-%m-%d %H:%M}"
