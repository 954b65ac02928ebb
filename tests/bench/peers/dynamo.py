"""How Dynamo places adapters since its release 1.6: with replicas in proportion to their demand.

All slots of a base are given away: an adapter has its share of the requests in its busiest hour as
its share of the slots, at least one and at most one a pod. The pods are those of the highest
hashes that have a free slot; an adapter stays on pods that it has. Optionally a min-cost flow
chooses the pods of all adapters together. Declared replicas and tokens are not known there.

What is compared is the state that the controller settles in: shrinking waits there for three of
its ticks, of three seconds each. Its flow looks at the first 16 pods by hash, this one at all.

Source: ai-dynamo/dynamo, `lib/llm/src/lora`: `controller.rs` (`compute_active_replica_counts`),
`routing/hrw.rs`, `routing/mcf_allocator.rs` with its defaults, as published in 2026.
"""

import hashlib
from collections.abc import Sequence
from math import ceil, floor

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array

from fleet.capacity.demand import hourly_rpm
from tests.bench.peers.rules import Pod, Site, enough, slots_of

COST_OF_RANK = 1
"""Cost of the flow for each pod that has a higher hash."""
COST_OF_LOADING = 1_000
"""Cost of the flow for a pod that does not have the adapter."""
COST_OF_KEEPING = -250
"""Cost of the flow for a pod that has the adapter."""
COST_OF_DROPPING = 1_000_000
"""Cost of the flow for a replica beyond an adapter's first that finds no slot."""


def by_hash(site: Site, before: Sequence[Pod]) -> list[Pod]:
    """Dynamo: rendezvous hashing by demand share; pods without a free slot are skipped."""
    slots, pods = slots_of(site), _pods(site)
    counts = replica_counts(site, len(pods), len(pods) * slots)
    ranked = {alias: sorted(pods, key=lambda pod: _hash(alias, pod)) for alias in counts}
    prior = _prior(before)
    for kept in (True, False):  # what stays takes its slots before what comes
        for alias, count in counts.items():
            held = sum(alias in pod.adapters for pod in pods)
            open_to = (
                pod for pod in ranked[alias]
                if len(pod.adapters) < slots and alias not in pod.adapters
                and (not kept or (alias, pod.name) in prior)
            )  # fmt: skip
            chosen = [pod for pod, _ in zip(open_to, range(count - held), strict=False)]
            if not (kept or held or chosen):
                chosen = ranked[alias][:count]  # every pod is full
            for pod in chosen:
                pod.adapters.append(alias)
    return pods


def by_flow(site: Site, before: Sequence[Pod]) -> list[Pod]:
    """Dynamo with `mcf`: the cheapest flow from adapters to pods, for the same replicas."""
    slots, pods = slots_of(site), _pods(site)
    counts = replica_counts(site, len(pods), len(pods) * slots)
    prior = _prior(before)
    costs = np.zeros((len(counts), len(pods)))
    for row, alias in enumerate(counts):
        order = sorted(range(len(pods)), key=lambda at: _hash(alias, pods[at]))
        for rank, at in enumerate(order):
            had = (alias, pods[at].name) in prior
            costs[row, at] = COST_OF_RANK * rank + (COST_OF_KEEPING if had else COST_OF_LOADING)
    dropped = np.full((len(counts), 1), COST_OF_DROPPING)
    costs = np.hstack([costs, dropped])
    cells, ones = np.arange(costs.size), np.ones(costs.size)
    wanted, width = list(counts.values()), len(pods) + 1
    found = linprog(
        costs.ravel(),
        A_eq=csr_array((ones, (cells // width, cells))),
        b_eq=wanted,
        A_ub=csr_array((ones, (cells % width, cells))),
        b_ub=[*[slots] * len(pods), sum(wanted)],
        bounds=[
            (0, 1 if cell % width < len(pods) else wanted[cell // width] - 1) for cell in cells
        ],
        method="highs-ds",  # a vertex, which for a flow is whole
    )
    assert found.success
    chosen = found.x.reshape(costs.shape) > 0.5
    for at, pod in enumerate(pods):
        pod.adapters = [alias for alias, row in zip(counts, chosen, strict=True) if row[at]]
    return pods


def replica_counts(site: Site, pods: int, slots: int) -> dict[str, int]:
    """Return the replicas of each adapter, by its share of all requests; `slots` in all at most."""
    demand = {each.alias: max(hourly_rpm(each.demand)) for each in site.adapters}
    total = sum(demand.values()) or 1.0
    raw = {a: min(max(ceil(rpm / total * slots), 1), pods) for a, rpm in demand.items()}
    if sum(raw.values()) <= slots:
        return raw
    scale = slots / sum(raw.values())
    scaled = {alias: max(count * scale, 1.0) for alias, count in raw.items()}
    counts = {alias: floor(count) for alias, count in scaled.items()}
    left = max(slots - sum(counts.values()), 0)
    for alias in sorted(counts, key=lambda alias: (counts[alias] - scaled[alias], alias)):
        if left and counts[alias] < pods:
            counts[alias] += 1
            left -= 1
    return counts


def _pods(site: Site) -> list[Pod]:
    """Return as many empty pods as the declared replicas and the load spread evenly need."""
    replicas = [each.replicas for each in site.adapters]
    slots = slots_of(site)
    count = max(enough(site, slots), -(-sum(replicas) // slots), *replicas)
    return [site.pod(number, slots) for number in range(count)]


def _prior(before: Sequence[Pod]) -> set[tuple[str, str]]:
    return {(alias, pod.name) for pod in before for alias in pod.adapters}


def _hash(alias: str, pod: Pod) -> bytes:
    return hashlib.sha256(f"{alias} {pod.name}".encode()).digest()
