"""Which constants hold for a server: a measurement that fits it, else the estimate."""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import pytest

from fleet.capacity.calibration import PROFILE_FORMAT, ProfileError, parse_profile, speed_of
from fleet.capacity.decode_law import estimate_speed
from fleet.hardware import NO_BASIS, Basis, Profile, Speed
from tests.fleet.capacity.published import LLAMA_31_8B
from tests.fleet.planning.builders import GIB, base, device

BASE = base("llama", shape=LLAMA_31_8B)
CARD = device("gpu0", kind="h100_80g", memory=80 * GIB)
MEASURED = Profile(
    base="llama",
    kind="h100_80g",
    tensor_parallel=1,
    max_lora_rank=16,
    vllm="0.32.0",
    dtype="bfloat16",
    speed=Speed(0.006, 0.00004, 1.2, 0.002, 0.1),
    residual=0.031,
)
AT_64 = replace(MEASURED, max_lora_rank=64, speed=Speed(0.006, 0.00004, 1.8, 0.004, 0.1))


def test_without_a_profile_speeds_are_estimated_and_say_so() -> None:
    assert speed_of((), BASE, CARD, 1, 16) == (
        estimate_speed(BASE, "h100_80g", 1, 16),
        Basis("uncalibrated"),
    )


def test_a_profile_of_another_base_or_kind_says_nothing() -> None:
    others = (replace(MEASURED, base="qwen"), replace(MEASURED, kind="l4_24g"))
    assert speed_of(others, BASE, CARD, 1, 16)[1] == Basis("uncalibrated")


def test_a_profile_is_used_and_its_steps_are_lengthened_by_its_residual() -> None:
    speed, basis = speed_of((MEASURED,), BASE, CARD, 1, 16)
    assert str(basis) == "calibrated, residual 3.1 %"
    assert speed is not None
    assert speed.step_s == pytest.approx(0.006 * 1.031)
    assert speed.request_s == pytest.approx(0.00004 * 1.031)
    assert (speed.lora_factor, speed.spread) == (1.2, 0.002)


def test_a_profile_of_a_higher_rank_holds_for_a_lower_one() -> None:
    speed, basis = speed_of((AT_64,), BASE, CARD, 1, 16)
    assert basis.is_measured
    assert speed is not None
    assert speed.lora_factor == 1.8


def test_between_two_ranks_costs_are_scaled_linearly() -> None:
    speed, _ = speed_of((AT_64, MEASURED), BASE, CARD, 1, 32)
    assert speed is not None
    assert speed.lora_factor == pytest.approx(1.4)
    assert speed.spread == pytest.approx(0.002 + 0.002 / 3)


@pytest.mark.parametrize(
    ("profile", "rank", "reason"),
    [
        (MEASURED, 32, "measured at rank 16, here it is 32"),
        (replace(MEASURED, residual=0.101), 16, "the profile's residual is 10.1 %, more than 10 %"),
        (replace(MEASURED, dtype="float16"), 16, "measured as float16, here it is bfloat16"),
        (
            replace(MEASURED, tensor_parallel=2),
            16,
            "measured on 2 devices per server, not on this many",
        ),
        (
            replace(MEASURED, weight_bytes=28 << 30),
            16,
            "measured on 28.0 GiB of weights, here they are 15.0 GiB",
        ),
        (replace(MEASURED, vllm="0.31.4"), 16, "measured with vLLM 0.31.4, servers run 0.32.1"),
    ],
)
def test_a_profile_that_does_not_fit_is_named_and_not_used(
    profile: Profile, rank: int, reason: str
) -> None:
    speed, basis = speed_of((profile,), BASE, CARD, 1, rank, vllm="0.32.1")
    assert basis == Basis("uncalibrated", reason)
    assert str(basis) == f"uncalibrated ({reason})"
    assert speed == estimate_speed(BASE, "h100_80g", 1, rank)


