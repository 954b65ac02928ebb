"""No version rises by a clock that is behind or a verdict that its counts do not give."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from fleet.history.values import GateEvidence
from fleet.rollouts.decide import decide_rollouts
from fleet.rollouts.targets import AliasTarget, Phase
from tests.fleet.planning.builders import DAY, NOON, state
from tests.fleet.rollouts.gate_trials import (
    ALIAS,
    ALONE,
    FAIL,
    NEW,
    OLD,
    PASS,
    declared,
    evidence,
    finding,
    mark,
    past,
    shared,
    wanted,
)

BOTH = (evidence("accuracy"), evidence("errors"))
READY = NOON + DAY
TEN, FIFTY, NONE = ((NEW, 10), (OLD, 90)), ((NEW, 50), (OLD, 50)), ((NEW, 0), (OLD, 100))


def forged(gate: str = "errors", **about: Any) -> GateEvidence:
    """Return a FAIL that somebody has rewritten to a PASS, counts and all else as they were."""
    return replace(evidence(gate, **about), finding=replace(finding(gate, FAIL), verdict=PASS))


@pytest.mark.parametrize(
    ("ahead", "phase", "shares"),
    [
        (timedelta(), Phase.ADVANCED, FIFTY),
        (timedelta(seconds=60), Phase.ADVANCED, FIFTY),  # clocks differ a little
        (timedelta(seconds=61), Phase.DOUBTED, TEN),
    ],
)
def test_by_a_clock_that_is_behind_the_ledger_nothing_rises(
    ahead: timedelta, phase: Phase, shares: tuple[tuple[str, int], ...]
) -> None:
    made = wanted(shared(10, 90), past(10, *BOTH, as_of=READY + ahead), READY)
    assert (made.phase, made.shares) == (phase, shares)
    assert ("clock is behind the ledger (FC5108)" in made.held) == (phase is Phase.DOUBTED)


@pytest.mark.parametrize("word", ["advance", "approve"])
def test_a_persons_word_does_not_set_the_clock(word: Any) -> None:
    before = past(10, marks=[mark(word)], as_of=READY + DAY)
    assert wanted(shared(10, 90), before, READY).phase is Phase.DOUBTED
    assert wanted(shared(10, 90), replace(before, as_of=READY), READY).phase is Phase.ADVANCED


def test_whoever_fails_is_taken_back_by_whatever_clock() -> None:
    failed = past(10, evidence("errors", FAIL), as_of=READY + DAY)
    made = wanted(shared(10, 90), failed, READY)
    assert (made.phase, made.shares) == (Phase.ROLLED_BACK, NONE)


@pytest.mark.parametrize(
    ("found", "now", "phase", "says"),
    [
        ((BOTH[0], forged()), READY, Phase.DOUBTED, "its counts give FAIL, not PASS"),
        ((BOTH[0], forged()), READY - timedelta(seconds=1), Phase.WAITING, "baking until"),
        ((BOTH[0], replace(BOTH[1], finding=replace(BOTH[1].finding, rule="of another age"))),
         READY, Phase.DOUBTED, "no rule is called 'of another age'"),
        ((BOTH[0], replace(BOTH[1], finding=replace(BOTH[1].finding, counts={}))),
         READY, Phase.DOUBTED, "it cannot be judged again"),
    ],
)  # fmt: skip
def test_a_verdict_that_its_counts_do_not_give_raises_nobody(
    found: tuple[GateEvidence, ...], now: datetime, phase: Phase, says: str
) -> None:
    made = wanted(shared(10, 90), past(10, *found), now)
    assert (made.phase, made.shares, says in made.held) == (phase, TEN, True)
    assert ("fleetctl release acme-support" in made.held) == (phase is Phase.DOUBTED)


def test_a_version_with_a_forged_pass_of_its_golden_set_does_not_begin() -> None:
    made = wanted(ALONE, past(None, forged("accuracy", percent=0)), NOON)
    assert (made.phase, made.shares) == (Phase.DOUBTED, NONE)
    true = wanted(ALONE, past(None, evidence("accuracy", percent=0)), NOON)
    assert (true.phase, true.shares) == (Phase.STARTED, TEN)


def test_one_that_was_released_without_a_version_before_it_is_not_begun_either() -> None:
    free: Mapping[str, frozenset[str]] = {ALIAS: frozenset({NEW})}

    def first(found: GateEvidence, **more: Any) -> AliasTarget:
        before = past(None, found, released=free, **more)
        return decide_rollouts(declared(), state(), before, NOON).wanted[ALIAS]

    for made in (
        first(forged("accuracy", percent=0)),
        first(evidence("accuracy", percent=0), as_of=NOON + DAY),
    ):
        assert (made.phase, made.shares) == (Phase.DOUBTED, ())
    assert first(evidence("accuracy", percent=0)).phase is Phase.FIRST
