"""Which server is asked, on a clock of the test's own."""

import pytest

from runtime.gateway.inflight import InFlight
from runtime.gateway.replicas import ATTEMPTS, LONGEST_REST_S, LOST_S, SHOWN_S, STREAK, Replicas
from runtime.gateway.rooms import Rooms

THREE = ("a", "b", "c")


def made(**busy: int) -> Replicas:
    in_flight = InFlight()
    for server, number in busy.items():
        for _ in range(number):
            in_flight.enter(server, "v1")
    return Replicas(in_flight, Rooms(in_flight))


def picks(replicas: Replicas, now: float = 0.0, adapter: str = "v1") -> set[str]:
    return {replicas.pick(THREE, adapter, (), now) for _ in range(6)}


def test_the_least_busy_is_asked_and_equals_take_turns() -> None:
    assert picks(made(a=1, b=2, c=3)) == {"a"}
    assert picks(made(a=1)) == {"b", "c"}
    assert picks(made()) == {"a", "b", "c"}


def test_the_next_is_one_that_was_not_tried_and_there_is_an_end() -> None:
    replicas = made(a=0, b=1, c=2)
    assert replicas.pick(THREE, "v1", ("a",), 0) == "b"
    assert replicas.pick(THREE, "v1", ("a", "b"), 0) == "c"
    assert replicas.pick(THREE, "v1", THREE, 0) == ""
    assert replicas.pick((*THREE, "d"), "v1", THREE[:ATTEMPTS], 0) == ""
    assert replicas.pick((), "v1", (), 0) == ""


def test_a_server_that_cannot_be_reached_rests_longer_each_time() -> None:
    replicas = made(b=1, c=1)
    now = 0.0
    for rest in (1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_REST_S, LONGEST_REST_S):
        replicas.failed("a", now)
        assert replicas.health("a", now) == "resting"
        assert picks(replicas, now + rest - 0.01) == {"b", "c"}
        now += rest
        assert picks(replicas, now) == {"a"}  # it may show whether it is well again
    replicas.worked("a", "v1")
    replicas.failed("a", now)
    assert picks(replicas, now + 1) == {"a"}


@pytest.mark.parametrize(("errors", "asked"), [(STREAK - 1, {"a"}), (STREAK, {"b", "c"})])
def test_a_row_of_errors_puts_a_server_to_rest(errors: int, asked: set[str]) -> None:
    replicas = made(b=1, c=1)
    for _ in range(errors):
        replicas.erred("a", 0)
    assert picks(replicas, 0.5) == asked


def test_an_answer_ends_a_row_of_errors() -> None:
    replicas = made(b=1, c=1)
    for _ in range(3):
        for _ in range(STREAK - 1):
            replicas.erred("a", 0)
        replicas.worked("a", "v1")
    assert picks(replicas) == {"a"}


def test_a_version_that_is_not_there_is_asked_for_elsewhere_and_others_are_not() -> None:
    replicas = made(b=1, c=1)
    replicas.lost("a", "v1", 3)
    assert picks(replicas, 3) == {"b", "c"}
    assert picks(replicas, 3, adapter="v2") == {"a"}
    assert replicas.missing(5) == [{"server": "a", "adapter": "v1", "seconds": 2.0}]
    assert picks(replicas, 3 + LOST_S) == {"a"}  # one request looks whether it is back
    replicas.lost("a", "v1", 20)
    assert replicas.missing(21)[0]["seconds"] == 18.0  # since it was first missed
    replicas.worked("a", "v1")
    assert replicas.missing(21) == []


def test_a_server_that_fails_its_check_is_asked_last() -> None:
    replicas = made(b=1, c=1)
    replicas.checked("a", healthy=False)
    assert picks(replicas) == {"b", "c"}
    assert replicas.health("a", 0) == "down"
    for server in ("b", "c"):
        replicas.failed(server, 0)
    assert picks(replicas, 0.5) == {"a"}  # where all seem down, the least busy may yet answer
    replicas.checked("a", healthy=True)
    assert replicas.health("a", 0.5) == "up"


def test_what_left_the_table_is_forgotten() -> None:
    replicas = made()
    replicas.lost("a", "v1", 0)
    replicas.lost("a", "v2", 0)
    replicas.failed("b", 0)
    replicas.checked("c", healthy=False)
    replicas.forget({"a": "", "b": ""}, {("a", "v1")})
    assert [each["adapter"] for each in replicas.missing(0)] == ["v1"]
    assert [replicas.health(each, 0) for each in THREE] == ["up", "resting", "up"]


def test_a_version_that_nobody_asks_for_any_more_is_not_missing_for_good() -> None:
    replicas = made()
    replicas.lost("a", "v1", 3)
    replicas.lost("a", "v1", 20)
    assert [each["seconds"] for each in replicas.missing(20 + SHOWN_S - 1)] == [46.0]
    assert replicas.missing(20 + SHOWN_S) == []


def test_what_is_noted_while_another_table_comes_is_kept() -> None:
    in_flight = InFlight()
    replicas = Replicas(in_flight, Rooms(in_flight))

    class Table:
        """Notes more trouble each time that it is asked, as the event loop does meanwhile."""

        def __contains__(self, each: object) -> bool:
            name = f"more-{each}"
            replicas.failed(name, 1.0)
            replicas.checked(f"{name}-down", healthy=False)
            replicas.lost(name, "v", 1.0)
            return each not in {"s1", ("s1", "v")}

    for server in ("s1", "s2"):
        replicas.failed(server, 1.0)
        replicas.checked(f"{server}-down", healthy=False)
        replicas.lost(server, "v", 1.0)
    replicas.forget(Table(), Table())
    found = {name: replicas.health(name, 1.0) for name in ("s1", "s2", "more-s1", "more-s1-down")}
    assert found == {"s1": "up", "s2": "resting", "more-s1": "resting", "more-s1-down": "down"}
    assert "more-s1" in {each["server"] for each in replicas.missing(1.0)}
