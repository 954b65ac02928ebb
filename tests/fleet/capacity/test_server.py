"""Memory and throughput of a server, from its declared base and measured kind of device."""

from dataclasses import replace

import pytest

from fleet.capacity.calibration import speed_of
from fleet.capacity.decode_law import step_seconds, tokens_per_second
from fleet.capacity.server import (
    LatencyTarget,
    RequestMix,
    ServerShape,
    least_bytes,
    memory_of,
    request_mix_of,
    throughput_of,
)
from fleet.hardware import BaseSpec, Basis, DeviceSpec, Profile, Speed
from fleet.spec import DemandSpec
from fleet.vllm.lora_slots import GIB
from tests.fleet.capacity.published import LLAMA_31_8B
from tests.fleet.planning.builders import adapter, base

CARD = DeviceSpec("gpu0", "h100_80g", 80 * GIB, 3.0, 8000)
LLAMA = replace(base("llama", shape=LLAMA_31_8B, kv_cache_bytes=None), max_model_len=8192)
MIB = 1 << 20


def cut(of: BaseSpec = LLAMA, *, cards: int = 1, parts: int = 1) -> ServerShape:
    return ServerShape(of, CARD, cards, parts, 16, 16, shared=parts > 1)


@pytest.mark.parametrize(
    ("flags", "cards", "mib"),
    [
        ((), 1, 88.1),
        ((("lora-dtype", "auto"),), 1, 88.1),
        ((("lora-dtype", "float32"),), 1, 176.2),
        ((("quantization", "fp8"),), 1, 88.1),
        ((), 2, 62.1),
        ((("fully-sharded-loras", ""),), 2, 48.1),
    ],
)
def test_a_slots_bytes_follow_the_declared_flags(
    flags: tuple[tuple[str, str], ...], cards: int, mib: float
) -> None:
    shape = cut(replace(LLAMA, extra=flags), cards=cards)
    tensors = memory_of(replace(shape, device=replace(CARD, kind="cpu"))).slots
    assert (tensors or 0) / 16 / MIB == pytest.approx(mib, abs=0.05)
    on_a_card = memory_of(shape).slots or 0
    assert 1 <= on_a_card / (tensors or 1) < 1.09  # the segments that they lie in


@pytest.mark.parametrize(
    ("vllm", "measured", "basis"),
    [
        ("", (), "uncalibrated"),
        ("0.32.0", (), "uncalibrated"),
        ("0.40.1", (), "uncalibrated (vLLM 0.40.1 is newer than 0.32, whose layers are known)"),
        ("", (("h100_80g", 1, "0.32.0", GIB),), "calibrated"),
        ("0.32.3", (("h100_80g", 1, "0.32.0", GIB),), "calibrated"),
        ("0.20.0", (("h100_80g", 1, "0.32.0", GIB),), "uncalibrated"),
        ("", (("h100_80g", 2, "0.32.0", GIB),), "uncalibrated"),
        (
            "",
            (("h100_80g", 1, "0.40.1", GIB),),
            "uncalibrated (vLLM 0.40.1 is newer than 0.32, whose layers are known)",
        ),
    ],
)
def test_memory_is_as_good_as_the_worst_of_its_parts(
    vllm: str, measured: tuple[tuple[str, int, str, int], ...], basis: str
) -> None:
    shape = cut(replace(LLAMA, reserves=measured))
    found = memory_of(replace(shape, device=replace(CARD, vllm=vllm)))
    assert str(found.basis) == basis


def test_slots_are_those_of_the_engines_version() -> None:
    old, new = (
        memory_of(replace(cut(), device=replace(CARD, kind="cpu", vllm=each))).slots or 0
        for each in ("0.11.0", "0.32.0")
    )
    assert old - new == 16 * 3 * 256 * 4096 * 2


def test_a_measured_reserve_takes_the_place_of_the_guess_and_leaves_the_rest_to_the_kv_cache() -> (
    None
):
    measured = replace(
        LLAMA, reserves=(("h100_80g", 1, "0.32.0", 3 * GIB), ("h100_80g", 2, "0.32.0", 9 * GIB))
    )
    guess, known = memory_of(cut()), memory_of(cut(measured))
    assert (guess.reserve, known.reserve) == (5 * GIB, 3 * GIB)
    assert (known.kv or 0) - (guess.kv or 0) == 2 * GIB
    assert least_bytes(cut()) - least_bytes(cut(measured)) == 2 * GIB


