"""A split that goes wrong in a later window takes no FAIL of an earlier window back."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.gates.decide import Verdict
from fleet.gates.live import judge_live
from fleet.gates.own_control import Usual
from fleet.gates.rows import Window
from fleet.gates.sample_ratio import sound_windows
from fleet.gates.soak import recheck_verdict
from fleet.gates.windows import Baseline
from fleet.policies import GateSpec
from tests.fleet.gates.test_live import ERRORS, HOUR, LIMIT, NINE, hours
from tests.fleet.gates.test_sample_ratio import Side, window_by_users

FAIL, UNSURE = Verdict.FAIL, Verdict.INCONCLUSIVE
KNOWN = Baseline(usual={"errors": Usual(0.01, requests=5000)})
SOUND, STALE = ((40, 100), (5, 900)), ((200, 500), (5, 500))
GOOD, BAD_BY_ANY_SPLIT = ((5, 500), (5, 500)), ((300, 300), (0, 700))


def stage(counts: Iterable[tuple[Side, Side]], percent: int = 10) -> list[Window]:
    """Return hours of bad requests and all, of the new version and of the old one."""
    windows = []
    for number, sides in enumerate(counts):
        new, old = ((of, {"errors": bad}) for bad, of in sides)
        start = NINE + number * HOUR
        windows.append(replace(*hours(1, new, old, percent), start=start, end=start + HOUR))
    return windows


@pytest.mark.parametrize("gate", [ERRORS, LIMIT])
@pytest.mark.parametrize(
    "counts", [[SOUND, GOOD], [SOUND] * 5 + [STALE] * 5, [SOUND] + [GOOD] * 40]
)
def test_a_failure_before_the_split_went_wrong_stays(
    gate: GateSpec, counts: Sequence[tuple[Side, Side]]
) -> None:
    """FAIL with an e-value of 2.9e41 became INCONCLUSIVE by an hour at 50 % in place of 10 %."""
    found = judge_live(gate, stage(counts))
    assert found.verdict is FAIL
    assert ", before the split went wrong: the new version got" in found.reason
    assert recheck_verdict(found.plain()) == found


def test_a_finding_of_an_earlier_release_keeps_its_verdict() -> None:
    found = judge_live(ERRORS, stage([SOUND, GOOD]))
    limits = {name: value for name, value in found.parameters.items() if name != "each_window"}
    assert recheck_verdict(replace(found, parameters=limits).plain()).verdict is UNSURE


def test_a_failure_by_whatever_split_stays() -> None:
    """300 of 300 bad, which no split explains, were excused by those misplaced a day later."""
    found = judge_live(ERRORS, stage([BAD_BY_ANY_SPLIT, *[GOOD] * 3]))
    assert found.verdict is FAIL
    assert ", whatever is wrong with the split: the new version got" in found.reason
    assert recheck_verdict(found.plain()) == found


@pytest.mark.parametrize("each", [1, 10])
def test_a_failure_of_users_stays(each: int) -> None:
    windows = [window_by_users(*counts, each, 10) for counts in (SOUND, GOOD, BAD_BY_ANY_SPLIT)]
    bad, later, worse = (
        replace(window, start=NINE + number * HOUR, end=NINE + (number + 1) * HOUR)
        for number, window in enumerate(windows)
    )
    for stage_windows in ([bad], [bad, later], [worse], [worse, later]):
        assert judge_live(ERRORS, stage_windows).verdict is FAIL


hour_counts = st.builds(
    lambda total, seen, bad, bad_other: (
        (round(round(total * seen) * bad), round(total * seen)),
        (round((total - round(total * seen)) * bad_other), total - round(total * seen)),
    ),
    st.integers(50, 2000),
    st.one_of(st.floats(0.02, 0.09), st.floats(0.2, 0.6)),
    st.floats(0, 1),
    st.floats(0, 0.05),
)


@given(sound=st.integers(1, 5), later=st.lists(hour_counts, max_size=5))
def test_whatever_comes_later_a_failure_by_the_wanted_split_stays(
    sound: int, later: list[tuple[Side, Side]]
) -> None:
    """Save for a share that is so little wrong that it may have been so from the first hour on."""
    found = judge_live(ERRORS, stage([SOUND] * sound + later), known=KNOWN)
    assert found.verdict is FAIL


@pytest.mark.parametrize(("per_hour", "stale"), [(100, 25), (100, 50), (400, 25), (2000, 25)])
@pytest.mark.parametrize("since", [0, 10])
def test_a_healthy_version_is_not_failed_by_a_gateway_that_is_stale_from_some_hour_on(
    per_hour: int, stale: int, since: int
) -> None:
    """All misplaced requests are bad: up to 100 of 100 fail by the hours before that is noticed."""
    rng = np.random.default_rng(per_hour * stale + since)
    failed = void = 0
    for _ in range(100):
        drawn = rng.random((20, per_hour)) * 100
        through = (rng.random((20, per_hour)) < 0.5) & (np.arange(20) >= since)[:, None]
        mine = drawn < np.where(through, stale, 10)
        bad = rng.random((20, per_hour)) < np.where(mine & (drawn >= 10), 1.0, 0.01)
        counts = []
        for new, wrong in zip(mine, bad, strict=True):
            sides = [(int(wrong[side].sum()), int(side.sum())) for side in (new, ~new)]
            counts.append((sides[0], sides[1]))
        found = judge_live(ERRORS, stage(counts))
        void += "the new version got" in found.reason
        failed += found.verdict is FAIL and "the new version got" in found.reason
    assert void >= 80
    assert failed <= 1


@pytest.mark.parametrize("sound", [1, 3, 10])
def test_a_bad_version_fails_by_the_hours_before_a_gateway_was_stale(sound: int) -> None:
    """Draws by chance, not just as many as were wanted."""
    rng = np.random.default_rng(sound)
    failed = 0
    for _ in range(100):
        counts = []
        for share in [0.1] * sound + [0.5] * 3:
            got = int(rng.binomial(1000, share))
            counts.append(
                (
                    (int(rng.binomial(got, 0.4)), got),
                    (int(rng.binomial(1000 - got, 0.01)), 1000 - got),
                )
            )
        failed += judge_live(ERRORS, stage(counts)).verdict is FAIL
    assert failed >= 95


def test_a_split_went_wrong_where_its_evidence_begins() -> None:
    counts = {"percent": (10.0,) * 4, "split": (100.0, 90.0, 500.0, 500.0)}
    counts["split_stable"] = (900.0, 910.0, 500.0, 500.0)
    assert sound_windows(counts, 0.001) == 2
    # A window before which may be right or wrong counts as wrong.
    counts |= {"split": (100.0, 5.0, 500.0, 500.0), "split_stable": (900.0, 15.0, 500.0, 500.0)}
    assert sound_windows(counts, 0.001) == 1
