import json
import re
from dataclasses import replace

from fleet.plan import Plan
from plans.render.graph import FORMATS, as_json, dot, mermaid


def test_the_graphs_hold_every_step_and_every_need_in_its_lane(canary: Plan) -> None:
    for shown, arrow in ((dot(canary), "->"), (mermaid(canary), "-->")):
        for step in canary.steps:
            assert shown.count(step.id) == 1
        assert re.findall(rf"^ +(s\d) {arrow} (s\d)", shown, re.MULTILINE) == [
            ("s1", "s2"),
            ("s2", "s3"),
        ]
        assert shown.index("gateway") < shown.index("set_route") < shown.index("load adapter")


def test_json_names_the_steps_and_what_they_need(canary: Plan) -> None:
    read = json.loads(as_json(canary))
    assert read["plan_id"] == canary.id
    assert [each["id"] for each in read["steps"]] == [each.id for each in canary.steps]
    assert read["steps"][1]["needs"] == [canary.steps[0].id]


def test_quotes_in_a_name_do_not_break_the_graph(canary: Plan) -> None:
    step = replace(canary.steps[0], id='load "x" <b>', lane='a"b')
    plan = replace(canary, steps=(step,))
    assert '[label="load \\"x\\" <b>"]' in dot(plan)
    assert '["load #quot;x#quot; #lt;b#gt;"]' in mermaid(plan)


def test_a_plan_without_steps_is_an_empty_graph(converged: Plan) -> None:
    assert all(FORMATS[form](converged).strip() for form in FORMATS)
    assert mermaid(converged) == "flowchart LR\n"
