"""Who shares a server with a new version must not suffer by it, and is not its judge otherwise."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from fleet.gates.decide import Verdict
from fleet.policies import GateSpec
from runtime.gates.live import judge_traffic
from runtime.usage.read import UsageReader
from tests.fleet.planning.builders import loaded, route, state
from tests.runtime.gates.test_evidence import NOON, PACE, logged, row, trial
from tests.runtime.gateway.stage import NEW, OLD, OTHERS


def test_neighbours_on_the_same_server_are_compared_with_others_elsewhere(tmp_path: Path) -> None:
    gate = GateSpec("near", "neighbour_ratio", 1.25, "x", min_requests=5)
    near = [row(1, OTHERS, alias="globex-dates") for _ in range(12)]
    far = [row(1, OTHERS, alias="fjord-reviews").replace('"s1"', '"s2"') for _ in range(15)]
    logged(tmp_path, *near, *far, *(row(1, NEW) for _ in range(9)))
    tried = replace(trial(50, "s1"), live=(gate,))
    end = NOON + timedelta(minutes=5)
    beside = state(loaded(NEW, "s1"), loaded(OLD, "s1"), loaded(OTHERS, "s1"))
    (one,) = judge_traffic(tried, PACE, beside, (), UsageReader(tmp_path), end)
    counts = one.finding.counts
    assert (sum(counts["split"]), sum(counts["split_stable"])) == (12, 15)  # type: ignore[arg-type]
    alone = state(loaded(NEW, "s1"), loaded(OLD, "s1"))
    (nobody,) = judge_traffic(tried, PACE, alone, (), UsageReader(tmp_path), end)
    assert (nobody.finding.verdict, nobody.finding.rule) == (Verdict.PASS, "no_neighbours")


def test_what_a_neighbour_tries_itself_is_not_held_against_a_version(tmp_path: Path) -> None:
    gate = GateSpec("near", "neighbour_ratio", 1.25, "x", min_requests=5)
    trying = OTHERS.replace("v1.0.0", "v1.1.0")
    assert trying != OTHERS
    usual = [row(-9, OTHERS, alias="globex-dates"), row(-9, OTHERS, alias="fjord-reviews")] * 40
    well = [row(1 + n / 99, OTHERS, alias="globex-dates") for n in range(199)]
    slow = [
        row(1 + n / 99, trying, alias="globex-dates").replace("0.1}", "9.9}") for n in range(99)
    ]
    far = [row(1, OTHERS, alias="fjord-reviews").replace('"s1"', '"s2"') for _ in range(199)]
    logged(tmp_path, *usual, *well, *slow, *far)
    split = route("globex-dates", (trying, 50, "s1"), (OTHERS, 50, "s1"))
    tried, end = replace(trial(50, "s1"), live=(gate,)), NOON + timedelta(minutes=5)
    beside = state(loaded(NEW, "s1"), loaded(OLD, "s1"), loaded(OTHERS, "s1"), split)
    (one,) = judge_traffic(tried, PACE, beside, (), UsageReader(tmp_path), end)
    assert one.finding.verdict is Verdict.PASS, one.finding.reason
    assert sum(one.finding.counts["requests"]) == 199  # type: ignore[arg-type]
    turned = state(
        loaded(NEW, "s1"), loaded(OTHERS, "s1"), route("globex-dates", (trying, 100, "s1"))
    )
    (none,) = judge_traffic(tried, PACE, turned, (), UsageReader(tmp_path), end)
    assert none.finding.verdict is Verdict.INCONCLUSIVE, none.finding.reason
