"""Synthetic fleets: large, valid and lifelike, for sizing studies and benchmarks.

Popularity falls as a power law, clients sit in several time zones and work business hours,
some run daily batches, most are on the standard tier. The same size gives the same bytes.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable

from fleet.config import LOCK_FILE, Lock, LockedAdapter, lock_text
from fleet.hardware import DeviceSpec
from fleet.vllm import (
    GIB,
    SLOTS,
    USABLE,
    kv_bytes_per_token,
    module_shapes,
    pool_bytes,
    reserve_bytes,
)
from fleetctl.synthetic.population import (
    PublicBase,
    SyntheticClient,
    SyntheticSize,
    bases_for,
    people,
)
from plans.templating import rendered

__all__ = ["SyntheticSize", "synthesise"]

SPARE = 2
"""Slots of a server that stay free for canaries, in the estimate of the GPUs."""


def synthesise(size: SyntheticSize) -> tuple[dict[str, str], str]:
    """Return the text of every file by its path, and a warning if the GPUs are too few."""
    population = people(size)
    return files(size, population), _warning(size, population)


def _warning(size: SyntheticSize, clients: Iterable[SyntheticClient]) -> str:
    groups: Counter[tuple[PublicBase, int]] = Counter()
    for client in clients:
        for adapter in client.adapters:
            groups[adapter.base, adapter.rank] += (
                size.replicas if client.tier == "enterprise" else 1
            )
    needed = sum(count / (_slots(*group) - SPARE) for group, count in groups.items())
    least = max(round(needed), len({base for base, _ in groups}))
    if least <= size.gpus:
        return ""
    return (
        f"{size.adapters} adapters with their replicas take about {least} GPUs, and there are "
        f"{size.gpus}: `fleetctl plan` will say that they do not fit."
    )


def _slots(base: PublicBase, rank: int) -> int:
    """Return the LoRA slots of a server of `base` on an 80 GB GPU."""
    device = DeviceSpec("gpu", "h100_80g", 80 * GIB, 0, 0)
    cache = base.max_model_len * kv_bytes_per_token(base.shape)
    room = device.memory_bytes * USABLE - base.shape.weight_bytes - reserve_bytes(device) - cache
    return max(slots for slots in SLOTS if (pool_bytes(base.shape, slots, rank) or 0) <= room)


KINDS = (("h100_80g", 80, 3.0), ("h100_80g", 80, 3.0), ("a100_80g", 80, 1.8), ("l40s_48g", 48, 1.1))
"""Kinds of the hosts in turn, with GiB and price per hour."""
FEES = {"standard": 500, "premium": 2000, "enterprise": 9000}
"""Monthly fee by tier, before the fee per adapter."""

GOLDEN = "golden/questions.jsonl"
"""Golden set of all adapters."""


def files(size: SyntheticSize, clients: Iterable[SyntheticClient]) -> dict[str, str]:
    """Return the text of every file by its path."""
    every = list(clients)
    bases = bases_for(size)
    values = {"size": size, "bases": bases, "kinds": KINDS, "golden": GOLDEN}
    return {
        "fleet.yaml": rendered("synthetic_fleet.yaml.j2", **values),
        GOLDEN: rendered("golden.jsonl.j2"),
        LOCK_FILE: lock_text(_lock(size, every)),
        **{
            f"clients/{client.name}.yaml": rendered(
                "synthetic_client.yaml.j2", client=client, fees=FEES
            )
            for client in every
        },
    }


def _lock(size: SyntheticSize, clients: Iterable[SyntheticClient]) -> Lock:
    shapes = {base.name: module_shapes(base.shape) for base in bases_for(size)}
    locked = {}
    for client in clients:
        for adapter in client.adapters:
            base = adapter.base
            widths = sum(sum(shapes[base.name][module]) for module in adapter.modules)
            major, minor, patch = adapter.version
            for back in range(adapter.earlier + 1):
                name = f"{client.name}-{adapter.task}-{base.name}-v{major}.{minor - back}.{patch}"
                locked[name] = LockedAdapter(
                    digest=hashlib.sha256(f"{size.seed}/{name}".encode()).hexdigest(),
                    rank=adapter.rank,
                    bytes=2 * adapter.rank * widths * base.shape.num_hidden_layers,
                    modules=tuple(sorted(adapter.modules)),
                    base=base.name,
                )
    lock = Lock(adapters=locked)
    for base in bases_for(size):
        lock = lock.with_base(base.name, base.shape)
    return lock
