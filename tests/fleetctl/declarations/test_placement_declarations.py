"""What placement is told in YAML arrives in the fleet as it was meant."""

import json
from pathlib import Path

import pytest

from fleet.errors import ConfigError
from fleet.spec import FleetSpec, PlacementPolicy, TierSpec
from runtime.project.facts import read_profiles
from runtime.project.load import load_project
from tests.broken.project import ACME, FLEET, valid, write

_LATENCY = "        latency: short_generation\n"
_DEMAND = '{peak_rpm: 30, hours: "09-18", timezone: Europe/Paris}'


def load(root: Path, fleet: str = FLEET, acme: str = ACME, **more: str) -> FleetSpec:
    write(root, valid() | {"fleet.yaml": fleet, "clients/acme.yaml": acme} | more)
    return load_project(root, None, {}).fleet


def test_what_holds_when_nothing_is_said(tmp_path: Path) -> None:
    fleet = load(tmp_path)
    assert fleet.policy == PlacementPolicy()
    assert fleet.tiers["standard"] == TierSpec("standard", 1, fleet.tiers["standard"].retrain_every)
    support = fleet.adapters["acme-support"]
    assert (support.tier, support.slo_s, support.avoid, support.apart) == ("premium", 2.0, (), ())
    assert (support.spread, support.isolation, support.residency) == ("device", "shared", "pinned")
    assert fleet.bases["tiny"].tensor_parallel is None
    assert fleet.hosts["laptop"].reserved_for == ()
    assert fleet.hosts["laptop"].devices[0].state == "active"
    assert fleet.profiles == ()


@pytest.mark.parametrize(
    ("latency", "slo", "seconds"),
    [
        ("classification", "{}", 0.5),
        ("short_generation", "{}", 2.0),
        ("long_generation", "{}", 10.0),
        ("classification", "{classification: 250ms}", 0.25),
        ("classification", "{long_generation: 1s}", 0.5),
        ("long_generation", '{long_generation: "7.5 s", classification: 1s}', 7.5),
    ],
)
def test_an_adapter_is_promised_what_its_tier_says_of_its_class(
    tmp_path: Path, latency: str, slo: str, seconds: float
) -> None:
    fleet = load(
        tmp_path,
        FLEET.replace("{replicas: 1,", f"{{slo: {slo}, replicas: 1,"),
        ACME.replace("latency: short_generation", f"latency: {latency}"),
    )
    assert fleet.adapters["acme-support"].slo_s == seconds


def test_a_tier_may_drop_the_aim_of_a_class(tmp_path: Path) -> None:
    said = FLEET.replace("{replicas: 1,", "{slo: {short_generation: none}, replicas: 1,")
    support = load(tmp_path, said).adapters["acme-support"]
    assert (support.promised, support.aimed, support.slo_s) == (False, False, 2.0)


def test_only_what_a_tier_says_itself_is_a_promise(tmp_path: Path) -> None:
    said = FLEET.replace("{replicas: 1,", "{slo: {short_generation: 3s}, replicas: 1,")
    assert load(tmp_path, said).adapters["acme-support"].promised
    other = FLEET.replace("{replicas: 1,", "{slo: {classification: 1s}, replicas: 1,")
    assert not load(tmp_path / "other", other).adapters["acme-support"].promised


def test_a_host_says_its_memory_and_its_engine(tmp_path: Path) -> None:
    text = FLEET.replace(
        "    engine: local", "    memory: 64GiB\n    vllm: 0.31.2\n    engine: local"
    )
    laptop = load(tmp_path, text).hosts["laptop"]
    assert laptop.memory_bytes == 64 << 30
    assert [each.vllm for each in laptop.devices] == ["0.31.2"] * len(laptop.devices)
    silent = load(tmp_path / "silent").hosts["laptop"]
    assert (silent.memory_bytes, silent.devices[0].vllm) == (None, "")


