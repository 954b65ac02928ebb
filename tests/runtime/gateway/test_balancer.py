"""Which server is asked, on a clock of the test's own."""

import pytest

from runtime.gateway.traffic.balancer import (
    MAX_ATTEMPTS,
    MISSING_S,
    SHOWN_MISSING_S,
    LoadBalancer,
)
from runtime.gateway.traffic.concurrency import ConcurrencyLimiter, InFlight
from runtime.gateway.traffic.outliers import MAX_CONSECUTIVE_ERRORS, MAX_EJECTION_S

THREE = ("a", "b", "c")


def made(in_flight: InFlight | None = None, **busy: int) -> LoadBalancer:
    in_flight = in_flight or InFlight()
    for server, number in busy.items():
        for _ in range(number):
            in_flight.add(server, "v1")
    return LoadBalancer(in_flight, ConcurrencyLimiter(in_flight.servers))


def picks(balancer: LoadBalancer, now: float = 0.0, adapter: str = "v1") -> set[str]:
    return {balancer.choose(THREE, adapter, (), now) for _ in range(6)}


def test_the_least_busy_is_asked_and_equals_take_turns() -> None:
    assert picks(made(a=1, b=2, c=3)) == {"a"}
    assert picks(made(a=1)) == {"b", "c"}
    assert picks(made()) == {"a", "b", "c"}


@pytest.mark.parametrize("is_marked", [False, True])
def test_of_equals_those_are_asked_that_run_the_version(*, is_marked: bool) -> None:
    in_flight = InFlight()
    balancer = made(in_flight, a=1)
    in_flight.add("b", "v2")
    in_flight.add("c", "v2")
    if is_marked:
        balancer.record_missing("d", "v1", 0)
    assert picks(balancer) == {"a"}
    assert picks(balancer, adapter="v2") == {"b", "c"}
    assert picks(balancer, adapter="v3") == {"a", "b", "c"}
    in_flight.add("a", "v1")
    assert picks(balancer) == {"b", "c"}


@pytest.mark.parametrize("is_marked", [False, True])
def test_of_equals_those_are_asked_that_report_the_version_in_a_slot(*, is_marked: bool) -> None:
    balancer = made()
    if is_marked:
        balancer.record_missing("d", "v1", 0)
    balancer.record_resident("b", frozenset({"v1"}))
    balancer.record_resident("c", frozenset({"v1", "v2"}))
    assert picks(balancer) == {"b", "c"}
    assert picks(balancer, adapter="v2") == {"c"}
    assert picks(balancer, adapter="v3") == {"a", "b", "c"}
    balancer.record_resident("c", None)
    assert picks(balancer, adapter="v2") == {"a", "b", "c"}
    balancer.retain({"a": "", "c": ""}, set())
    assert picks(balancer) == {"a", "b", "c"}


def test_the_next_is_one_that_was_not_tried_and_there_is_an_end() -> None:
    balancer = made(a=0, b=1, c=2)
    assert balancer.choose(THREE, "v1", ("a",), 0) == "b"
    assert balancer.choose(THREE, "v1", ("a", "b"), 0) == "c"
    assert balancer.choose(THREE, "v1", THREE, 0) == ""
    assert balancer.choose((*THREE, "d"), "v1", THREE[:MAX_ATTEMPTS], 0) == ""
    assert balancer.choose((), "v1", (), 0) == ""


def test_a_server_that_cannot_be_reached_rests_longer_each_time() -> None:
    balancer = made(b=1, c=1)
    now = 0.0
    for rest in (1.0, 2.0, 4.0, 8.0, 16.0, MAX_EJECTION_S, MAX_EJECTION_S):
        balancer.eject("a", now)
        assert balancer.health("a", now) == "resting"
        assert picks(balancer, now + rest - 0.01) == {"b", "c"}
        now += rest
        assert picks(balancer, now) == {"a"}  # it may show whether it is well again
    for _ in range(2000):  # requests to an alias that has no other server
        balancer.eject("a", now)
    assert picks(balancer, now + MAX_EJECTION_S) == {"a"}
    balancer.record_success("a", "v1")
    balancer.eject("a", now)
    assert picks(balancer, now + 1) == {"a"}


