"""Synthetic fleets as text: YAML from templates, and the lock."""

import hashlib
from collections.abc import Iterable

from fleet.config import LOCK_FILE, Lock, LockedAdapter, lock_text
from fleet.vllm import module_shapes
from fleetctl.synthetic.population import SyntheticClient, SyntheticSize, bases_for
from plans.templating import rendered

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