def test_a_reserve_holds_for_its_own_kind_and_number_of_devices_and_the_largest_counts() -> None:
    seen = (("a", 1, 1), ("a", 1, 7), ("a", 2, 9), ("b", 1, 8))
    of = replace(LLAMA, reserves=tuple((kind, on, "0.32.0", size) for kind, on, size in seen))
    assert of.reserve("a", 1) == (7, "0.32.0")
    assert of.reserve("a", 2, "0.32.9") == (9, "0.32.0")
    assert of.reserve("a", 2, "0.31.0") is None
    assert of.reserve("a", 4) is None


def test_what_lora_costs_by_the_request_limits_what_a_server_carries() -> None:
    habits = RequestMix(512, ())
    plain = Profile("llama", "h100_80g", 1, 16, "0.32.0", LLAMA.dtype, _speed(None), 0.0)
    dear = replace(plain, speed=_speed(0.0004))
    first = throughput_of(cut(), habits, (plain,), 1.0)
    second = throughput_of(cut(), habits, (dear,), 1.0)
    assert first.limit == pytest.approx(256 / (2 * (0.01 + 256 * 0.0001)))
    assert second.limit == pytest.approx(256 / (2 * 0.01 + 256 * 0.0004))
    assert second.basis.is_measured


CLASSIFICATION, SHORT, LONG = (0.5, 206, 7), (2.0, 617, 65), (10.0, 1382, 1185)
"""Seconds, prompt and output tokens, as a synthetic fleet has them on average."""


@pytest.mark.parametrize(
    ("kind", "due", "batch"),
    [
        ("h100_80g", CLASSIFICATION, 256),  # 346: the engine's own limit comes first
        ("h100_80g", SHORT, 112),
        ("a100_80g", CLASSIFICATION, 93),
        ("a100_80g", SHORT, 11),
        ("l40s_48g", CLASSIFICATION, 14),
        ("a100_80g", LONG, 256),  # out of reach even of an idle server; the plan says so
        ("l40s_48g", SHORT, 256),
    ],
)
def test_a_promise_limits_the_batch_of_a_server_nobody_has_measured(
    kind: str, due: tuple[float, int, int], batch: int
) -> None:
    slo_s, prompt, output = due
    shape = replace(cut(), device=replace(CARD, kind=kind))
    promise = LatencyTarget(slo_s, prompt, output)
    found = throughput_of(shape, RequestMix(64, (promise,)), (), 1.0, frozenset({promise}))
    speed, basis = speed_of((), LLAMA, shape.device, 1, 16)
    assert speed is not None
    assert found.basis == basis == Basis("uncalibrated")
    assert found.limit == pytest.approx(tokens_per_second(speed, batch, 1))
    # Were each prompt token part of a step of its own, not even an idle server kept any of them.
    assert slo_s / (output + 0.3 * prompt) < step_seconds(speed, 1, 1)


def test_what_a_tier_promises_limits_a_measured_server_and_what_is_usual_does_not() -> None:
    plain = Profile("llama", "h100_80g", 1, 16, "0.32.0", LLAMA.dtype, _speed(None), 0.0)
    asked = DemandSpec(peak_rpm=1, prompt_tokens=617, output_tokens=65)
    usual = adapter("acme-a-llama-v1.0.0", demand=asked, slo_s=2.0)
    for each, batch in ((usual, 256), (replace(usual, promised=True), 50)):
        habits = request_mix_of([each])["llama"]
        due = frozenset(filter(None, [habits.promise(each)]))
        found = throughput_of(cut(), habits, (plain,), 1.0, due)
        # (2 s - 617 * 0.0278 ms) / 66 steps = 30.0 ms, of which an empty one takes 20.
        assert found.limit == pytest.approx(tokens_per_second(_speed(None), batch, 1))


def test_promises_of_much_the_same_lengths_are_alike_and_the_longest_lengths_count() -> None:
    asked = [(100, 60), (300, 50), (200, 8), (90, 700)]
    adapters = [
        adapter(
            f"acme-t{place}-llama-v1.0.0", slo_s=2.0, promised=True,
            demand=DemandSpec(peak_rpm=1, prompt_tokens=prompt, output_tokens=output),
        )
        for place, (prompt, output) in enumerate(asked)
    ]  # fmt: skip
    habits = request_mix_of(adapters)["llama"]
    short, middle, long = (
        LatencyTarget(2.0, *lengths) for lengths in ((200, 8), (300, 60), (90, 700))
    )
    assert habits.targets == (short, middle, long)
    assert [*map(habits.promise, adapters)] == [middle, middle, short, long]
    assert habits.promise(replace(adapters[0], promised=False)) is None


def _speed(lora_request_s: float | None) -> Speed:
    return Speed(0.01, 0.0001, 2.0, 0.0, 0.1, lora_request_s)
