"""A forecast that raises ends itself: the plan goes on, with a note that has the code."""

from dataclasses import replace

import pytest

from fleet.gates.decide import Counts
from fleet.plan import Plan
from fleet.planning.pipeline import make_plan
from tests.fleet.planning.builders import NOON, base, host, loaded, state
from tests.fleet.rollouts.gate_trials import ALIAS, ALONE, OLD, UNSURE, evidence, past
from tests.fleet.rollouts.test_forecast import fleet


def planned(counts: Counts) -> Plan:
    """Plan a rollout whose gate on errors was judged before with these counts."""
    known = evidence("errors", UNSURE)
    known = replace(known, finding=replace(known.finding, counts=counts))
    what = fleet()
    what = replace(what, bases={"tiny": base()}, hosts={"laptop": host()})
    return make_plan(what, state(ALONE, loaded(OLD, "s")), past(None, known), NOON)


@pytest.mark.parametrize("bad", [10, 500])
def test_counts_that_no_traffic_has_end_a_forecast_and_no_plan(bad: int) -> None:
    """Before, 500 bad requests of 400, as in a damaged entry, ended the plan with a ValueError."""
    plan = planned({"bad_stable": (bad,), "requests_stable": (400,)})
    (note,) = plan.outlook
    assert note.subject == ALIAS
    if bad == 10:
        assert note.text.startswith("if 2.2.0 is no worse")
        return
    assert note.text.startswith("no forecast: fleetctl itself failed [FC1311]: ValueError at ")