@pytest.mark.parametrize(
    ("errors", "asked"), [(MAX_CONSECUTIVE_ERRORS - 1, {"a"}), (MAX_CONSECUTIVE_ERRORS, {"b", "c"})]
)
def test_a_row_of_errors_puts_a_server_to_rest(errors: int, asked: set[str]) -> None:
    balancer = made(b=1, c=1)
    for _ in range(errors):
        balancer.record_error("a", 0)
    assert picks(balancer, 0.5) == asked


def test_an_answer_ends_a_row_of_errors() -> None:
    balancer = made(b=1, c=1)
    for _ in range(3):
        for _ in range(MAX_CONSECUTIVE_ERRORS - 1):
            balancer.record_error("a", 0)
        balancer.record_success("a", "v1")
    assert picks(balancer) == {"a"}


def test_a_version_that_is_not_there_is_asked_for_elsewhere_and_others_are_not() -> None:
    balancer = made(b=1, c=1)
    balancer.record_missing("a", "v1", 3)
    assert picks(balancer, 3) == {"b", "c"}
    assert picks(balancer, 3, adapter="v2") == {"a"}
    assert balancer.missing(5) == [{"server": "a", "adapter": "v1", "seconds": 2.0}]
    assert picks(balancer, 3 + MISSING_S) == {"a"}  # one request looks whether it is back
    balancer.record_missing("a", "v1", 20)
    assert balancer.missing(21)[0]["seconds"] == 18.0  # since it was first missed
    balancer.record_success("a", "v1")
    assert balancer.missing(21) == []


def test_a_server_that_fails_its_check_is_asked_last() -> None:
    balancer = made(b=1, c=1)
    balancer.record_health("a", healthy=False)
    assert picks(balancer) == {"b", "c"}
    assert balancer.health("a", 0) == "down"
    for server in ("b", "c"):
        balancer.eject(server, 0)
    assert picks(balancer, 0.5) == {"a"}  # where all seem down, the least busy may yet answer
    balancer.record_health("a", healthy=True)
    assert balancer.health("a", 0.5) == "up"


def test_what_left_the_table_is_forgotten() -> None:
    balancer = made()
    balancer.record_missing("a", "v1", 0)
    balancer.record_missing("a", "v2", 0)
    balancer.eject("b", 0)
    balancer.record_health("c", healthy=False)
    balancer.retain({"a": "", "b": ""}, {("a", "v1")})
    assert [each["adapter"] for each in balancer.missing(0)] == ["v1"]
    assert [balancer.health(each, 0) for each in THREE] == ["up", "resting", "up"]


def test_a_version_that_nobody_asks_for_any_more_is_not_missing_for_good() -> None:
    balancer = made()
    balancer.record_missing("a", "v1", 3)
    balancer.record_missing("a", "v1", 20)
    assert [each["seconds"] for each in balancer.missing(20 + SHOWN_MISSING_S - 1)] == [46.0]
    assert balancer.missing(20 + SHOWN_MISSING_S) == []


def test_what_is_noted_while_another_table_comes_is_kept() -> None:
    in_flight = InFlight()
    balancer = LoadBalancer(in_flight, ConcurrencyLimiter(in_flight.servers))

    class Table:
        """Notes more trouble on every call, as the event loop does meanwhile."""

        def __contains__(self, each: object) -> bool:
            name = f"more-{each}"
            balancer.eject(name, 1.0)
            balancer.record_health(f"{name}-down", healthy=False)
            balancer.record_missing(name, "v", 1.0)
            return each not in {"s1", ("s1", "v")}

    for server in ("s1", "s2"):
        balancer.eject(server, 1.0)
        balancer.record_health(f"{server}-down", healthy=False)
        balancer.record_missing(server, "v", 1.0)
    balancer.retain(Table(), Table())
    found = {name: balancer.health(name, 1.0) for name in ("s1", "s2", "more-s1", "more-s1-down")}
    assert found == {"s1": "up", "s2": "resting", "more-s1": "resting", "more-s1-down": "down"}
    assert "more-s1" in {each["server"] for each in balancer.missing(1.0)}
