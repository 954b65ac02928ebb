"""Whether a synthetic fleet can fit on its GPUs, by a rough count of their LoRA slots."""

from collections import Counter
from collections.abc import Iterable

from fleet.hardware import DeviceSpec
from fleet.vllm import GIB, SLOTS, USABLE, kv_bytes_per_token, pool_bytes, reserve_bytes
from fleetctl.synthetic.bases import PublicBase
from fleetctl.synthetic.population import SyntheticClient, SyntheticSize

SPARE = 2
"""Slots of a server left for canaries, in the estimate of what fits."""


def warning(wish: SyntheticSize, clients: Iterable[SyntheticClient]) -> str:
    """Say so when the adapters cannot fit; empty when they should."""
    groups: Counter[tuple[PublicBase, int]] = Counter()
    for client in clients:
        for each in client.adapters:
            groups[each.base, each.rank] += wish.replicas if client.tier == "enterprise" else 1
    needed = sum(count / (_slots(*group) - SPARE) for group, count in groups.items())
    least = max(round(needed), len({base for base, _ in groups}))
    if least <= wish.gpus:
        return ""
    return (
        f"{wish.adapters} adapters with their replicas take about {least} GPUs, and there are "
        f"{wish.gpus}: `fleetctl plan` will say that they do not fit."
    )


def _slots(base: PublicBase, rank: int) -> int:
    """Return the LoRA slots of a server of `base` on an 80 GB GPU."""
    device = DeviceSpec("gpu", "h100_80g", 80 * GIB, 0, 0)
    cache = base.max_model_len * kv_bytes_per_token(base.shape)
    room = device.memory_bytes * USABLE - base.shape.weight_bytes - reserve_bytes(device) - cache
    return max(slots for slots in SLOTS if (pool_bytes(base.shape, slots, rank) or 0) <= room)
