"""`fleetctl compile`, from declarations to command lines."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from fleet.errors import FleetError
from fleet.hardware import HostSpec
from fleetctl.cli import main_group
from runtime.gateway.admin.state_dir import write_table
from tests.quadlets import generated, words_of
from tests.runtime.gateway.stage import OLD, table

FLEET = """\
fleet: demo
library: models
bases:
  tiny: {model: models/base/tiny, dtype: bfloat16, max_model_len: 512, kv_cache: 64MiB}
hosts:
  laptop:
    engine: local
    python: venv/bin/python
    port: 8100
    devices:
      cpu0: {kind: cpu, memory: 6GiB, price_per_hour: 0}
clients:
  acme:
    adapters:
      support: {base: tiny, version: "2.1.0"}
"""
LOCK = {
    "format": 1,
    "bases": {
        "tiny": {
            "architecture": "LlamaForCausalLM",
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "vocab_size": 1280,
            "max_position_embeddings": 512,
            "weight_bytes": 1_900_000,
        }
    },
    "adapters": {
        "acme-support-tiny-v2.1.0": {
            "digest": "ab" * 32,
            "rank": 8,
            "bytes": 160_000,
            "modules": ["q_proj"],
            "base": "tiny",
        }
    },
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A fleet of one adapter on one CPU; nothing of it runs."""
    (tmp_path / "fleet.yaml").write_text(FLEET, encoding="utf-8")
    (tmp_path / "fleet.lock").write_text(json.dumps(LOCK), encoding="utf-8")
    (tmp_path / "models" / "base" / "tiny").mkdir(parents=True)
    return tmp_path


def fleetctl(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main_group, ["-C", str(folder), *arguments], catch_exceptions=False)


