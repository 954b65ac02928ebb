"""What rollouts of clients of people come to, request by request, through the judges."""

import numpy as np
import pytest

from tests.fleet.gates.request_traffic import Client, Harm, draw
from tests.fleet.gates.whole_rollouts import play, play_naive


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_client_asks_as_often_and_fails_as_often_as_is_said() -> None:
    drawn = draw(rng(1), Client(rpm=20), Harm(), before=168, after=168)
    a_week = 20 * 60 * (5 * 9 + (168 - 5 * 9) * 0.05)
    assert len(drawn.hour) == pytest.approx(2 * a_week, rel=0.1)
    assert drawn.bad["errors"][0].mean() == pytest.approx(0.01, rel=0.25)
    assert drawn.bad["format"][0].mean() == pytest.approx(0.03, rel=0.25)
    assert (np.diff(drawn.hour) >= 0).all()


def test_a_healthy_version_fails_exactly_what_the_old_one_fails() -> None:
    drawn = draw(rng(2), Client(users=60), Harm(), before=24, after=24)
    for old, new in drawn.bad.values():
        assert (old == new).all()


def test_harm_of_a_part_of_the_users_is_of_that_part() -> None:
    drawn = draw(rng(3), Client(users=400, rpm=30), Harm(errors=0.5, who=0.1), before=0, after=24)
    old, new = drawn.bad["errors"]
    worse = np.unique(drawn.user[new & ~old])
    assert 0.03 < len(worse) / 400 < 0.2


def test_a_healthy_version_of_many_people_is_never_rolled_back_in_these_rollouts() -> None:
    assert "rolled_back" not in {play(rng(seed), Client(), Harm()).how for seed in range(4)}


def test_a_version_that_fails_half_of_all_requests_is_rolled_back() -> None:
    for seed in range(3):
        end = play(rng(seed), Client(), Harm(errors=0.5))
        assert (end.how, end.gates) == ("rolled_back", ("errors",))
        assert end.hours < 3


def test_a_version_that_fails_most_requests_of_a_few_people_is_rolled_back_in_an_hour() -> None:
    for seed in range(3):
        end = play(rng(seed), Client(users=60), Harm(errors=0.8))
        assert end.how == "rolled_back"
        assert (end.after_tenth or 0) < 1


def test_rules_of_thumb_call_a_healthy_version_worse() -> None:
    ends = [play_naive(rng(seed), Client(), Harm()) for seed in range(20)]
    assert sum(test.how == "rolled_back" for test, _ in ends) > 5
    assert sum(hour.how == "rolled_back" for _, hour in ends) > 5