def test_a_residual_of_ten_percent_is_just_good_enough() -> None:
    limit = replace(MEASURED, residual=0.10)
    assert speed_of((limit,), BASE, CARD, 1, 16)[1] == Basis("calibrated", "residual 10.0 %")


def test_a_profile_of_nearly_the_same_weights_or_of_unknown_ones_counts() -> None:
    assert BASE.shape is not None
    near = replace(MEASURED, weight_bytes=int(BASE.shape.weight_bytes * 1.04))
    far = replace(MEASURED, weight_bytes=28 << 30)
    unknown = replace(BASE, shape=None)
    assert speed_of((near, far), BASE, CARD, 1, 16)[1].is_measured
    assert speed_of((far,), unknown, CARD, 1, 16)[1].is_measured


def test_of_several_versions_the_newest_that_was_measured_counts() -> None:
    older = replace(MEASURED, vllm="0.9.2", speed=replace(MEASURED.speed, lora_factor=2.0))
    speed, _ = speed_of((MEASURED, older), BASE, CARD, 1, 16)
    assert speed is not None
    assert speed.lora_factor == 1.2


def test_of_two_profiles_of_one_rank_the_better_fit_counts() -> None:
    worse = replace(MEASURED, residual=0.09, speed=replace(MEASURED.speed, lora_factor=2.0))
    for given in ((worse, MEASURED), (MEASURED, worse)):
        assert speed_of(given, BASE, CARD, 1, 16)[1] == Basis("calibrated", "residual 3.1 %")


def test_a_kind_that_nobody_knows_has_no_limit() -> None:
    strange = device("x", kind="tpu_v6e", memory=32 * GIB)
    assert speed_of((), BASE, strange, 1, 16) == (None, NO_BASIS)
    assert speed_of((), base(shape=None), CARD, 1, 16) == (None, NO_BASIS)


def test_a_measurement_makes_an_unknown_kind_known() -> None:
    strange = device("x", kind="tpu_v6e", memory=32 * GIB)
    speed, basis = speed_of((replace(MEASURED, kind="tpu_v6e"),), BASE, strange, 1, 16)
    assert basis.is_measured
    assert speed is not None


def document(**changed: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "format": PROFILE_FORMAT,
        **asdict(MEASURED),
        "points": [],
        "notes": [],
    }
    for key, value in changed.items():
        outer, _, inner = key.partition("__")
        if inner:
            whole[outer] = whole[outer] | {inner: value}
        else:
            whole[outer] = value
    return whole


def test_a_profile_reads_back_as_it_was() -> None:
    assert parse_profile(document()) == MEASURED


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (document(format=2), "Its format is 2; this fleetctl reads format 1."),
        ({}, "Its format is None; this fleetctl reads format 1."),
        (document(colour="red"), "It has a key that no profile has: `colour`."),
        (document(base=7), "`base`: Input should be a valid string."),
        (document(speed={"step_s": 1.0}), "`speed.request_s`: Field required."),
        (document(speed__step_s="1"), "`speed.step_s`: Input should be a valid number."),
        (document(speed__step_s=0.0), "`speed.step_s` is 0; it must be from 1e-09 to 1000."),
        (document(speed__lora_factor=0.5), "`speed.lora_factor` is 0.5; it must be from 1 to"),
        (document(speed__spread=-0.1), "`speed.spread` is -0.1; it must be from 0 to 1000."),
        (document(speed__request_s=math.nan), "`speed.request_s` is nan; it must be from 0"),
        (document(residual=math.inf), "`residual` is inf; it must be from 0 to 1000."),
        (document(tensor_parallel=0), "`tensor_parallel` is 0; it must be from 1 to 1024."),
        (document(reserve_bytes=-1), "`reserve_bytes` is -1; it must be from 0 to"),
    ],
)
def test_what_is_no_profile_is_refused_with_the_reason(
    wrong: Mapping[str, Any], reason: str
) -> None:
    with pytest.raises(ProfileError) as caught:
        parse_profile(wrong)
    assert str(caught.value).startswith(reason)
