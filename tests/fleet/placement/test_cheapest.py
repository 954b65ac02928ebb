"""A new server is told to be the cheapest that holds its versions: the check of plans agrees."""

from collections import defaultdict

from fleet.history.values import History
from fleet.placement.alternatives import CHECKS
from fleet.placement.search import place
from fleet.placement.verify.view import PlacementView
from fleet.resources import Server, State
from fleet.rollouts.decide import decide_rollouts
from tests.bench.peers.bench import synthetic
from tests.fleet.planning.builders import NOON


def test_no_cheaper_device_that_is_free_holds_what_a_new_server_holds() -> None:
    fleet = synthetic(120, 26, seed=3)
    targets = decide_rollouts(fleet, State(), History(), NOON)
    made = place(fleet, targets, State())
    price = {
        (host.name, device.name): device.price_per_hour
        for host in fleet.hosts.values()
        for device in host.devices
    }
    taken = {(server.host, device) for server in made.servers.values() for device in server.devices}
    free = defaultdict(list)
    for host, device in sorted(price.keys() - taken):
        free[host].append(device)
    assert free
    compared = 0
    for server in made.servers.values():
        cost = sum(price[server.host, device] for device in server.devices)
        for host, devices in free.items():
            some = tuple(devices[: len(server.devices)])
            cheaper = sum(price[host, device] for device in some) < cost
            if cheaper and len(some) == len(server.devices):
                compared += 1
                there = Server(
                    server.name, server.base, host, some, server.port, server.digest, server.flags
                )
                bound = {name: on for name, on in made.bindings.items() if server.name in on}
                others = {name: its for name, its in made.servers.items() if name != server.name}
                view = PlacementView(
                    fleet, targets, State(), {**others, server.name: there}, bound, {}
                )
                assert any(
                    violation.server in {server.name, f"{host}/{some[0]}"}
                    for check in CHECKS
                    for violation in check(view)
                )
    assert compared
