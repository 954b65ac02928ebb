"""Plans made by hand, for what shows them."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from fleet.codec import plan_id
from fleet.plan import Action, Change, DeviceUse, GateDue, Impact, Plan, Reason
from fleet.resources import LoadedAdapter, Route, Share
from fleet.steps import LoadAdapter, SetRoute, SmokeTest, Step

SERVER = "tiny-laptop-cpu0"
OLD, NEW = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0"
DIGEST = "41b7" * 16
MIB = 2**20


def _canary() -> Plan:
    loaded = LoadedAdapter(NEW, SERVER, DIGEST)
    before = Route("acme-support", (Share(OLD, 100, (SERVER,)),), "s1")
    after = Route("acme-support", (Share(NEW, 10, (SERVER,)), Share(OLD, 90, (SERVER,))), "s2")
    load, smoke = f"load {loaded.address}", f"smoke {loaded.address}"
    plan = Plan(
        id="",
        fleet="quickstart",
        changes=(
            Change(
                loaded.address,
                Action.CREATE,
                None,
                loaded,
                Reason.ROLLOUT_STARTED,
                "Version 2.2.0 is declared and not loaded yet.",
                "clients/acme.yaml:9:18",
            ),
            Change(
                before.address,
                Action.UPDATE,
                before,
                after,
                Reason.ROLLOUT_STARTED,
                "Rollout `standard` starts with 10 percent.",
                "clients/acme.yaml:9:18",
                (("2.2.0", "", "10 %"), ("2.1.0", "100 %", "90 %")),
            ),
        ),
        steps=(
            Step(load, LoadAdapter(loaded), loaded.address, None, (), SERVER, 2.5, 120),
            Step(
                smoke,
                SmokeTest(loaded, ("I was charged twice.",)),
                loaded.address,
                loaded,
                (load,),
                SERVER,
                1.0,
                60,
            ),
            Step(
                f"set_route {after.address}",
                SetRoute(after),
                after.address,
                before,
                (smoke,),
                "gateway",
                0.1,
                30,
            ),
        ),
        capacity=(
            DeviceUse(
                SERVER,
                "laptop",
                ("cpu0",),
                8 * 2**30,
                3 * MIB,
                5 * MIB,
                64 * MIB,
                512 * MIB,
                8,
                3,
                4,
                4,
                "uncalibrated",
            ),
        ),
        impacts=(
            Impact(
                "acme",
                "premium",
                "acme-support",
                "2.1.0 100 % -> 90 %, 2.2.0 10 %",
                10,
                30.0,
                "fleetctl rollback acme-support",
                "warm",
                1.0,
                interrupted=False,
            ),
        ),
        gates=(
            GateDue("acme-support", "accuracy", "accuracy_drop", "at most 3 pp", "no evidence"),
        ),
        cost_before=0.0,
        cost_after=0.0,
        unchanged=11,
        untouched_clients=("birch", "dune"),
        ledger_seq=12,
    )
    return replace(plan, id=plan_id(plan))


@pytest.fixture
def canary() -> Plan:
    """A new version of one client's adapter at 10 percent."""
    return _canary()


@pytest.fixture
def converged() -> Plan:
    """Nothing to do."""
    plan = replace(_canary(), changes=(), steps=(), capacity=(), impacts=(), gates=(), unchanged=13)
    return replace(plan, id=plan_id(plan))


@pytest.fixture
def huge() -> Callable[[int], Plan]:
    """A plan that loads a first version for each of so many clients, on ten servers."""

    def make(clients: int) -> Plan:
        changes, steps, impacts = [], [], []
        for number in range(clients):
            server = f"tiny-laptop-cpu{number % 10}"
            loaded = LoadedAdapter(f"client{number}-support-tiny-v1.0.0", server, DIGEST)
            route = Route(f"client{number}-support", (Share(loaded.adapter, 100, (server,)),), "s")
            changes += [
                Change(
                    each.address,
                    Action.CREATE,
                    None,
                    each,
                    Reason.DECLARED,
                    "It is declared and does not exist.",
                    f"clients/client{number}.yaml:4:7",
                )
                for each in (loaded, route)
            ]
            load = f"load {loaded.address}"
            steps += [
                Step(load, LoadAdapter(loaded), loaded.address, None, (), server, 2.0, 60),
                Step(
                    f"set_route {route.address}",
                    SetRoute(route),
                    route.address,
                    None,
                    (load,),
                    "gateway",
                    0.1,
                    30,
                ),
            ]
            impacts.append(
                Impact(
                    f"client{number}",
                    "standard",
                    route.alias,
                    "1.0.0 100 %, new",
                    100,
                    None,
                    "",
                    "none",
                    None,
                    interrupted=False,
                )
            )
        plan = replace(
            _canary(),
            changes=tuple(changes),
            steps=tuple(steps),
            impacts=tuple(impacts),
            gates=(),
        )
        return replace(plan, id=plan_id(plan))

    return make