@pytest.mark.parametrize(
    ("listed", "ports"),
    [
        ("cuda10 cuda9 cuda0", {"cuda0": 8100, "cuda9": 8101, "cuda10": 8102}),
        (
            "cuda0 cuda9 cuda10 cuda11",
            {"cuda0": 8100, "cuda9": 8101, "cuda10": 8102, "cuda11": 8103},
        ),
        ("b2 a10 a9_b", {"a9_b": 8100, "a10": 8101, "b2": 8102}),
        ("g01 g1 g1_0", {"g01": 8100, "g1": 8101, "g1_0": 8102}),
    ],
)
def test_ports_count_up_with_the_names_of_devices_however_they_are_listed(
    tmp_path: Path, listed: str, ports: dict[str, int]
) -> None:
    devices = "".join(f"\n      {each}: {{kind: cpu, memory: 8GiB}}" for each in listed.split())
    own = "      cpu0: {kind: cpu, memory: 8GiB, price_per_hour: 0}"
    found = load(tmp_path, FLEET.replace(own, devices.lstrip("\n")))
    assert [(each.name, each.port) for each in found.hosts["laptop"].devices] == [*ports.items()]


@pytest.mark.parametrize("vllm", ["newest", "v0.32", "'0'", "0.30"])
def test_an_engine_that_is_no_version_is_refused(tmp_path: Path, vllm: str) -> None:
    text = FLEET.replace("    engine: local", f"    vllm: {vllm}\n    engine: local")
    with pytest.raises(ConfigError, match="vllm"):
        load(tmp_path, text)


def test_an_adapter_overrides_its_tier(tmp_path: Path) -> None:
    tier = "{spread: host, isolation: client, residency: cached, replicas: 1,"
    own = "        spread: device\n        isolation: tier\n        residency: pinned\n"
    fleet = load(
        tmp_path,
        FLEET.replace("{replicas: 1,", tier),
        ACME.replace(_LATENCY, _LATENCY + own),
    )
    found = {
        alias: (each.spread, each.isolation, each.residency)
        for alias, each in fleet.adapters.items()
    }
    assert found == {
        "acme-support": ("device", "tier", "pinned"),
        "acme-triage": ("host", "client", "cached"),
    }


def test_wishes_for_a_place(tmp_path: Path) -> None:
    wishes = "        avoid: [llama_a, laptop, llama_a]\n        apart: [acme, beta, beta-x]\n"
    wishes = wishes.replace("llama_a, laptop, llama_a", "llama_a, llama_a")
    beta = 'clients:\n  beta:\n    adapters:\n      x: {base: tiny, version: "1.0.0"}\n'
    lock = json.loads(valid()["fleet.lock"])
    like = lock["adapters"]["acme-triage-tiny-v1.0.0"]
    lock["adapters"]["beta-x-tiny-v1.0.0"] = {**like, "digest": "b" * 64}
    write(
        tmp_path,
        valid()
        | {
            "clients/acme.yaml": ACME.replace(_LATENCY, _LATENCY + wishes),
            "clients/beta.yaml": beta,
            "fleet.lock": json.dumps(lock),
        },
    )
    support = load_project(tmp_path, None, {}).fleet.adapters["acme-support"]
    assert support.avoid == ("llama_a",)
    assert support.apart == ("acme-triage", "beta", "beta-x")


def test_the_stricter_state_of_host_and_device_holds(tmp_path: Path) -> None:
    fleet = FLEET.replace(
        "    engine: local\n", "    engine: local\n    state: cordoned\n"
    ).replace(
        "{kind: cpu, memory: 8GiB, price_per_hour: 0}",
        "{kind: cpu, memory: 8GiB}\n"
        "      cpu1: {kind: cpu, memory: 8GiB, state: draining}\n"
        "      cpu2: {kind: cpu, memory: 8GiB, state: active}",
    )
    fleet = fleet.replace(
        "    paths:", "    state: draining\n    reserved_for: [premium]\n    paths:"
    )
    found = load(tmp_path, fleet)
    states = [each.state for each in found.hosts["laptop"].devices]
    assert states == ["cordoned", "draining", "cordoned"]
    assert found.hosts["rented"].attached[0].state == "draining"
    assert found.hosts["rented"].reserved_for == ("premium",)


def test_policy_and_width(tmp_path: Path) -> None:
    policy = "placement: {utilization: 85%, canary_slots: 0, share_devices: true}\n"
    fleet = load(
        tmp_path,
        f"{policy}{FLEET}".replace("    kv_cache:", "    tensor_parallel: 2\n    kv_cache:"),
    )
    assert fleet.policy == PlacementPolicy(0.85, 0, share_devices=True)
    assert fleet.bases["tiny"].tensor_parallel == 2


