"""Live gates: what gateways wrote about the requests of a stage, counted and judged."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from fleet.conditions import Gate, Rollout
from fleet.gates import Finding, Window, judge_live
from fleet.gates.windows import HOUR, Baseline, Row, arms, baseline, neighbours, windows
from fleet.history import Entry
from fleet.resources import State
from fleet.trial import Trial
from runtime.rollouts.record import Judged
from runtime.rollouts.rows import UsageRows

BEFORE = timedelta(days=7)
"""How far back the old version's usual times are taken from."""
WINDOWS_A_BAKE = 12
LEAST_WINDOW = timedelta(seconds=1)


def judge_traffic(
    trial: Trial,
    rollout: Rollout,
    live: State,
    entries: Sequence[Entry],
    state_dir: Path,
    now: datetime,
) -> list[Judged]:
    """Judge every live gate of a trial by all requests of its stage so far.

    Args:
        trial: What is being tried.
        rollout: Its pace; windows are an hour long, or a part of a short bake.
        live: What was observed; tells who shares a server with the new version.
        entries: The ledger; tells when the rollout began.
        state_dir: Where the gateways write.
        now: The end of the last window.

    Raises:
        OSError: a usage log cannot be read.
    """
    if not trial.live:
        return []
    if trial.since is None:
        why = "the ledger does not say since when this stage lasts: fleetctl adopt"
        return [_nothing(trial, gate, why) for gate in trial.live]
    counting = _Counting(trial, rollout, live, began(trial, entries), state_dir, now)
    return [Judged(trial, counting.judge(gate), {}) for gate in trial.live]


def began(trial: Trial, entries: Iterable[Entry]) -> datetime:
    """Return when traffic first reached the new version, by the first evidence of it."""
    stages = [
        datetime.fromisoformat(each.data["since"])
        for each in entries
        if each.kind == "gate_judged" and each.data["adapter"] == trial.adapter
        if each.data["alias"] == trial.alias and each.data["percent"]
    ]
    return min([*stages, *([trial.since] if trial.since else [])])


class _Counting:
    """The windows of one trial; those of the neighbours only where a gate asks for them."""

    def __init__(
        self,
        trial: Trial,
        rollout: Rollout,
        live: State,
        start: datetime,
        state_dir: Path,
        now: datetime,
    ) -> None:
        self._trial, self._now = trial, now
        self._length = min(HOUR, max(LEAST_WINDOW, rollout.bake / WINDOWS_A_BAKE))
        self._near = frozenset(trial.servers)
        self._alone = not any(
            each.server in self._near and each.adapter not in (trial.adapter, trial.stable)
            for each in live.adapters().values()
        )
        wide = any(each.metric == "neighbour_ratio" for each in trial.live) and not self._alone
        rows = UsageRows(state_dir, start - BEFORE)
        self._rows = list(rows.of("" if wide else trial.alias))
        self._baselines = dict(_baselines(self._rows, trial, start))

    def judge(self, gate: Gate) -> Finding:
        around = gate.metric == "neighbour_ratio"
        return judge_live(gate, self._windows(around=around), alone=self._alone)

    def _windows(self, *, around: bool) -> tuple[Window, ...]:
        trial = self._trial
        assert trial.since is not None
        side = (
            neighbours(trial.alias, self._near)
            if around
            else arms(trial.alias, trial.adapter, trial.stable)
        )
        return windows(
            self._rows,
            side,
            trial.live,
            self._baselines,
            trial.since,
            self._now,
            length=self._length,
            percent=None if around else trial.percent,
            by_user=trial.by_user and not around,
        )


def _baselines(
    rows: Iterable[Row], trial: Trial, start: datetime
) -> Iterator[tuple[str, Baseline]]:
    """Yield what is usual for each alias, from before the rollout; for the trial's the old one."""
    before: dict[str, list[Row]] = {}
    for row in rows:
        ours = row.get("alias") == trial.alias
        if ours and row.get("version") != trial.stable:
            continue
        if start - BEFORE <= datetime.fromisoformat(row["time"]) < start:
            before.setdefault(str(row.get("alias")), []).append(row)
    for alias, found in before.items():
        yield alias, baseline(found)


def _nothing(trial: Trial, gate: Gate, why: str) -> Judged:
    finding = replace(judge_live(gate, ()), reason=why)
    return Judged(trial, finding, {}, problem=why)
