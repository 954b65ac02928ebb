"""Planted regressions: the true cause stands first."""

import numpy as np
import pytest

from fleet.alerting.changes import ChangeKind
from fleet.alerting.timeline import Measure, explain_worse
from tests.fleet.alerting.regressions import NEIGHBOURS, planted
from tests.fleet.alerting.simulation import ALIAS

RUNS = 5


def test_the_true_cause_stands_first_in_at_least_nine_of_ten() -> None:
    rng, firsts = np.random.default_rng(3), dict.fromkeys(ChangeKind, 0)
    for kind in ChangeKind:
        for _ in range(RUNS):
            cells, changes, cause = planted(rng, kind)
            best = explain_worse(ALIAS, cells, changes).causes[:1]
            found = [(ranked.change.kind, ranked.change.subject) for ranked in best]
            firsts[kind] += found == [(cause.kind, cause.subject)]
    assert sum(firsts.values()) >= 0.9 * RUNS * len(ChangeKind), firsts
    assert min(firsts.values()) >= RUNS - 2, firsts


def test_a_neighbour_is_named_with_its_load_before_and_after() -> None:
    cells, changes, _ = planted(np.random.default_rng(7), ChangeKind.LOAD)
    why = explain_worse(ALIAS, cells, changes)
    assert why.measure is Measure.LATENCY
    change = why.causes[0].change
    assert (change.kind, change.subject) == (ChangeKind.LOAD, NEIGHBOURS[0])
    assert float(change.before) == pytest.approx(10, rel=0.2)
    assert float(change.after) > 30
    before, after = (figures.latency.quantile(0.95) for figures in (why.before, why.after))
    assert before is not None
    assert after is not None
    assert after > 1.3 * before


def test_without_a_sure_onset_all_changes_are_listed_and_none_is_blamed() -> None:
    cells, changes, _ = planted(np.random.default_rng(7), ChangeKind.RESTART)
    quiet = [cell for cell in cells if cell.start == cells[0].start]
    why = explain_worse(ALIAS, quiet, changes)
    assert why.onset is None
    assert [cause.score for cause in why.causes] == [0.0] * len(changes)
    assert [*explain_worse(ALIAS, [], []).causes] == []
