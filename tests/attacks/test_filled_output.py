"""Nothing printed after loading shows what the environment filled into a declared field."""

import json
from pathlib import Path

import pytest

from fleet.codes import LEAST_HIDDEN
from tests.attacks.conftest import call

VALUES = ("canary" + "7" * 20, "canary-Zz81_x*9&q@k/4", 'canary"quoted\\"#3', "canary-é<b>`|5")
FILLED = """\
fleet: tiny
tiers: {standard: {retrain_every: 90d}}
defaults: {tier: standard, rollout: careful, keep_versions: 3, retrain: [train, "${env:CANARY}"]}
evals: {engine: command, command: [score, "${env:CANARY}"]}
bases:
  tiny:
    model: "models/${env:CANARY}"
    known_as: ["${env:CANARY}"]
    dtype: bfloat16
    max_model_len: 512
    kv_cache: 64MiB
    flags: {tokenizer: "'t/${env:CANARY}'", reasoning-parser: "'${env:CANARY}'"}
hosts:
  laptop:
    engine: local
    python: "${env:PROGRAM}/python"
    devices: {cpu0: {kind: cpu, memory: 6GiB, price_per_hour: 0}}
rollouts: {careful: {weights: [10%, 100%], bake: 24h, retain: 7d, gates: []}}
gateways: {main: {listen: "127.0.0.1:8080"}}
clients:
  acme:
    adapters:
      support:
        base: tiny
        version: "1.0.0"
        pin: laptop
        smoke: ["${env:CANARY}", b, c, d, e]
        format: {labels: ["${env:CANARY}", b]}
"""
LOCK = {
    "format": 1,
    "bases": {"tiny": {"architecture": "LlamaForCausalLM", "head_dim": 16, "hidden_size": 64,
                       "intermediate_size": 128, "max_position_embeddings": 512,
                       "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2,
                       "vocab_size": 512, "weight_bytes": 400_000}},
    "adapters": {"acme-support-tiny-v1.0.0": {"base": "tiny", "bytes": 8192, "digest": "e" * 64,
                                              "modules": ["q_proj"], "rank": 8}},
}  # fmt: skip
PLANS = [("plan", "--all", "--format", form) for form in ("text", "md", "json", "html")]
OTHERS = [
    ("graph", "--format", "json"),
    ("draw", "--format", "svg"),
    ("diagnose",),
    ("explain", "acme-support"),
    ("status", "--format", "json"),
    ("drift",),
    ("validate", "--format", "github"),
    ("apply", "--auto", "--yes"),
]


@pytest.fixture
def filled(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a placeholder in every field that is shown as it is."""
    monkeypatch.setenv("CANARY", VALUES[0])
    monkeypatch.setenv("PROGRAM", "canary_of_programs")
    (project / "fleet.yaml").write_text(FILLED)
    (project / "fleet.lock").write_text(json.dumps(LOCK))
    return project


@pytest.mark.parametrize("value", VALUES)
def test_no_plan_shows_what_the_environment_filled_in(
    filled: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("CANARY", value)
    for command in PLANS:
        done = call(filled, *command)
        assert done.code == 0
        assert value[:LEAST_HIDDEN] not in done.text
        assert "${env:CANARY}" in done.text


@pytest.mark.parametrize("command", OTHERS, ids=lambda command: command[0])
def test_no_command_shows_what_the_environment_filled_in(
    filled: Path, command: tuple[str, ...]
) -> None:
    assert VALUES[0][:LEAST_HIDDEN] not in call(filled, *command).text


def test_start_commands_hold_what_servers_are_started_with(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "given_by_ci")
    assert "models/given_by_ci" in call(filled, "compile").stdout
