"""A small valid project, to be broken in one place by each case."""

import json
from pathlib import Path

from tests.broken.case import Case

FLEET = """\
fleet: demo
defaults: {tier: premium, rollout: careful, keep_versions: 3}
tiers:
  standard: {retrain_every: 90d}
  premium: {replicas: 1, retrain_every: 30d}
bases:
  tiny:
    model: models/base/tiny
    dtype: bfloat16
    kv_cache: 64MiB
    max_lora_rank: 16
    flags: {enable-prefix-caching: true}
hosts:
  laptop:
    engine: local
    python: .venv-vllm/bin/python
    devices:
      cpu0: {kind: cpu, memory: 8GiB, price_per_hour: 0}
  rented:
    engine: attach
    servers:
      llama_a: {url: "http://10.0.0.5:8000", base: tiny, max_loras: 16, max_lora_rank: 64}
    paths: {/here: /there}
gateways:
  main: {listen: "127.0.0.1:8080"}
rollouts:
  careful: {weights: [10%, 50%, 100%], bake: 24h, retain: 7d, gates: [accuracy]}
gates:
  accuracy: {metric: accuracy_drop, max: 3pp}
"""
ACME = """\
clients:
  acme:
    tier: premium
    monthly_fee: 3000
    keys: {prod: "env:ACME_KEY"}
    adapters:
      support:
        base: tiny
        version: "2.1.0"
        smoke: ["I was charged twice for May.", Help!, Cancel my plan., Where is it, Thanks]
        latency: short_generation
        demand: {peak_rpm: 30, hours: "09-18", timezone: Europe/Paris}
      triage:
        base: tiny
        version: "1.0.0"
"""
NAMES = ("acme-support-tiny-v2.1.0", "acme-triage-tiny-v1.0.0", "acme-support-tiny-v9.0.0")

TINY = {
    "architecture": "LlamaForCausalLM",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 512,
    "max_position_embeddings": 512,
    "weight_bytes": 2097152,
}

ENTRY = json.dumps(
    {"digest": "0" * 64, "rank": 16, "bytes": 4096, "modules": ["q_proj"], "base": "tiny"}
)
"""An adapter as the lock pins it."""


def lock(rank: int = 16) -> str:
    entry = json.loads(ENTRY)
    adapters = dict.fromkeys(NAMES, entry) | {NAMES[2]: {**entry, "digest": "9" * 64, "rank": 64}}
    return json.dumps(
        {"bases": {"tiny": TINY}, "adapters": adapters | {NAMES[0]: {**entry, "rank": rank}}}
    )


def write(root: Path, files: dict[str, str]) -> None:
    (root / "models").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))


def valid() -> dict[str, str]:
    return {"fleet.yaml": FLEET, "clients/acme.yaml": ACME, "fleet.lock": lock()}


def broken(case: Case) -> dict[str, str]:
    files = valid()
    if case.old:
        assert case.old in files[case.file], "the case no longer fits the project"
        files[case.file] = files[case.file].replace(case.old, case.new, 1)
    else:
        files[case.file] = case.new
    return files
