"""Whole lives of a version: usage rows become windows, evidence, ledger entries and shares.

All of the real code, on the traffic of the guide's client (5 requests a minute from 09 to 18),
asked at irregular times.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import accumulate

import numpy as np
import pytest

from fleet.codec import plain
from fleet.gates.decide import Finding, Verdict
from fleet.gates.live import judge_live
from fleet.gates.offline import judge_paired
from fleet.gates.rows import UsageRow, Window
from fleet.gates.soak import judge_soaking, recheck_verdict, soaking
from fleet.gates.windows import arms, baseline, count_windows, with_usual
from fleet.history.events import Entry, event_of
from fleet.history.fold import fold_entries
from fleet.policies import GateSpec, RolloutPolicy
from fleet.resources import Route, Share
from fleet.rollouts.decide import decide_rollouts
from fleet.rollouts.targets import AliasTarget, Phase
from fleet.steps import SetRoute
from tests.fleet.planning.builders import DAY, NOON, digest_of, route, state
from tests.fleet.rollouts.gate_trials import ACCURACY, ALIAS, ERRORS, NEW, OLD, declared

HOUR = timedelta(hours=1)
FORM = GateSpec("form", "format_drop", 3, "pp")
LATENCY = GateSpec("latency", "p95_ratio", 1.5, "x", alarm_at=1.2)
LIVE = (ERRORS, FORM, LATENCY)
ROLLOUT = RolloutPolicy(
    "standard", (10, 50, 100), DAY, 7 * DAY, ("accuracy", "errors", "form", "latency")
)
START = NOON.replace(hour=9)


class Life:
    """One version on its way, with a client who calls it."""

    def __init__(self, seed: int, errors: float = 0.01, slower: float = 1.0, drop: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.errors, self.slower, self.drop = errors, slower, drop
        made = declared(rollout=ROLLOUT)
        self.fleet = replace(made, gates={each.name: each for each in (ACCURACY, *LIVE)})
        self.live = route(ALIAS, (OLD, 100, "s"))
        self.entries: list[Entry] = []
        self.now = START
        before = [self.row(START - HOUR, OLD) for _ in range(3000)]
        self.known = with_usual(baseline(before), before, LIVE, START)
        self.rows: list[UsageRow] = before

    def row(self, moment: datetime, version: str) -> UsageRow:
        new = version == NEW
        return {
            "time": moment.isoformat(),
            "alias": ALIAS,
            "version": version,
            "server": "s",
            "status": 500 if self.rng.random() < (self.errors if new else 0.01) else 200,
            "latency_s": float(self.rng.lognormal(0, 0.6)) * (self.slower if new else 1.0),
            "first_byte_s": None,
            "format_ok": bool(self.rng.random() >= 0.03),
        }

    def wait(self, hours: float) -> None:
        """Let the client call for some hours, split as the route says."""
        end = self.now + hours * HOUR
        percent = {each.adapter: each.percent for each in self.live.shares}.get(NEW, 0)
        while self.now < end:
            until = min(end, self.now + HOUR / 2)
            busy = 5 * 60 if 9 <= self.now.hour < 18 else 15
            span = (until - self.now) / HOUR
            for _ in range(self.rng.poisson(busy * span)):
                version = NEW if self.rng.random() * 100 < percent else OLD
                self.rows.append(self.row(self.now + self.rng.random() * span * HOUR, version))
            self.now = until

    @property
    def live_gates(self) -> list[GateSpec]:
        return [each for each in self.fleet.gates.values() if not each.offline]

    def write(self, kind: str, **data: object) -> None:
        seq = len(self.entries) + 1
        self.entries.append(Entry(seq, self.now, event_of(kind, data), "run", "ana", 1, "", ""))

    def windows(
        self, gate: GateSpec, start: datetime, end: datetime, percent: int | None = None
    ) -> tuple[Window, ...]:
        gates = [gate if each.name == gate.name else each for each in LIVE]
        return count_windows(
            self.rows,
            arms(ALIAS, NEW, OLD),
            gates,
            {ALIAS: self.known},
            start,
            end,
            percent=percent,
        )

    def judge(self, gate: GateSpec, finding: Finding, since: datetime, percent: int) -> None:
        assert recheck_verdict(finding.plain()).verdict is finding.verdict
        self.write(
            "gate_judged", alias=ALIAS, adapter=NEW, stable=OLD, percent=percent, gate=gate.name,
            finding=finding.plain(), since=since.isoformat(), fingerprint="vllm",
            digests={"adapter": digest_of(NEW), "stable": digest_of(OLD), "golden": "9" * 64},
        )  # fmt: skip

    def tick(self) -> AliasTarget:
        """Gather evidence, plan, and do what the plan says."""
        stage = fold_entries(self.entries).stages.get(ALIAS)
        known = fold_entries(self.entries).evidence.get(ALIAS, ())
        if stage is not None and stage.adapter == NEW:
            if not any(each.gate == "accuracy" for each in known):
                scores = [1.0] * 400, [0.0] * self.drop + [1.0] * (400 - self.drop)
                self.judge(ACCURACY, judge_paired(ACCURACY, *scores), stage.since, stage.percent)
            for gate in self.live_gates if stage.percent else ():
                soaks = stage.percent == 100
                asked = soaking(gate) if soaks else gate
                found = self.windows(asked, stage.since, self.now, None if soaks else stage.percent)
                judged = (
                    judge_soaking(asked, found, self.known)
                    if soaks
                    else judge_live(gate, found, known=self.known)
                )
                self.judge(gate, judged, stage.since, stage.percent)
        wanted = decide_rollouts(
            self.fleet, state(self.live), fold_entries(self.entries), self.now
        ).wanted[ALIAS]
        shares = tuple(Share(name, percent, ("s",)) for name, percent in wanted.shares)
        made = Route(ALIAS, shares, wanted.salt)
        if made != self.live:
            step = {"step": f"set {made.address}", "address": made.address}
            self.write("step_started", **step, operation=plain(SetRoute(made)))
            self.write("step_finished", **step, how="done")
            self.live = made
        return wanted

    def lives(self, ticks: list[float]) -> list[tuple[float, Phase, int]]:
        """Return the hour, the phase and the new version's share at each tick."""
        story = []
        for hour, wait in zip(accumulate(ticks), ticks, strict=True):
            self.wait(wait)
            wanted = self.tick()
            story.append((hour, wanted.phase, dict(wanted.shares).get(NEW, 0)))
        return story


