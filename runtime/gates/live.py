"""Live gates: counts the usage rows of a stage in windows and judges them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import takewhile

from fleet.decoding import operation_result
from fleet.gates import (
    HOUR,
    Baseline,
    Finding,
    UsageRow,
    Verdict,
    Whose,
    Window,
    arms,
    baseline,
    blameless,
    count_windows,
    judge_live,
    judge_soaking,
    neighbours,
    soaking,
    spared,
)
from fleet.history import SKEW, Entry, GateJudged, Released, RolledBack, StepStarted
from fleet.names import route_address
from fleet.resources import FULL, Route, State
from fleet.rollout_policy import GateSpec, RolloutPolicy
from fleet.rollouts import GateTrial
from fleet.traffic import Sticky
from runtime.gates.evidence import JudgedGate, unjudged
from runtime.usage.read import UsageReader

BEFORE = timedelta(days=7)
"""Length of the time before a rollout from which the old version's usual times are taken."""
WINDOWS_A_BAKE = 12
LEAST_WINDOW = timedelta(seconds=1)
AROUND = "neighbour_ratio"


def judge_traffic(
    trial: GateTrial,
    rollout: RolloutPolicy,
    live: State,
    entries: Sequence[Entry],
    usage: UsageReader,
    now: datetime,
) -> list[JudgedGate]:
    """Judge every live gate of a trial by all requests of its stage so far.

    Windows are an hour long, or a part of a short bake. `now`: the end of the last window; a row of
    a later time is of no clock to rely on.

    A stage that a fast clock began in the future is judged by all requests since the last entry
    before that: they may fail the version, and pass nothing.
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
    early = _before_the_future(trial.since, entries, now)
    stage = _Stage(
        trial,
        since=early or trial.since,
        began=min(began(trial, entries), early or now, now),
        now=now,
        length=min(HOUR, max(LEAST_WINDOW, rollout.bake / WINDOWS_A_BAKE)),
        serving=_serving(live),
        alone=alone,
        split=early is None,
        usage=usage,
    )
    found = [JudgedGate(trial, stage.judge(gate), {}) for gate in stage.gates]
    if early is None:
        return found
    why = f"by the clock here its stage begins in the future, at {trial.since:%Y-%m-%d %H:%M} UTC"
    return [
        judged if judged.failed else unjudged(trial, gate, why)
        for gate, judged in zip(stage.gates, found, strict=True)
    ]


def _before_the_future(since: datetime, entries: Iterable[Entry], now: datetime) -> datetime | None:
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
    usage: UsageReader

    @cached_property
    def gates(self) -> tuple[GateSpec, ...]:
        """Live gates of the trial, as asked in this stage."""
        soaks = self.trial.percent == FULL
        return tuple(soaking(gate) if soaks else gate for gate in self.trial.live)

    def judge(self, gate: GateSpec) -> Finding:
        # `missing` is read last: reading finds the files that cannot be read.
        if gate.metric == AROUND:
            around = () if self.alone else self.around
            return judge_live(gate, around, alone=self.alone, missing=self.usage.missing)
        if self.trial.percent < FULL:
            return judge_live(gate, self.own, missing=self.usage.missing)
        found = judge_soaking(gate, self.own, self.before, missing=self.usage.missing)
        if found.verdict is not Verdict.FAIL or self.alone:
            return found
        kept = blameless(gate, found, self.own, self.around)
        again = judge_soaking(gate, kept, self.before, missing=self.usage.missing)
        return spared(found, again, len(self.own) - len(kept))

    @cached_property
    def own(self) -> tuple[Window, ...]:
        """Windows of the alias's own requests."""
        trial = self.trial
        percent = trial.percent if trial.percent < FULL and self.split else None
        return self._windows(self._own_rows, self._side, sticky=trial.sticky, percent=percent)

    @cached_property
    def before(self) -> tuple[Window, ...]:
        """The window of the old version's requests before the rollout."""
        start = self.began - BEFORE
        return count_windows(
            self._own_rows, self._side, self.gates, {}, start, self.began, length=BEFORE
        )

    @cached_property
    def around(self) -> tuple[Window, ...]:
        """Windows of other aliases' requests, on the version's servers and elsewhere."""
        side = neighbours(self.trial.alias, frozenset(self.trial.servers), self.serving)
        return self._windows(self._all_rows, side)

    def _windows(
        self,
        rows: Sequence[UsageRow],
        side: Whose,
        *,
        sticky: Sticky = Sticky.REQUEST,
        percent: int | None = None,
    ) -> tuple[Window, ...]:
        serving = {**self.serving, self.trial.alias: self.trial.stable}
        usual = dict(_baselines(rows, serving, self.began))
        return count_windows(
            rows, side, self.gates, usual, self.since, self.now,
            length=self.length, percent=percent, sticky=sticky,
        )  # fmt: skip

    @cached_property
    def _side(self) -> Whose:
        return arms(self.trial.alias, self.trial.adapter, self.trial.stable)

    @cached_property
    def _own_rows(self) -> list[UsageRow]:
        return list(self.usage.rows(self.began - BEFORE, self.trial.alias))

    @cached_property
    def _all_rows(self) -> list[UsageRow]:
        return list(self.usage.rows(self.began - BEFORE))


def _serving(live: State) -> dict[str, str]:
    answering = {
        alias: [share.adapter for share in route.shares if share.percent]
        for alias, route in live.routes().items()
    }
    return {alias: found[-1] for alias, found in answering.items() if found}


def _baselines(
    rows: Iterable[UsageRow], serving: Mapping[str, str], start: datetime
) -> Iterator[tuple[str, Baseline]]:
    """Yield aliases and their usual times before the rollout, of the version that counts."""
    before: dict[str, list[UsageRow]] = {}
    for row in rows:
        alias = str(row.get("alias"))
        if serving.get(alias, row.get("version")) != row.get("version"):
            continue
        if start - BEFORE <= datetime.fromisoformat(row["time"]) < start:
            before.setdefault(alias, []).append(row)
    for alias, found in before.items():
        yield alias, baseline(found)
