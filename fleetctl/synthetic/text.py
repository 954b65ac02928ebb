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
"""Monthly fee by tier, before the fee per adapter."""
SMOKE = (
    '"I was charged twice for May.", "Where is my parcel?", "Cancel my plan.", "My login fails.", '
    '"Thank you!"'
)


def files(fleet_size: SyntheticSize, clients: Iterable[SyntheticClient]) -> dict[str, str]:
    """Return the text of every file by its path."""
    every = list(clients)
    return {
        "fleet.yaml": _fleet(fleet_size),
        LOCK_FILE: _lock(fleet_size, every),
        **{f"clients/{client.name}.yaml": _client(client) for client in every},
    }


def _fleet(fleet_size: SyntheticSize) -> str:
    made_by = (
        f"# Made up by `fleetctl scaffold synthetic --clients {fleet_size.clients} --adapters "
        f"{fleet_size.adapters} --gpus {fleet_size.gpus} --seed {fleet_size.seed} DIR`."
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
        f"  enterprise: {{retrain_every: 30d, replicas: {fleet_size.replicas}}}",
        "",
        "bases:",
    ]
    lines += [
        f"  {base.name}: {{model: models/base/{base.name}, dtype: bfloat16, "
        f"max_model_len: {base.max_model_len}}}"
        for base in bases_for(fleet_size)
    ]
    lines += ["", "hosts:"]
    for first in range(0, fleet_size.gpus, GPUS_PER_HOST):
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
            for gpu in range(min(GPUS_PER_HOST, fleet_size.gpus - first))
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
    for adapter in client.adapters:
        lines += [
            f"      {adapter.task}:",
            f"        base: {adapter.base.name}",
            f'        version: "{".".join(map(str, adapter.version))}"',
            f"        smoke: [{SMOKE}]",
            f"        latency: {adapter.latency}",
            "        demand:",
            f"          peak_rpm: {adapter.peak_rpm}",
            f'          hours: "{client.hours}"',
            f"          timezone: {client.zone}",
            *([f'          batch: "{adapter.batch}"'] if adapter.batch else []),
            f"          prompt_tokens: {adapter.prompt_tokens}",
            f"          output_tokens: {adapter.output_tokens}",
        ]
    return "\n".join(lines) + "\n"


def _lock(fleet_size: SyntheticSize, clients: Iterable[SyntheticClient]) -> str:
    """Return the lock in the form that `fleet.config.lock_text` writes."""
    shapes = {base.name: module_shapes(base.shape) for base in bases_for(fleet_size)}
    entries = {}
    for client in clients:
        for adapter in client.adapters:
            widths = sum(sum(shapes[adapter.base.name][module]) for module in adapter.modules)
            size = 2 * adapter.rank * widths * adapter.base.shape.num_hidden_layers
            major, minor, patch = adapter.version
            for back in range(adapter.earlier + 1):
                version = f"{major}.{minor - back}.{patch}"
                name = f"{client.name}-{adapter.task}-{adapter.base.name}-v{version}"
                entries[name] = {
                    "base": adapter.base.name,
                    "bytes": size,
                    "digest": hashlib.sha256(f"{fleet_size.seed}/{name}".encode()).hexdigest(),
                    "modules": sorted(adapter.modules),
                    "rank": adapter.rank,
                }
    sections = {
        "bases": {base.name: asdict(base.shape) for base in bases_for(fleet_size)},
        "adapters": entries,
    }
    parts = ['  "format": 1']
    for section, rows_by_name in sections.items():
        rows = ",\n".join(
            f"    {json.dumps(name)}: {json.dumps(entry, sort_keys=True)}"
            for name, entry in sorted(rows_by_name.items())
        )
        parts.append(f'  "{section}": {{\n{rows}\n  }}')
    return "{\n" + ",\n".join(parts) + "\n}\n"
