"""What a placement does that the declarations forbid: counted alike for ours and for peers'.

- `load`: servers that are asked in some hour for more than they may carry.
- `apart`: adapters with fewer copies on different servers than are declared.
- `slots`: servers with more adapters than LoRA slots, where each was declared to have its own.
- `stock`: devices that are used and not declared, by kind.
"""

from collections import Counter
from collections.abc import Sequence

from fleet.capacity.demand import HOURS
from fleet.capacity.server import NO_REQUEST_MIX, ServerShape, request_mix_of, throughput_of
from fleet.placement.model.accounts import replica_load
from fleet.spec import FleetSpec
from tests.bench.peers.rules import Pod

ROUNDING = 1.0001
"""Of sums of real numbers."""


def breaches(fleet: FleetSpec, pods: Sequence[Pod]) -> dict[str, int]:
    """Return how often a placement breaks each rule, those that it keeps left out."""
    copies = Counter(alias for pod in pods for alias in pod.adapters)
    used: Counter[str] = Counter()
    for pod in pods:
        used[pod.shape.device.kind] += pod.shape.tensor_parallel
    declared = Counter(each.kind for host in fleet.hosts.values() for each in host.devices)
    pinned = {alias for alias, each in fleet.adapters.items() if each.residency == "pinned"}
    found = {
        "load": sum(fullest(fleet, pod.shape, pod.adapters, copies) > ROUNDING for pod in pods),
        "apart": sum(copies[alias] < each.replicas for alias, each in fleet.adapters.items()),
        "slots": sum(len(pinned.intersection(pod.adapters)) > pod.shape.slots for pod in pods),
        "stock": (used - declared).total(),
    }
    return {rule: count for rule, count in found.items() if count}


def fullest(
    fleet: FleetSpec, shape: ServerShape, adapters: Sequence[str], copies: Counter[str]
) -> float:
    """Return the part of what a server may carry that is asked of it in its busiest hour."""
    habits = request_mix_of(fleet.adapters.values()).get(shape.base.name, NO_REQUEST_MIX)
    made = throughput_of(shape, habits, fleet.profiles, fleet.policy.utilization)
    loads = [replica_load(fleet.adapters[alias], copies[alias]) for alias in adapters]
    return max(
        sum(each.tokens[hour] for each in loads)
        / made.at(sum(each.concurrency[hour] for each in loads))
        for hour in range(HOURS)
    )