def test_each_server_of_the_plan_gets_a_command_line(project: Path) -> None:
    (server,) = json.loads(fleetctl(project, "compile", "--format", "json").stdout)
    assert server["server"] == "tiny-laptop-cpu0"
    assert server["port"] == 8100
    arguments = server["arguments"]
    assert arguments[0] == str(project / "venv/bin/python")
    assert arguments[arguments.index("--model") + 1] == str(project / "models/base/tiny")
    names = arguments[arguments.index("--served-model-name") + 1 :][:2]
    assert names == ["tiny", f"fleetctl-{server['digest']}"]
    assert "--enforce-eager" in arguments
    assert server["environment"]["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"


def test_the_default_is_a_shell_script(project: Path) -> None:
    script = fleetctl(project, "compile").stdout
    assert script.startswith("#!/bin/sh\n")
    assert "# server/tiny-laptop-cpu0 on laptop\n" in script


def test_hosts_may_be_chosen(project: Path) -> None:
    (one,) = json.loads(fleetctl(project, "compile", "--format", "json", "--host", "laptop").stdout)
    assert one["server"] == "tiny-laptop-cpu0"
    with pytest.raises(FleetError, match="No host is called `rack`"):
        fleetctl(project, "compile", "--format", "json", "--host", "rack")


BOXES = FLEET.replace(
    """\
    engine: local
    python: venv/bin/python
""",
    """\
    engine: ssh
    address: fleet@10.0.0.5:2222
""",
)


def test_units_of_a_box_are_printed_for_the_box_alone(project: Path) -> None:
    (project / "fleet.yaml").write_text(BOXES, encoding="utf-8")
    assert json.loads(fleetctl(project, "compile", "--format", "json").stdout) == []
    unit = fleetctl(project, "compile", "--target", "systemd", "--host", "laptop").stdout
    assert unit.startswith("# Fleet demo\n# fleetctl-tiny-laptop-cpu0.service\n")
    assert unit.count("[Unit]") == 1
    assert "\nWorkingDirectory=~\n" in unit
    start = "ExecStart=:/usr/bin/env .local/share/fleetctl/vllm/bin/python -m vllm."
    assert start in unit
    assert f"{project}" not in unit
    assert "VLLM_PLUGINS=\n" in unit
    declared = BOXES.replace("    port:", "    python: /opt/vllm/bin/python\n    port:")
    (project / "fleet.yaml").write_text(declared, encoding="utf-8")
    unit = fleetctl(project, "compile", "--target", "systemd", "--host", "laptop").stdout
    assert "ExecStart=:/opt/vllm/bin/python -m vllm." in unit


IMAGE = f"a.io/vllm@sha256:{'0' * 64}"


@pytest.mark.needs("podman")
def test_podman_takes_the_quadlet_files_of_a_box(project: Path) -> None:
    by_image = BOXES.replace("    port:", f"    image: {IMAGE}\n    port:")
    (project / "fleet.yaml").write_text(by_image, encoding="utf-8")
    text = fleetctl(project, "compile", "--target", "quadlet", "--host", "laptop").stdout
    assert text.startswith("# Fleet demo\n# fleetctl-tiny-laptop-cpu0.container\n")
    words = words_of(generated(text.partition("\n")[2]))
    assert words[words.index(IMAGE) :][:2] == [IMAGE, "-m"]
    store = "%h/.local/share/fleetctl/store"
    assert {f"{store}:{store}:ro", "%h/models/base/tiny:%h/models/base/tiny:ro"} <= {*words}
    assert {"--workdir=%h", "--entrypoint=python3"} <= {*words}
    for target, host in (("systemd", IMAGE), ("quadlet", "")):
        declared = by_image if host else BOXES
        (project / "fleet.yaml").write_text(declared, encoding="utf-8")
        with pytest.raises(FleetError, match="do not run from `"):
            fleetctl(project, "compile", "--target", target, "--host", "laptop")


@pytest.mark.needs("podman")
def test_podman_takes_the_quadlet_files_of_the_machine_of_the_gateway(project: Path) -> None:
    gateway = "gateways: {main: {listen: '127.0.0.1:8080'}}\n"
    (project / "fleet.yaml").write_text(BOXES + gateway, encoding="utf-8")
    out, image = project / "quadlets", "registry.example/fleetctl:1"
    arguments = ("compile", "--target", "quadlet", "--image", image, "--out", str(out))
    done = fleetctl(project, *arguments)
    names = ["fleetctl-forward-laptop", "fleetctl-gateway-main", "fleetctl-reconcile"]
    assert sorted(path.name for path in out.iterdir()) == [f"{name}.container" for name in names]
    assert all(f"{name}.service" in done.stderr for name in names)
    texts = {path.stem: path.read_text("utf-8").partition("\n")[2] for path in out.iterdir()}
    programs = {name: words_of(generated(text)) for name, text in texts.items()}
    assert "--entrypoint=ssh" in programs[names[0]]
    for name in names[1:]:
        words = programs[name]
        assert {"--entrypoint=fleetctl", "--pid=host", f"{project}:{project}"} <= {*words}
        assert {"%h/.ssh:/root/.ssh:ro", "%E/fleetctl:/root/.config/fleetctl:ro"} <= {*words}
        assert words[words.index(image) :][:3] == [image, "-C", str(project)]
        assert "\nAfter=fleetctl-forward-laptop.service\n" in texts[name]
        assert "mkdir -p %E/fleetctl; : >>%E/fleetctl/demo.env" in texts[name]
    (project / "fleet.yaml").write_text(FLEET + gateway, encoding="utf-8")
    done = fleetctl(project, *arguments[:-2])
    assert "the reconciler starts servers of this machine" in done.stderr
    assert done.stdout.count("[Container]") == 1


def test_the_machine_of_the_gateway_gets_a_forward_to_each_box(project: Path) -> None:
    declared = BOXES.replace("laptop:", "box1:") + "gateways: {main: {listen: '127.0.0.1:8080'}}\n"
    (project / "fleet.yaml").write_text(declared, encoding="utf-8")
    out = project / "units"
    done = fleetctl(project, "compile", "--target", "systemd", "--out", str(out))
    names = ["fleetctl-forward-box1", "fleetctl-gateway-main", "fleetctl-reconcile"]
    assert sorted(path.stem for path in out.iterdir()) == names
    assert all(f"{name}.service" in done.stderr for name in names)
    forward, *others = ((out / f"{name}.service").read_text("utf-8") for name in names)
    at = HostSpec("box1", "ssh", address="fleet@10.0.0.5:2222").reached_at
    for port in (8100, 8200, 8300, 8400):
        assert f"-L {at}:{port}:127.0.0.1:{port} " in forward
    assert "Restart=always\n" in forward
    assert "ssh://fleet@10.0.0.5:2222\n" in forward
    for text in others:
        assert "\nAfter=fleetctl-forward-box1.service\n" in text


def test_units_of_another_fleet_are_not_overwritten(project: Path) -> None:
    out = project / "units"
    arguments = ("compile", "--target", "systemd", "--out", str(out))
    for _ in range(2):
        assert fleetctl(project, *arguments).exit_code == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    (project / "fleet.yaml").write_text(FLEET.replace("demo", "other"), encoding="utf-8")
    with pytest.raises(FleetError, match="is the unit of fleet `demo`") as refused:
        fleetctl(project, *arguments)
    assert refused.value.diagnostics[0].code == "FC5021"
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_there_is_nothing_to_compile_for_another_gateway_before_the_first_apply(
    project: Path,
) -> None:
    for target in ("envoy", "litellm"):
        with pytest.raises(FleetError, match="no apply has written any") as refused:
            fleetctl(project, "compile", "--target", target)
        assert refused.value.diagnostics[0].command == "fleetctl apply --auto"


@pytest.mark.parametrize("folder", ["litellm", "."])
def test_what_is_compiled_into_the_project_declares_nothing(project: Path, folder: str) -> None:
    write_table(project / ".fleetctl", table({"s1": "http://127.0.0.1:1"}))
    file = project / folder / "config.yaml"
    arguments = ("compile", "--target", "litellm", "--out", str(file.parent))
    for _ in range(2):
        assert fleetctl(project, *arguments).exit_code == 0
        assert fleetctl(project, "validate").exit_code == 0
    route, *_ = yaml.safe_load(file.read_bytes())["model_list"]
    assert route["litellm_params"]["model"] == f"hosted_vllm/{OLD}"
    written = file.read_bytes()
    assert fleetctl(project, "fmt").exit_code == 0
    assert file.read_bytes() == written
    file.write_text("tiers: {gold: {}}\n", encoding="utf-8")  # somebody's own
    with pytest.raises(FleetError, match="did not write it"):
        fleetctl(project, *arguments)
    assert file.read_text("utf-8") == "tiers: {gold: {}}\n"
    file.write_text("clients: [\n", encoding="utf-8")
    with pytest.raises(FleetError) as broken:
        fleetctl(project, "validate")
    place = broken.value.diagnostics[0].place
    assert place is not None
    assert place.file == str(file.relative_to(project))


def test_monitors_get_files_with_the_declared_receivers(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (project / "fleet.yaml").open("a", encoding="utf-8") as file:
        file.write("notify:\n  webhook: env:CHAT\n  alertmanager: https://alerts.example.com\n")
    out = project / "monitoring"
    arguments = ("compile", "--out", str(out), "--target")
    with pytest.raises(FleetError, match="env:CHAT") as unread:
        fleetctl(project, *arguments, "alertmanager")
    assert unread.value.diagnostics[0].code == "FC5022"
    monkeypatch.setenv("CHAT", "https://chat.example.com/secret")
    for target in ("alertmanager", "prometheus", "grafana"):
        assert fleetctl(project, *arguments, target).exit_code == 0
    assert [path.name for path in sorted(out.iterdir())] == [
        "alertmanager.json", "grafana-client.json", "grafana-cost.json", "grafana-fleet.json",
        "grafana-server.json", "prometheus.json", "rules.json",
    ]  # fmt: skip
    (receiver,) = json.loads((out / "alertmanager.json").read_text("utf-8"))["receivers"]
    assert receiver["slack_configs"][0]["api_url"] == "https://chat.example.com/secret"
    assert {path.stat().st_mode & 0o077 for path in out.iterdir()} == {0}
    config = json.loads((out / "prometheus.json").read_text("utf-8"))
    assert config["alerting"]["alertmanagers"][0]["static_configs"] == [
        {"targets": ["alerts.example.com"]}
    ]
    assert config["scrape_configs"][0]["static_configs"] == [{"targets": ["127.0.0.1:8090"]}]
    assert fleetctl(project, "validate").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--out", "x"),
        ("--gateway", "main"),
        ("--target", "envoy", "--format", "sh"),
        ("--target", "envoy", "--host", "laptop"),
        ("--target", "envoy", "--seen-at", "/etc/envoy"),
        ("--target", "litellm", "--gateway", "main"),
        ("--target", "nginx"),
        ("--target", "systemd", "--format", "json"),
        ("--target", "systemd", "--image", "a.io/fleetctl:1"),
        ("--target", "quadlet"),
        ("--target", "quadlet", "--image", "a.io/fleetctl:1", "--host", "laptop"),
        ("--target", "quadlet", "--image", "a.io/fleetctl:1", "--system-user", "fleet"),
        ("--system-user", "fleet"),
        ("--url", "https://fleet.example.com"),
        ("--target", "grafana", "--out", "x", "--url", "https://fleet.example.com"),
        ("--target", "prometheus", "--out", "x", "--url", "fleet.example.com"),
        ("--target", "alertmanager", "--out", "x", "--gateway", "main"),
        ("--target", "grafana"),
        ("--target", "kubernetes", "--gateway", "main"),
        ("--target", "gateway-api", "--image", "a.io/vllm:1"),
    ],
)
def test_options_that_have_no_meaning_together_are_wrong_usage(
    project: Path, arguments: tuple[str, ...]
) -> None:
    done = fleetctl(project, "compile", *arguments)
    assert done.exit_code == 2  # which the entry point makes 64
    assert arguments[-2] in done.stderr
