"""A version that has all traffic, judged by what gateways wrote before and since."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.gates.decide import Verdict
from fleet.policies import GateSpec
from runtime.gates.live import judge_traffic
from runtime.usage.read import UsageReader
from tests.fleet.planning.builders import loaded, state
from tests.runtime.gates.test_evidence import ERRORS, NOON, PACE, logged, row, trial
from tests.runtime.gateway.stage import NEW, OLD, OTHERS

LATENCY = GateSpec("times", "p95_ratio", 1.5, "x", min_requests=20)
BEFORE = [row(-60 - each, OLD) for each in range(60)]


def judged(root: Path, *rows: str, gate: GateSpec = ERRORS) -> tuple[Verdict, str]:
    logged(root, *BEFORE, *rows)
    live = state(loaded(NEW, "s1"), loaded(OLD, "s1"), loaded(OTHERS, "s1"))
    soaking = replace(trial(100, "s1"), live=(gate,))
    now = NOON + timedelta(hours=1)
    (one,) = judge_traffic(soaking, PACE, live, (), UsageReader(root), now)
    return one.finding.verdict, one.finding.reason


@pytest.mark.parametrize(
    ("outage", "verdict"), [(False, Verdict.FAIL), (True, Verdict.INCONCLUSIVE)]
)
def test_what_fails_alone_is_taken_back_and_an_outage_is_nobodys_fault(
    tmp_path: Path,
    outage: bool,  # noqa: FBT001
    verdict: Verdict,
) -> None:
    mine = [row(1 + each / 60, NEW, 503) for each in range(30)]
    status = 503 if outage else 200
    others = [row(1 + each / 60, OTHERS, status, "globex-dates") for each in range(30)]
    found, reason = judged(tmp_path, *mine, *others)
    assert found is verdict
    assert "the old version had 0 of 60 before the rollout" in reason
    assert ("others on its servers fared as badly" in reason) is outage


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(0.15, Verdict.PASS), (0.35, Verdict.FAIL)]
)  # the old version took 0.1 s
def test_a_time_is_measured_by_twice_the_old_one(
    tmp_path: Path, seconds: float, verdict: Verdict
) -> None:
    slow = [
        row(1 + each / 30, NEW).replace('"latency_s":0.1', f'"latency_s":{seconds}')
        for each in range(90)
    ]
    found, reason = judged(tmp_path, *slow, gate=LATENCY)
    assert found is verdict, reason
