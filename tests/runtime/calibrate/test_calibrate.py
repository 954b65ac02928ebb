"""A calibration from end to end: on the fake server, and on a real vLLM for CPU."""

import json
from dataclasses import replace

import pytest

from fleet.capacity.calibration import WORST_RESIDUAL, parse_profile
from fleet.errors import EngineError
from fleet.hardware import DeviceSpec, Profile, Speed
from fleet.vllm.lora_slots import GIB
from runtime.calibrate.measure import (
    CalibrationTarget,
    foreign_traffic,
    require_idle,
    require_times,
)
from runtime.calibrate.run import file_name, reserve
from runtime.engines.vllm_api import ServerMetrics
from runtime.project.load import load_project
from tests.fleet.capacity.published import LLAMA_31_8B
from tests.fleet.planning.builders import base
from tests.fleetctl.project_on_disk import Project

SERVER = "tiny-laptop-cpu0"


def test_a_running_server_is_measured_and_the_profile_reads_back(project: Project) -> None:
    path = project.root / "calibration" / "tiny-cpu-r16.json"
    # Long enough answers that another process's turn is short beside them.
    tokens = "200" if project.options else "64"
    quick = ("--rounds", "1", "--tokens", tokens, "--largest-batch", "8")
    named = ("--out", str(path)) if project.options else ()  # of the fake it must be named
    done = project.run("calibrate", SERVER, *quick, *named)
    assert done.returncode == 0, done.stderr
    assert "round 1 of 1: 8 adapters, 8 requests at a time" in done.stderr
    assert "requests  adapters" in done.stdout
    assert "residual" in done.stdout
    profile = parse_profile(json.loads(path.read_text(encoding="utf-8")))
    assert load_project(project.root, None, {}).fleet.profiles == (profile,)
    assert (profile.base, profile.kind, profile.max_lora_rank) == ("tiny", "cpu", 16)
    assert profile.vllm.startswith("0.")
    assert profile.speed.step_s > 0
    assert profile.speed.lora_factor >= 1
    assert profile.reserve_bytes is None
    document = json.loads(path.read_text(encoding="utf-8"))
    assert [(each["batch"], each["active"]) for each in document["points"]] == [
        (1, 0), (4, 0), (8, 0), (1, 1), (4, 1), (8, 1), (8, 2), (8, 4), (8, 8),
    ]  # fmt: skip
    assert document["server"] == SERVER
    assert project.run("validate").returncode == 0
    shown = project.run("explain", f"server/{SERVER}").stdout
    good = profile.residual <= WORST_RESIDUAL
    assert (f"(calibrated, residual {100 * profile.residual:.1f} %)" in shown) is good
    assert ("(uncalibrated (the profile's residual is " in shown) is not good


@pytest.mark.parametrize("applied", ["fake"], indirect=True)
def test_a_script_reads_the_profile_from_standard_output(project: Project) -> None:
    quick = ("--rounds", "1", "--tokens", "200", "--largest-batch", "4")
    out = project.root / "elsewhere.json"
    done = project.run("calibrate", SERVER, *quick, "--format", "json", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["format"] == 1
    assert out.read_text(encoding="utf-8") == done.stdout


@pytest.mark.parametrize("applied", ["fake"], indirect=True)
def test_a_server_that_does_not_run_cannot_be_measured(project: Project) -> None:
    done = project.run("calibrate", "tiny-laptop-cpu1")
    assert done.returncode == 1
    assert "FC4060" in done.stderr
    assert "Did you mean\n`tiny-laptop-cpu0`?" in done.stderr


@pytest.mark.parametrize("applied", ["fake"], indirect=True)
def test_a_fake_servers_speed_is_not_kept_for_planning(project: Project) -> None:
    done = project.run("calibrate", SERVER)
    assert done.returncode == 1
    assert "FC4065" in done.stderr


def subject(**changed: object) -> CalibrationTarget:
    values: dict[str, object] = {
        "server": "llama-gpu0",
        "url": "http://127.0.0.1:1",
        "base": base("llama", shape=LLAMA_31_8B, kv_cache_bytes=None),
        "device": DeviceSpec("gpu0", "h100_80g", 80 * GIB, 3.0, 8100),
        "kind": "h100_80g",
        "tensor_parallel": 1,
        "max_loras": 16,
        "max_lora_rank": 16,
        **changed,
    }
    return CalibrationTarget(**values)  # type: ignore[arg-type]


def metrics(*, finished: int | None = 100, kv_tokens: int | None = 400_000) -> ServerMetrics:
    return ServerMetrics(0, 0, finished, kv_tokens, memory_share=0.9)


def test_a_gpus_reserve_is_what_its_start_left_over() -> None:
    """0.9 * 80 GiB - 14.96 of weights - 16 slots of 91.3 MiB - 400,000 tokens of 128 KiB."""
    found = reserve(subject(), metrics(), "0.32.0")
    assert found is not None
    assert found / GIB == pytest.approx(72 - 14.957 - 1.426 - 48.828, abs=0.01)
    wider = reserve(subject(memory_share=0.92), metrics(), "0.32.0")
    assert (wider or 0) - found == pytest.approx(0.02 * 80 * GIB, abs=2)


def test_where_the_reserve_does_not_follow_it_is_not_given() -> None:
    fixed = base("llama", shape=LLAMA_31_8B, kv_cache_bytes=1 << 30)
    assert reserve(subject(kind="cpu"), metrics(), "0.32.0") is None
    assert reserve(subject(base=fixed), metrics(), "0.32.0") is None
    assert reserve(subject(device=None), metrics(), "0.32.0") is None
    assert reserve(subject(), metrics(kv_tokens=None), "0.32.0") is None


def test_a_server_that_answers_clients_is_left_alone() -> None:
    require_idle(subject(), 0)
    require_idle(subject(), None)
    with pytest.raises(EngineError, match="has 1 request of its clients right now"):
        require_idle(subject(), 1)


def test_times_of_which_no_step_can_be_told_are_not_kept() -> None:
    require_times(subject(), [0.001, 0.002])
    with pytest.raises(EngineError, match="a batch of long answers took no longer"):
        require_times(subject(), [0.001, 0.0])


def test_clients_that_come_meanwhile_spoil_the_measurement() -> None:
    before, after = metrics(), metrics(finished=162)
    assert foreign_traffic(subject(), before, after, 62, force=False) == ()
    with pytest.raises(EngineError, match="2 requests of clients ran during"):
        foreign_traffic(subject(), before, after, 60, force=False)
    still = replace(after, running=1)
    with pytest.raises(EngineError, match="1 request of clients ran during"):
        foreign_traffic(subject(), before, still, 62, force=False)
    (note,) = foreign_traffic(subject(), before, after, 61, force=True)
    assert note.startswith("1 request of clients ran")
    (unknown,) = foreign_traffic(subject(), metrics(finished=None), after, 62, force=False)
    assert "not known" in unknown


def test_the_cpu_builds_last_slot_stays_empty() -> None:
    assert (subject().usable_slots, subject(kind="cpu").usable_slots) == (16, 15)


@pytest.mark.parametrize(
    ("cards", "name"),
    [(1, "llama-h100_80g-r16.json"), (4, "llama-h100_80g-tp4-r16.json")],
)
def test_a_profiles_file_says_what_it_is_of(cards: int, name: str) -> None:
    speed = Speed(1, 1, 1, 1, 1)
    one = Profile("llama", "h100_80g", cards, 16, "0.32.0", "auto", speed, 0.0)
    assert file_name(one) == name
