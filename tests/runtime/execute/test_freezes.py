"""A freeze ends an apply before its next step; repairs and ways back go on."""

import asyncio

import pytest

from fleet.errors import FrozenError
from fleet.history import Frozen, Thawed
from tests.runtime.execute.bench import Bench
from tests.runtime.execute.small_fleet import FAQ, OLD, declared, verdicts


def freeze(bench: Bench) -> None:
    """Append the entry as another process does."""
    made = bench.ledger()
    made.trap = lambda _: None
    made.append([Frozen("incident")])


def test_a_running_apply_finishes_its_step_and_begins_no_other(bench: Bench) -> None:
    def fault(_: int, label: str) -> None:
        if label.startswith(f"before load {OLD}"):
            freeze(bench)

    with bench.faults(fault):
        outcome = asyncio.run(bench.apply(declared(OLD, FAQ)))
    found = verdicts(outcome)
    assert (outcome.exit_code, outcome.result) == (5, "frozen")
    assert found[f"load adapter/{OLD}@tiny-laptop-cpu0"] == "done"
    assert found["set route/acme-support"] == "not_run"
    (event,) = (event for event in bench.events if event.type == "frozen")
    assert event.data["reason"] == "incident"
    assert bench.history().unfinished == {}


def test_a_frozen_fleet_is_left_alone_until_thawed(bench: Bench) -> None:
    freeze(bench)
    with pytest.raises(FrozenError, match="incident"):
        asyncio.run(bench.apply(declared(OLD)))
    assert not asyncio.run(bench.observe()).resources
    bench.ledger().append([Thawed()])
    assert asyncio.run(bench.apply(declared(OLD))).exit_code == 0


def test_a_freeze_and_a_thaw_between_two_steps_stop_nothing(bench: Bench) -> None:
    def fault(_: int, label: str) -> None:
        if label.startswith(f"before load {OLD}"):
            freeze(bench)
            made = bench.ledger()
            made.trap = lambda _: None
            made.append([Thawed()])

    with bench.faults(fault):
        assert asyncio.run(bench.apply(declared(OLD))).exit_code == 0


def test_what_does_not_heed_a_freeze_goes_on(bench: Bench) -> None:
    freeze(bench)
    plan = asyncio.run(bench.plan(declared(OLD)))
    assert plan.frozen is not None
    outcome = asyncio.run(bench.apply(declared(OLD), plan=plan, heeds_freeze=False))
    assert outcome.exit_code == 0
