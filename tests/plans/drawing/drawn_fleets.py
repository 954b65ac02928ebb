"""Fleets to be drawn, as projects on disk: plain, shared, tensor-parallel and cached, unknown."""

import json
from pathlib import Path

from fleet.names import AdapterName
from fleetctl.synthetic.population import PUBLIC_BASES

_SHAPES = {each.name: each.shape for each in PUBLIC_BASES}

PLAIN = """\
fleet: plain
bases:
  llama3_8b: {model: m, dtype: bfloat16, max_model_len: 8192}
hosts:
  desk:
    engine: fake
    devices: {gpu0: {kind: rtx4090_24g, memory: 24GiB, price_per_hour: 0.40}}
clients:
  acme:
    adapters:
      support: {base: llama3_8b, version: "1.0.0", demand: {peak_rpm: 40, hours: "09-18"}}
      triage: {base: llama3_8b, version: "1.0.0", demand: {peak_rpm: 20, hours: "07-13"}}
  birch:
    adapters:
      support: {base: llama3_8b, version: "1.0.0", demand: {peak_rpm: 30, batch: "22-02"}}
"""

SHARED = """\
fleet: shared
placement: {share_devices: true}
bases:
  llama3_8b: {model: m, dtype: bfloat16, max_model_len: 8192}
  mistral_7b: {model: n, dtype: bfloat16, max_model_len: 8192}
hosts:
  rack1:
    engine: fake
    devices: {gpu0: {kind: a100_80g, memory: 80GiB, price_per_hour: 1.80}}
clients:
  acme:
    adapters:
      support: {base: llama3_8b, version: "1.0.0", demand: {peak_rpm: 10, hours: "09-18"}}
      drafts: {base: mistral_7b, version: "1.0.0", demand: {peak_rpm: 5, hours: "09-18"}}
"""

MIXED = """\
fleet: mixed
bases:
  llama3_70b: {model: m, dtype: bfloat16, max_model_len: 4096, tensor_parallel: 4}
  llama3_8b: {model: n, dtype: bfloat16, max_model_len: 8192}
tiers:
  quiet: {residency: cached}
hosts:
  rack1:
    engine: fake
    devices:
      gpu0: {kind: a100_80g, memory: 80GiB, price_per_hour: 1.80}
      gpu1: {kind: a100_80g, memory: 80GiB, price_per_hour: 1.80}
      gpu2: {kind: a100_80g, memory: 80GiB, price_per_hour: 1.80}
      gpu3: {kind: a100_80g, memory: 80GiB, price_per_hour: 1.80}
  desk:
    engine: fake
    port: 8200
    devices:
      gpu0: {kind: rtx4090_24g, memory: 24GiB, price_per_hour: 0.40}
      gpu1: {kind: rtx4090_24g, memory: 24GiB, price_per_hour: 0.40}
clients:
  acme:
    adapters:
      contracts: {base: llama3_70b, version: "1.0.0", demand: {peak_rpm: 60, hours: "09-18"}}
      claims: {base: llama3_70b, version: "1.0.0"}
  birch:
    tier: quiet
    adapters:
      support: {base: llama3_8b, version: "1.0.0", demand: {peak_rpm: 1, hours: "09-18"}}
      triage: {base: llama3_8b, version: "1.0.0", demand: {peak_rpm: 1, hours: "09-18"}}
"""

REPLICAS = """\
fleet: replicas
bases:
  llama3_8b: {model: m, dtype: bfloat16, max_model_len: 8192}
hosts:
  rack1:
    engine: fake
    devices:
      gpu0: {kind: a100_80g, memory: 80GiB, price_per_hour: 1.80}
      gpu1: {kind: l40s_48g, memory: 48GiB, price_per_hour: 1.10}
clients:
  acme:
    adapters:
      support: {base: llama3_8b, version: "1.0.0", replicas: 2, demand: {peak_rpm: 10}}
      triage: {base: llama3_8b, version: "1.0.0", demand: {peak_rpm: 10}}
"""

UNKNOWN = """\
fleet: unknown
bases:
  strange: {model: m, dtype: bfloat16, max_loras: 8, max_lora_rank: 16}
hosts:
  rack1:
    engine: fake
    devices: {gpu0: {kind: a100_80g, memory: 80GiB}}
clients:
  acme:
    adapters:
      support: {base: strange, version: "1.0.0"}
"""

FLEETS = {
    "plain": (
        PLAIN,
        ("acme-support-llama3_8b", "acme-triage-llama3_8b", "birch-support-llama3_8b"),
    ),
    "shared": (SHARED, ("acme-support-llama3_8b", "acme-drafts-mistral_7b")),
    "mixed": (
        MIXED,
        (
            "acme-contracts-llama3_70b",
            "acme-claims-llama3_70b",
            "birch-support-llama3_8b",
            "birch-triage-llama3_8b",
        ),
    ),
    "replicas": (REPLICAS, ("acme-support-llama3_8b", "acme-triage-llama3_8b")),
    "unknown": (UNKNOWN, ("acme-support-strange",)),
}
"""By name: `fleet.yaml`, and the adapters in the lock, each of version 1.0.0 and rank 16."""


def write(name: str, folder: Path) -> None:
    """Write one of the fleets into a folder."""
    text, adapters = FLEETS[name]
    (folder / "fleet.yaml").write_text(text, encoding="utf-8")
    names = [AdapterName.parse(f"{each}-v1.0.0") for each in adapters]
    bases = {each.base for each in names} & _SHAPES.keys()
    lock = {
        "format": 1,
        "bases": {each: _fields(each) for each in sorted(bases)},
        "adapters": {
            str(each): {
                "base": each.base,
                "bytes": 1 << 20,
                "digest": f"{index:064x}",
                "modules": ["q_proj", "v_proj"],
                "rank": 16,
            }
            for index, each in enumerate(names)
        },
    }
    (folder / "fleet.lock").write_text(json.dumps(lock), encoding="utf-8")


def _fields(base: str) -> dict[str, object]:
    shape = _SHAPES[base]
    return {name: getattr(shape, name) for name in shape.__slots__}