@pytest.mark.parametrize(
    ("zone", "offsets"),
    [
        ("UTC", (0,)),
        ("Europe/Paris", (60, 120)),
        ("America/New_York", (-300, -240)),
        ("Asia/Kolkata", (330,)),
        ("Australia/Lord_Howe", (630, 660)),
    ],
)
def test_a_zone_has_the_offsets_of_a_year(
    tmp_path: Path, zone: str, offsets: tuple[int, ...]
) -> None:
    fleet = load(tmp_path, acme=ACME.replace("Europe/Paris", zone))
    demand = fleet.adapters["acme-support"].demand
    assert demand is not None
    assert demand.offsets == offsets


def recording(**entry: object) -> str:
    document = {"rpm": [float(hour) for hour in range(24)], **entry}
    head = {"format": 1, "since": "2026-03-02T00:00:00Z", "until": "2026-03-09T00:00:00Z"}
    return json.dumps({**head, "adapters": {"acme-support": document}})


def test_observed_demand_replaces_the_declared_one(tmp_path: Path) -> None:
    acme = ACME.replace(_DEMAND, "{observed: true, output_tokens: 64}")
    fleet = load(tmp_path, acme=acme, **{"demand.json": recording(prompt_tokens=900)})
    demand = fleet.adapters["acme-support"].demand
    assert demand is not None
    assert (demand.peak_rpm, demand.observed) == (23.0, tuple(map(float, range(24))))
    assert (demand.prompt_tokens, demand.output_tokens) == (900, 64)


def test_what_is_recorded_changes_nothing_for_who_does_not_ask_for_it(tmp_path: Path) -> None:
    fleet = load(tmp_path, **{"demand.json": recording()})
    demand = fleet.adapters["acme-support"].demand
    assert demand is not None
    assert (demand.peak_rpm, demand.observed) == (30, None)


def test_until_something_is_recorded_the_declared_demand_holds_with_a_warning(
    tmp_path: Path,
) -> None:
    acme = ACME.replace("{peak_rpm: 30,", "{observed: true, peak_rpm: 30,")
    write(tmp_path, valid() | {"clients/acme.yaml": acme})
    project = load_project(tmp_path, None, {})
    assert [(each.code, str(each.place), each.command) for each in project.warnings] == [
        ("FC1226", "clients/acme.yaml:12:28", "fleetctl demand record")
    ]
    demand = project.fleet.adapters["acme-support"].demand
    assert demand is not None
    assert (demand.peak_rpm, demand.observed) == (30, None)


def test_a_damaged_recording_and_a_damaged_profile_are_told_together(tmp_path: Path) -> None:
    problems: list[object] = []
    write(tmp_path, {"calibration/a.json": "[]", "calibration/b.json": "{}", "calibration/c": "{"})
    assert read_profiles(tmp_path, problems) == ()  # type: ignore[arg-type]
    assert [(each.code, each.place.file) for each in problems] == [  # type: ignore[attr-defined]
        ("FC1228", "calibration/a.json"),
        ("FC1228", "calibration/b.json"),
    ]


def test_a_profile_tells_its_base_the_reserve_that_was_measured(tmp_path: Path) -> None:
    speed = {"step_s": 0.01, "request_s": 0.0, "lora_factor": 1, "spread": 0, "prompt_weight": 0.1}
    measured = {
        "format": 1, "base": "tiny", "kind": "cpu", "tensor_parallel": 1, "max_lora_rank": 16,
        "vllm": "0.32.0", "dtype": "bfloat16", "speed": speed, "residual": 0.02,
    }  # fmt: skip
    files = {
        "calibration/a.json": json.dumps({**measured, "reserve_bytes": 7_000_000}),
        "calibration/b.json": json.dumps({**measured, "max_lora_rank": 64}),
        "calibration/c.json": json.dumps({**measured, "base": "other"}),
    }
    fleet = load(tmp_path, **files)
    assert any("was measured on base `other`, which is not declared" in w for w in fleet.warnings)
    assert fleet.bases["tiny"].reserves == (("cpu", 1, "0.32.0", 7_000_000),)
    assert fleet.bases["tiny"].reserve("cpu", 1) == (7_000_000, "0.32.0")
    assert len(fleet.profiles) == 3
