from dataclasses import replace

import pytest

from fleet.plan import Action, Change, Plan, PlanNote, Reason
from fleet.resources import Server
from plans.render.verdict import ReviewLevel, judge


@pytest.mark.parametrize(
    ("changed", "level", "reason"),
    [
        ({}, ReviewLevel.SAFE, "no restart"),
        ({"back_out_class": "cold"}, ReviewLevel.DANGER, "cold"),
        ({"share_moved": 11}, ReviewLevel.CARE, "premium"),
        ({"share_moved": 11, "tier": "standard"}, ReviewLevel.SAFE, "no restart"),
        ({"interrupted": True}, ReviewLevel.DANGER, "will fail"),
        ({"interrupted": True, "waits": True}, ReviewLevel.DANGER, "will wait"),
    ],
)
def test_the_verdict_on_what_a_client_will_notice(
    canary: Plan, changed: dict[str, object], level: ReviewLevel, reason: str
) -> None:
    impact = replace(canary.impacts[0], **changed)  # type: ignore[arg-type]
    verdict = judge(replace(canary, impacts=(impact,)))
    assert verdict.level is level
    assert reason in verdict.reasons[0]


@pytest.mark.parametrize(
    ("before", "during", "level"),
    [(3, 7, ReviewLevel.SAFE), (3, 8, ReviewLevel.CARE), (8, 8, ReviewLevel.SAFE)],
)
def test_the_verdict_on_slots(canary: Plan, before: int, during: int, level: ReviewLevel) -> None:
    use = replace(canary.capacity[0], slots_before=before, slots_during=during, slots=8)
    assert judge(replace(canary, capacity=(use,))).level is level


def test_a_restart_that_interrupts_nobody_needs_no_decision_and_comes_first(canary: Plan) -> None:
    server = Server("tiny-laptop-cpu0", "tiny", "laptop", ("cpu0",), 8100, "0a1b2c3d4e5f")
    restart = Change(
        server.address, Action.REPLACE, server, server, Reason.FLAGS_CHANGED, "Flags differ."
    )
    changes, known = (
        (*canary.changes, restart),
        replace(
            canary.capacity[0], memory_basis="measured", load=canary.capacity[0].load or (0.0,) * 24
        ),
    )
    verdict = judge(replace(canary, changes=changes, capacity=(known,), warnings=(PlanNote("w"),)))
    assert verdict.level is ReviewLevel.CARE
    assert verdict.reasons == ("1 server to restart", "1 warning")
