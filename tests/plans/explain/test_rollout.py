"""Status and explain say where a rollout stands and what was found."""

from dataclasses import replace

import pytest

from fleet.codec import plan_id
from fleet.history.values import History
from fleet.plan import Plan, PlanNote
from fleet.planning.pipeline import make_plan
from fleet.resources import Route
from fleet.rollouts.decide import decide_rollouts
from plans.documents import plan_file
from plans.explain.rollout import rollout_facts
from plans.render import RENDERERS
from plans.reports.status import render_text, status
from tests.fleet.planning.builders import DAY, NOON, loaded, state
from tests.fleet.rollouts.gate_trials import (
    ALIAS,
    FAIL,
    NEW,
    OLD,
    UNSURE,
    declared,
    evidence,
    mark,
    past,
    shared,
)


def shown(history: History, live: Route) -> str:
    there = state(live, loaded(NEW, "s"), loaded(OLD, "s"))
    return render_text(status("demo", there, history, [], None))


def test_status_shows_the_gates_of_a_rollout() -> None:
    before = past(10, evidence("accuracy"), evidence("errors", UNSURE, seq=21))
    text = shown(before, shared(10, 90))
    assert "gate accuracy: PASS (#17), PASS said" in text
    assert "gate errors: INCONCLUSIVE (#21), INCONCLUSIVE said" in text
    assert "gate" not in shown(before, shared(100, 0))


def test_status_shows_rejected_bytes_and_what_people_said() -> None:
    text = shown(past(0, evidence("errors", FAIL), marks=[mark("abort")]), shared(0, 100))
    assert "rejected: digest 61636d652d73, gate errors (#17)" in text
    assert "abort: 2.2.0, by ana at 2026-03-02T12:00:00+00:00: we looked" in text


def test_status_shows_until_when_a_rollout_is_paused() -> None:
    text = shown(past(10, marks=[mark("pause", until=NOON + DAY)]), shared(10, 90))
    assert "pause: 2.2.0 until 2026-03-03T12:00:00+00:00, by ana at" in text
    said = replace(mark("approve"), void=NOON + DAY)
    text = shown(past(10, marks=[said]), shared(10, 90))
    assert "approve: 2.2.0 counts no more since 2026-03-03T12:00:00+00:00, by ana at" in text


def test_status_as_json_holds_all_of_it() -> None:
    found = past(10, evidence("errors", FAIL), marks=[mark("hold")])
    (alias,) = status("demo", state(shared(10, 90)), found, [], None)["aliases"]
    assert [(each["gate"], each["verdict"], each["evidence"]) for each in alias["gates"]] == [
        ("errors", "FAIL", 17)
    ]
    assert alias["rejected"][0]["adapter"] == NEW
    assert alias["marks"][0]["by"] == "ana"


def test_explain_says_the_phase_the_gates_and_the_outlook() -> None:
    live = shared(10, 90)
    there = state(live, loaded(NEW, "s"), loaded(OLD, "s"))
    before = past(10, evidence("accuracy"), evidence("errors", UNSURE))
    what, now = declared(), NOON + DAY
    made = decide_rollouts(what, there, before, now)
    outlook = (PlanNote("well", ALIAS), PlanNote("no", "other"))
    plan = replace(make_plan(what, there, before, now), outlook=outlook)
    facts = list(rollout_facts(plan, made, live))
    assert facts[:3] == [
        ("Rollout", "2.2.0 is extended"),
        ("Gate", "accuracy (accuracy_drop 3 pp): PASS: PASS said"),
        ("Gate", "errors (error_rate_rise 2 pp): INCONCLUSIVE: INCONCLUSIVE said"),
    ]
    assert facts[3] == ("", "no demand is declared, so nothing can be said of it")
    assert facts[4:] == [("Outlook", "well")]


def told() -> Plan:
    live = shared(10, 90)
    there = state(live, loaded(NEW, "s"), loaded(OLD, "s"))
    before = past(10, evidence("accuracy"), evidence("errors", UNSURE))
    made = make_plan(declared(), there, before, NOON + DAY)
    first, second = made.gates
    return replace(
        made,
        gates=(first, replace(second, power="seldom tells")),
        outlook=(PlanNote("mostly held", ALIAS),),
    )


@pytest.mark.parametrize("form", ["text", "md", "html", "json"])
def test_every_rendering_says_what_gates_are_likely_to_tell(form: str) -> None:
    shown = RENDERERS[form](told())
    assert "seldom tells" in shown
    assert "mostly held" in shown


def test_what_is_estimated_is_no_part_of_a_plans_id() -> None:
    plan = told()
    bare = replace(
        plan, outlook=(), gates=tuple(replace(each, power="", detail="") for each in plan.gates)
    )
    assert plan_id(plan) == plan_id(bare)
    passed = tuple(replace(each, status="PASS") for each in plan.gates)
    assert plan_id(plan) != plan_id(replace(plan, gates=passed))
    assert plan_file.load(plan_file.dump(replace(plan, id=plan_id(plan)))).outlook == plan.outlook
