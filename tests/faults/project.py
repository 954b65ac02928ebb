"""The project that faults happen to: four clients of the quickstart on one server or two."""

import shutil
from pathlib import Path

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import QUICKSTART, Project
from tests.ports import free_port

CLIENTS = ("acme", "birch", "corvid", "fjord")
DEVICES = ("cpu0", "cpu1")
"""Of this machine; each has a server."""
FLEET = """\
fleet: faults
library: models
defaults: {tier: standard, rollout: quick, keep_versions: 3}
tiers:
  standard: {replicas: REPLICAS}
  premium: {replicas: REPLICAS}
bases:
  tiny:
    model: models/base/tiny
    dtype: bfloat16
    max_model_len: 512
    kv_cache: 64MiB
    max_lora_rank: 16
hosts:
HOSTS
gateways:
  main: {listen: "127.0.0.1:PORT"}
rollouts:
  quick: {weights: [10%, 100%], PACE, gates: []}
  gated: {weights: [10%, 100%], PACE, gates: [answers]}
gates:
  answers: {metric: accuracy_drop, max: 10pp}
"""
GATED_ITEMS = 40
"""Items of the golden set that a gate asks; each costs an answer of two versions."""


def make_project(
    root: Path, python: Path | None, gateway_port: int, *, servers: int, soaks: bool
) -> Project:
    """Lay out four clients of the quickstart on devices of one server each.

    `soaks`: each version is on every server, and rollouts take seconds.
    """
    leave = shutil.ignore_patterns(".fleetctl", "training", "evals", "env")
    shutil.copytree(QUICKSTART, root, ignore=leave)
    for file in (root / "clients").glob("*.yaml"):
        if file.stem not in CLIENTS:
            file.unlink()
    engine = f"engine: local\n    python: {python}" if python else "engine: fake"
    hosts = f"  laptop:\n    {engine}\n    devices:\n" + "".join(
        f"      {name}: {{kind: cpu, memory: 6GiB, price_per_hour: 0, port: {free_port()}}}\n"
        for name in DEVICES[:servers]
    )
    pace = "bake: 1s, retain: 1d" if soaks else "bake: 1h, retain: 7d"
    replicas = servers if soaks else 1
    (root / "fleet.yaml").write_text(
        FLEET.replace("HOSTS\n", hosts)
        .replace("PACE", pace)
        .replace("REPLICAS", str(replicas))
        .replace("PORT", str(gateway_port)),
        encoding="utf-8",
    )
    golden = root / "golden" / "support.jsonl"
    lines = golden.read_text(encoding="utf-8").splitlines(keepends=True)
    golden.write_text("".join(lines[:: len(lines) // GATED_ITEMS]), encoding="utf-8")
    acme, corvid = (root / "clients" / f"{name}.yaml" for name in ("acme", "corvid"))
    text = acme.read_text(encoding="utf-8")
    text = text[: text.index("      triage:")]
    line = "        base: tiny\n"
    acme.write_text(text.replace(line, f"{line}        replicas: {servers}\n", 1), encoding="utf-8")
    if soaks:  # a version of one replica, which gets another for a while
        text = corvid.read_text(encoding="utf-8")
        alone = f"{line}        replicas: 1\n"
        corvid.write_text(text.replace(line, alone, 1), encoding="utf-8")
    made = Project(root, ())
    done = call(made, "key", "create", "--all")
    assert done.returncode == 0, done.stderr
    return made
