"""Gates on times know slow versions from versions whose answers have another length.

A client's requests are drawn one by one, streamed or not, and judged as a stage's usage rows are.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from fleet.gates.decide import Finding, Verdict
from fleet.gates.live import judge_live
from fleet.gates.windows import Baseline, arms, baseline, count_windows, with_usual
from fleet.policies import GateSpec
from fleet.traffic import Sticky
from tests.fleet.gates.request_traffic import MONDAY, Client, Harm, draw

FIRST = GateSpec("first", "first_token_ratio", 1.5, "x", alarm_at=1.2)
TOKEN = GateSpec("token", "token_time_ratio", 1.5, "x", alarm_at=1.2)
WHOLE = GateSpec("whole", "p95_ratio", 1.5, "x", alarm_at=1.2)
GATES = FIRST, TOKEN, WHOLE
BEFORE, STAGE = 7 * 24, 24
"""Hours before the rollout, and of the stage."""
SIDE = arms("a", "new", "old")


def streamed(rows: Iterator[dict[str, Any]], part: float) -> list[dict[str, Any]]:
    """Let a part of the clients stream; of the others' answers no first token is known."""
    rng = np.random.default_rng(5)
    found = []
    for row in rows:
        if rng.random() >= part:
            row |= {"stream": False, "first_token_s": None, "first_byte_s": row["latency_s"]}
        found.append(row)
    return found


def judged(harm: Harm, before: float, during: float) -> dict[str, Finding]:
    """Judge a day at 50 %, with the parts of the requests that are streamed."""
    drawn = draw(np.random.default_rng(4), Client(), harm, before=BEFORE, after=STAGE)
    past = streamed(drawn.rows(-BEFORE, 0, 0.0), before)
    known: Baseline = with_usual(baseline(past), past, GATES, MONDAY)
    windows = count_windows(
        streamed(drawn.rows(0, STAGE, 0.5), during), SIDE, GATES, {"a": known}, MONDAY,
        MONDAY + timedelta(hours=STAGE), percent=50, sticky=Sticky.USER,
    )  # fmt: skip
    return {gate.name: judge_live(gate, windows, known=known) for gate in GATES}


SHARES = [(1.0, 1.0), (0.5, 0.5), (0.0, 0.0), (0.2, 0.9), (0.9, 0.2)]


@pytest.mark.parametrize(("before", "during"), SHARES)
@pytest.mark.parametrize("longer", [0.2, 1.0, 8.0])
def test_a_version_whose_answers_have_another_length_passes(
    longer: float, before: float, during: float
) -> None:
    found = judged(Harm(longer=longer), before, during)
    for name in ("first", "token"):
        assert found[name].verdict is Verdict.PASS, found[name].reason
    assert (found["whole"].verdict is Verdict.FAIL) is (longer > 1)


@pytest.mark.parametrize(("before", "during"), SHARES)
@pytest.mark.parametrize("longer", [0.5, 3.0])
def test_a_version_that_is_slower_by_token_fails(
    longer: float, before: float, during: float
) -> None:
    found = judged(Harm(longer=longer, slower=1.8), before, during)
    assert found["token"].verdict is Verdict.FAIL, found["token"].reason


def test_answers_that_are_streamed_for_the_first_time_decide_nothing() -> None:
    found = judged(Harm(slower=1.8), 0.0, 1.0)
    assert {found[name].verdict for name in ("first", "token")} == {Verdict.INCONCLUSIVE}
    assert "0 of 0 took over" in found["first"].reason
