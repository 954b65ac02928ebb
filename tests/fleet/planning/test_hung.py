"""A server that hangs is replaced once its traffic has gone elsewhere, where that is possible."""

from dataclasses import replace

from fleet.names import Address
from fleet.planning import DriftAction, DriftCause, outages_of, repair
from fleet.resources import Fault, OutageKind, State
from tests.fleet.planning.builders import route
from tests.fleet.planning.test_drift import ALL, FAQ, KEY, OLD, established, live, server


def hung(*unknown: str) -> State:
    """Return the state while servers, all of them hung for long enough, do not answer."""
    gone = [text for name in unknown for text in (f"server/{name}", f"@{name}")]
    both = route("acme-support", (OLD, 100, "a b"))
    faults = {
        Address(f"server/{name}"): Fault("hangs", "x", OutageKind.SERVER_HUNG, heals=True)
        for name in unknown
    }
    return replace(
        live("route", *gone, more=(both,)),
        unknown_servers=dict.fromkeys(unknown, "timeout"),
        faults=faults,
    )


def steps_of(now: State, causes: tuple[DriftCause, ...]) -> list[str]:
    plan = repair("test", causes, established(*ALL[:5], KEY), now, {})
    position = {step.id: number for number, step in enumerate(plan.steps)}
    assert all(position[need] < position[step.id] for step in plan.steps for need in step.needs)
    return [step.id for step in plan.steps]


def test_a_hung_server_is_replaced_once_its_traffic_has_gone_elsewhere() -> None:
    (cause,) = outages_of(established(), hung("a"))
    assert (cause.remedy, cause.outage) == (DriftAction.HEAL, OutageKind.SERVER_HUNG)
    assert steps_of(hung("a"), (cause,)) == [
        "divert route/acme-support", "stop server/a", "start server/a",
        f"load adapter/{OLD}@a", f"load adapter/{FAQ}@a", "set route/acme-support",
    ]  # fmt: skip


def test_no_traffic_goes_to_a_server_that_does_not_answer_either() -> None:
    causes = outages_of(established(), hung("a", "b"))
    alone = [cause for cause in causes if cause.subject == "server/a"]
    done = steps_of(hung("a", "b"), tuple(alone))
    assert [step for step in done if "route" in step] == []
    assert done[:2] == ["stop server/a", "start server/a"]


def test_a_hung_server_that_the_ledger_cannot_start_is_left_to_people() -> None:
    past = established(replace(server("a"), flags=None), *ALL[1:])
    (cause,) = (cause for cause in outages_of(past, hung("a")) if cause.subject == "server/a")
    assert cause.remedy is DriftAction.ALERT
