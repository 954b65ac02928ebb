"""Restarts in place: what a run without the ledger's home may put back."""

from dataclasses import replace

import pytest

from fleet.names import Address, adapter_address
from fleet.planning import DriftAction, classify_drift, in_place, repair, without_routes
from fleet.resources import Fault, OutageKind, State
from fleet.steps import LoadAdapter, SmokeTest, StartServer, StopServer
from tests.fleet.planning.test_drift import FAQ, OLD, established, live

ENDED = {"a": "0123456789ab"}
HUNG = {Address("server/a"): Fault("hangs", "", OutageKind.SERVER_HUNG, heals=True)}


@pytest.mark.parametrize(("seen", "addresses"), [
    (replace(live("server/a", "@a"), ended=ENDED), {"server/a", adapter_address(OLD, "a")}),
    (live("server/a", "@a"), set()),  # its host has no record of it: it was stopped
    (replace(live("server/a", "@a", "route/"), ended=ENDED), set()),  # no route names it any more
    (replace(live("server/b", "@b"), ended={"b": "0123456789ab"}), set()),
    (live(OLD), {adapter_address(OLD, "a")}),
    (live(FAQ), set()),
    (live("route/", "key/"), set()),
    (replace(live("server/a", "@a"), unknown_servers={"a": "silent"}, faults=HUNG), {"server/a"}),
])  # fmt: skip
def test_that_is_put_back_which_routes_name_and_nobody_stopped(
    seen: State, addresses: set[str]
) -> None:
    healed = [c for c in classify_drift(established(), seen) if c.remedy is DriftAction.HEAL]
    due = in_place(healed, seen)
    assert {address for cause in due for address in cause.addresses} == addresses
    plan = repair("fleet", due, established(), without_routes(seen), {})
    allowed = StartServer | StopServer | LoadAdapter | SmokeTest
    assert all(isinstance(step.operation, allowed) for step in plan.steps)
    assert bool(plan.steps) == bool(addresses)