TICKS = [0.1, 0.2, 3, 9, 6.5, 6, 2, 11, 8, 5, 4, 3, 7, 13, 6, 5]
"""Hours between two looks."""


def test_a_healthy_version_goes_all_the_way_by_itself() -> None:
    story = Life(1).lives(TICKS)
    shares = [share for _, _, share in story]
    assert shares[:2] == [0, 10]
    assert sorted(shares) == shares
    assert {*shares} == {0, 10, 50, 100}
    assert story[-1][1] is Phase.SOAKING


@pytest.mark.parametrize(("errors", "slower"), [(0.08, 1.0), (0.01, 2.0)])
def test_a_harmful_version_is_taken_back_within_a_day_and_stays_out(
    errors: float, slower: float
) -> None:
    life = Life(2, errors, slower)
    story = life.lives(TICKS)
    back = next(hour for hour, phase, _ in story if phase is Phase.ROLLED_BACK)
    assert back <= 24
    assert max(share for _, _, share in story) == 10
    after = [(phase, share) for hour, phase, share in story if hour > back]
    assert {*after} == {(Phase.HELD, 0)}
    failed = {each.gate for each in fold_entries(life.entries).evidence[ALIAS]
              if each.finding.verdict is Verdict.FAIL}  # fmt: skip
    assert failed == {"errors" if errors > 0.01 else "latency"}


def test_a_version_that_turns_bad_after_its_cut_over_is_taken_back() -> None:
    life = Life(5)
    ticks = iter(TICKS)
    while life.lives([next(ticks)])[-1][2] < 100:
        continue
    assert life.lives([26.0])[-1][1] is Phase.SOAKING
    life.errors = 0.08
    story = life.lives([8.0] * 3)
    back = [hour for hour, phase, _ in story if phase is Phase.ROLLED_BACK]
    assert back
    assert back[0] <= 24
    assert story[-1][1:] == (Phase.HELD, 0)


def test_a_worse_version_never_meets_a_client() -> None:
    story = Life(3, drop=30).lives(TICKS[:6])
    assert {share for _, _, share in story} == {0}
    assert story[-1][1] is Phase.HELD


def test_a_version_that_cannot_be_judged_is_held() -> None:
    life = Life(4)
    life.fleet = replace(
        life.fleet, gates={**life.fleet.gates, "errors": replace(ERRORS, min_requests=10_000)}
    )
    ticks = [TICKS[0], *map(sum, zip(TICKS[1::2], TICKS[2::2], strict=False))]
    story = life.lives(ticks)
    assert [share for _, _, share in story][1:] == [10] * (len(ticks) - 1)
    phases = [phase for _, phase, _ in story]
    assert phases.index(Phase.EXTENDED) < phases.index(Phase.UNDECIDED)
    assert phases[-1] is Phase.UNDECIDED
