"""Healthy and sick weeks: a small part of what `make bench-alerts` prints."""

import numpy as np

from tests.bench.alerts import detection, healthy
from tests.fleet.alerting.simulation import Sickness


def test_a_healthy_week_rings_nothing_where_the_naive_rule_does() -> None:
    alerts, rings = healthy(np.random.default_rng(14), 1, 1)
    assert sum(alerts.values()) == 0
    assert rings > 0


def test_a_slow_alias_is_found_within_hours() -> None:
    hours, _ = detection(np.random.default_rng(14), 5, ("slow",), Sickness(slower=4))
    assert hours is not None
    assert hours <= 2
