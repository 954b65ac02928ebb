"""Live gates: counts the usage rows of a stage in windows and judges them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from itertools import takewhile

from fleet.codec import operation_result
from fleet.gates import (
    BEFORE,
    HOUR,
    UNKNOWN,
    Baseline,
    Beliefs,
    CountedRows,
    Counts,
    Finding,
    UsageRow,
    Verdict,
    Whose,
    Window,
    Z,
    arms,
    baselines,
    believed_of,
    blameless,
    confidence,
    count_windows,
    digest_of_rows,
    end_of,
    in_order,
    judge_live,
    judge_soaking,
    neighbours,
    soaking,
    spared,
    with_usual,
)
from fleet.history import SKEW, Entry, GateJudged, Released, RolledBack, StepStarted
from fleet.names import route_address
from fleet.policies import GateSpec, RolloutPolicy
from fleet.resources import FULL, Route, State
from fleet.rollouts import GateTrial
from fleet.traffic import Sticky
from runtime.gates.evidence import JudgedGate, unjudged
from runtime.usage.read import UsageReader


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
    counts_by_metric: dict[str, list[Counts]] = defaultdict(list)
    for document in newest.values():
        with suppress(ValueError):  # which `check_evidence` says
            finding = Finding.of(document)
            counts_by_metric[finding.metric].append(finding.counts)
    return {metric: believed_of(counts) for metric, counts in counts_by_metric.items()}


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


WEEKS = timedelta(days=28)
"""Length of the time before a rollout in which users are their own control."""
WINDOWS_A_BAKE = 12
LEAST_WINDOW = timedelta(seconds=1)
AROUND = "neighbour_ratio"
Pasts = dict[tuple[str, str, datetime, tuple[GateSpec, ...]], Baseline]
"""Usual times and users before a rollout; a month of requests is not read at every look."""


def judge_traffic(
    trial: GateTrial,
    rollout: RolloutPolicy,
    live: State,
    entries: Sequence[Entry],
    usage: UsageReader,
    now: datetime,
    is_new: Callable[[JudgedGate], bool] = lambda _: True,
    pasts: Pasts | None = None,
) -> list[JudgedGate]:
    """Judge every live gate of a trial by all requests of its stage so far.

    Windows are an hour long, or a part of a short bake. `now`: the end of the last window. Requests
    that end later do not count, so that a recount finds the same rows: the rows of requests that
    ended before are written by now. `pasts`: keeps what is usual from one look to the next.

    A stage that a fast clock began in the future is judged by all requests since the last entry
    before that: they may fail the version, and pass nothing.

    `is_new`: says whether a finding is for the ledger, and names the rows that it counted.
    """
    if not trial.live:
        return []
    if trial.since is None:
        why = "the ledger does not say since when this stage lasts: fleetctl adopt"
        return [unjudged(trial, gate, why) for gate in trial.live]
    alone = not any(
        adapter.server in trial.servers and adapter.adapter not in (trial.adapter, trial.stable)
        for adapter in live.adapters().values()
    )
    early = before_the_future(trial.since, entries, now)
    start = min(began(trial, entries), early or now, now)
    stage = _Stage(
        trial,
        since=early or trial.since,
        began=start,
        now=now,
        length=min(HOUR, max(LEAST_WINDOW, rollout.bake / WINDOWS_A_BAKE)),
        serving=_serving(live),
        alone=alone,
        split=early is None,
        usage=usage,
        z=confidence(trial.percent, rollout.weights),
        longest=rollout.longest_bake / HOUR,
        pasts={} if pasts is None else pasts,
        beliefs=partial(beliefs_before, trial, entries, start),
    )
    verdicts = [JudgedGate(trial, stage.judge(gate), {}) for gate in stage.gates]
    if early is None:
        return [stage.bound(judged) if is_new(judged) else judged for judged in verdicts]
    why = f"by the clock here its stage begins in the future, at {trial.since:%Y-%m-%d %H:%M} UTC"
    return [
        judged if judged.failed else unjudged(trial, gate, why)
        for gate, judged in zip(stage.gates, verdicts, strict=True)
    ]


def count_again(
    gate: GateSpec, event: GateJudged, counted: CountedRows, rows: Sequence[UsageRow]
) -> Finding:
    """Judge an alias's rows by a gate as they were counted for a recorded finding."""
    trial = GateTrial(
        event.alias, event.adapter, event.stable, event.percent, event.since,
        (), (), (), (gate,), event.digests, sticky=Sticky(counted.sticky),
    )  # fmt: skip
    end = counted.end or datetime.max.replace(tzinfo=UTC)
    stage = _Stage(
        trial,
        since=event.since or end,
        began=counted.began or end,
        now=end,
        length=timedelta(seconds=counted.window_s),
        serving={},
        alone=True,
        split=counted.percent is not None,
        usage=_RowsAsRead(rows),
        z=Z,
        longest=None,
        pasts={},
        beliefs=partial(beliefs_recorded, event),
    )
    return stage.judge(stage.gates[0])


@dataclass(frozen=True, slots=True)
class _RowsAsRead:
    """Rows that were read before."""

    kept: Sequence[UsageRow]
    missing: tuple[str, ...] = ()

    def rows(self, since: datetime, alias: str = "") -> Iterator[UsageRow]:
        """Yield the rows of an alias, or all, from a moment on."""
        for row in self.kept:
            if _time(row) >= since and alias in ("", row["alias"]):
                yield row


