"""Synthetic fleets as text: YAML and lock, written directly because there may be thousands."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict

from fleet.config import LOCK_FILE
from fleet.vllm import module_shapes
from fleetctl.synthetic.population import SyntheticClient, SyntheticSize, bases_for

GPUS_PER_HOST = 8
FIRST_PORT = 10000
KINDS = (("h100_80g", 80, 3.0), ("h100_80g", 80, 3.0), ("a100_80g", 80, 1.8), ("l40s_48g", 48, 1.1))
"""Kinds of the hosts in turn, with GiB and price per hour."""
FEES = {"standard": 500, "premium": 2000, "enterprise": 9000}
"""Monthly, before the fee for each adapter."""
SMOKE = (
    '"I was charged twice for May.", "Where is my parcel?", "Cancel my plan.", "My login fails.", '
    '"Thank you!"'
)


def files(wish: SyntheticSize, clients: Iterable[SyntheticClient]) -> dict[str, str]:
    """Return the text of every file by its path."""
    every = list(clients)
    return {
        "fleet.yaml": _fleet(wish),
        LOCK_FILE: _lock(wish, every),
        **{f"clients/{each.name}.yaml": _client(each) for each in every},
    }


def _fleet(wish: SyntheticSize) -> str:
    made_by = (
        f"# Made up by `fleetctl scaffold synthetic --clients {wish.clients} --adapters "
        f"{wish.adapters} --gpus {wish.gpus} --seed {wish.seed} DIR`."
    )
    lines = [
        "# yaml-language-server: $schema=fleet.schema.json",
        made_by,
        "fleet: synthetic",
        "library: models",
        "defaults: {tier: standard, rollout: careful}",
        "",
        "tiers:",
        "  standard: {retrain_every: 90d}",
        "  premium: {retrain_every: 30d}",
        f"  enterprise: {{retrain_every: 30d, replicas: {wish.replicas}}}",
        "",
        "bases:",
    ]
    lines += [
        f"  {each.name}: {{model: models/base/{each.name}, dtype: bfloat16, "
        f"max_model_len: {each.max_model_len}}}"
        for each in bases_for(wish)
    ]
    lines += ["", "hosts:"]
    for first in range(0, wish.gpus, GPUS_PER_HOST):
        index = first // GPUS_PER_HOST
        kind, memory, price = KINDS[index % len(KINDS)]
        lines += [
            f"  node{index + 1:03}:",
            "    engine: fake",
            f"    port: {FIRST_PORT + first}",
            "    devices:",
        ]
        lines += [
            f"      gpu{gpu}: {{kind: {kind}, memory: {memory}GiB, price_per_hour: {price}}}"
            for gpu in range(min(GPUS_PER_HOST, wish.gpus - first))
        ]
    lines += [
        "",
        'gateways: {main: {listen: "127.0.0.1:8080"}}',
        "",
        "rollouts:",
        "  careful: {weights: [10%, 50%, 100%], bake: 24h, retain: 7d, gates: [accuracy, latency]}",
        "",
        "gates:",
        "  accuracy: {metric: accuracy_drop, max: 3pp}",
        "  latency: {metric: p95_ratio, max: 2x}",
    ]
    return "\n".join(lines) + "\n"


def _client(client: SyntheticClient) -> str:
    lines = [
        "# yaml-language-server: $schema=../fleet.schema.json",
        "clients:",
        f"  {client.name}:",
        f"    tier: {client.tier}",
        f"    monthly_fee: {FEES[client.tier] + 150 * len(client.adapters)}",
        "    adapters:" if client.adapters else "    adapters: {}",
    ]
    for each in client.adapters:
        lines += [
            f"      {each.task}:",
            f"        base: {each.base.name}",
            f'        version: "{".".join(map(str, each.version))}"',
            f"        smoke: [{SMOKE}]",
            f"        latency: {each.latency}",
            "        demand:",
            f"          peak_rpm: {each.peak_rpm}",
            f'          hours: "{client.hours}"',
            f"          timezone: {client.zone}",
            *([f'          batch: "{each.batch}"'] if each.batch else []),
            f"          prompt_tokens: {each.prompt_tokens}",
            f"          output_tokens: {each.output_tokens}",
        ]
    return "\n".join(lines) + "\n"


def _lock(wish: SyntheticSize, clients: Iterable[SyntheticClient]) -> str:
    """Return the lock in the form that `fleet.config.lock_text` writes."""
    shapes = {each.name: module_shapes(each.shape) for each in bases_for(wish)}
    entries = {}
    for client in clients:
        for each in client.adapters:
            widths = sum(sum(shapes[each.base.name][module]) for module in each.modules)
            size = 2 * each.rank * widths * each.base.shape.num_hidden_layers
            major, minor, patch = each.version
            for back in range(each.earlier + 1):
                version = f"{major}.{minor - back}.{patch}"
                name = f"{client.name}-{each.task}-{each.base.name}-v{version}"
                entries[name] = {
                    "base": each.base.name,
                    "bytes": size,
                    "digest": hashlib.sha256(f"{wish.seed}/{name}".encode()).hexdigest(),
                    "modules": sorted(each.modules),
                    "rank": each.rank,
                }
    sections = {
        "bases": {each.name: asdict(each.shape) for each in bases_for(wish)},
        "adapters": entries,
    }
    parts = ['  "format": 1']
    for section, found in sections.items():
        rows = ",\n".join(
            f"    {json.dumps(name)}: {json.dumps(entry, sort_keys=True)}"
            for name, entry in sorted(found.items())
        )
        parts.append(f'  "{section}": {{\n{rows}\n  }}')
    return "{\n" + ",\n".join(parts) + "\n}\n"
