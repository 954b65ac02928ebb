"""Synthetic fleets: large, valid and lifelike, for sizing studies and benchmarks.

Popularity falls as a power law, clients sit in several time zones and work business hours,
some run daily batches, most are on the standard tier. The same size gives the same bytes.
"""

from collections import Counter
from collections.abc import Iterable

from fleet.hardware import DeviceSpec
from fleet.vllm import GIB, SLOTS, USABLE, kv_bytes_per_token, pool_bytes, reserve_bytes
from fleetctl.synthetic.population import PublicBase, SyntheticClient, SyntheticSize, people
from fleetctl.synthetic.text import files

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