@dataclass(frozen=True)
class _Stage:
    """The requests of a stage; those of other aliases are read only where they are needed."""

    trial: GateTrial
    since: datetime
    began: datetime
    """Begin of the rollout: the usual times lie before it."""
    now: datetime
    length: timedelta
    serving: Mapping[str, str]
    """By alias: the version that answers, or answers beside what the alias tries itself."""
    alone: bool
    """Whether no other alias shares a server with the new version."""
    split: bool
    """Whether the share is the same in the whole stage, so that requests can prove the share."""
    usage: UsageReader | _RowsAsRead
    z: float
    longest: float | None
    """As of `judge_live`."""
    pasts: Pasts
    beliefs: Callable[[], Mapping[str, Beliefs]]

    @cached_property
    def gates(self) -> tuple[GateSpec, ...]:
        """Live gates of the trial, as asked in this stage."""
        soaks = self.trial.percent == FULL
        return tuple(soaking(gate) if soaks else gate for gate in self.trial.live)

    def judge(self, gate: GateSpec) -> Finding:
        # `missing` is read last: reading finds the files that cannot be read.
        if gate.metric == AROUND:
            around = () if self.alone else self.around
            missing = self.usage.missing
            return judge_live(gate, around, z=self.z, alone=self.alone, missing=missing)
        own, known = self.own, self.known
        if self.trial.percent < FULL:
            return judge_live(
                gate, own, known=known, z=self.z, longest=self.longest, missing=self.usage.missing
            )
        found = judge_soaking(gate, own, known, missing=self.usage.missing)
        if found.verdict is not Verdict.FAIL or self.alone:
            return found
        kept = blameless(gate, found, own, self.around)
        again = judge_soaking(gate, kept, known, missing=self.usage.missing)
        return spared(found, again, len(own) - len(kept))

    def bound(self, judged: JudgedGate) -> JudgedGate:
        """Return a finding with the counted rows of the alias; a neighbour gate names none."""
        about_others = judged.finding.metric == AROUND
        return judged if about_others else replace(judged, rows=self._counted)

    @cached_property
    def _counted(self) -> CountedRows:
        first = self.began - WEEKS
        earlier = self.usage.rows(first, self.trial.alias)
        rows = in_order(
            [*(row for row in earlier if first <= _time(row) < self.since), *self._own_rows]
        )
        return CountedRows(
            len(rows), digest_of_rows(its.digest for its in rows), first, self.began, self.now,
            self.length.total_seconds(), self.percent, self.trial.sticky, self.alone,
        )  # fmt: skip

    @property
    def percent(self) -> int | None:
        """The share that the alias's requests are compared with; None: the share says nothing."""
        return self.trial.percent if self.trial.percent < FULL and self.split else None

    @cached_property
    def own(self) -> tuple[Window, ...]:
        """Windows of the alias's own requests."""
        sticky, percent, usual = self.trial.sticky, self.percent, {self.trial.alias: self.known}
        return self._windows(self._own_rows, self._side, usual, sticky, percent)

    @cached_property
    def known(self) -> Baseline:
        """The old version before the rollout: its times, and what is usual of its users."""
        trial = self.trial
        key = trial.alias, trial.stable, self.began, self.gates
        if key in self.pasts:
            return self.pasts[key]
        before = [
            row
            for row in self.usage.rows(self.began - WEEKS, trial.alias)
            if row.get("version") == trial.stable and end_of(row) < self.began
        ]
        times = dict(baselines(before, {trial.alias: trial.stable}, self.began))
        pinned = times.get(trial.alias, UNKNOWN)
        found = with_usual(pinned, before, self.gates, self.began, self.beliefs())
        if not self.usage.missing:
            self.pasts[key] = found
        return found

    @cached_property
    def around(self) -> tuple[Window, ...]:
        """Windows of other aliases' requests, on the version's servers and elsewhere."""
        side = neighbours(self.trial.alias, frozenset(self.trial.servers), self.serving)
        usual = dict(baselines(self._all_rows, self.serving, self.began))
        return self._windows(self._all_rows, side, usual)

    def _windows(
        self,
        rows: Sequence[UsageRow],
        side: Whose,
        usual: Mapping[str, Baseline],
        sticky: Sticky = Sticky.REQUEST,
        percent: int | None = None,
    ) -> tuple[Window, ...]:
        return count_windows(
            rows, side, self.gates, usual, self.since, self.now,
            length=self.length, percent=percent, sticky=sticky,
        )  # fmt: skip

    @cached_property
    def _side(self) -> Whose:
        return arms(self.trial.alias, self.trial.adapter, self.trial.stable)

    @cached_property
    def _own_rows(self) -> list[UsageRow]:
        read = self.usage.rows(self.since, self.trial.alias)
        return [row for row in read if self.since <= _time(row) and end_of(row) < self.now]

    @cached_property
    def _all_rows(self) -> list[UsageRow]:
        return list(self.usage.rows(self.began - BEFORE))


def _time(row: UsageRow) -> datetime:
    return datetime.fromisoformat(row["time"])


def _serving(live: State) -> dict[str, str]:
    answering = {
        alias: [share.adapter for share in route.shares if share.percent]
        for alias, route in live.routes().items()
    }
    return {alias: found[-1] for alias, found in answering.items() if found}
