"""The throughput law, its fit, and the estimate for servers without a measurement."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.capacity.calibration import Point, fit
from fleet.capacity.decode_law import (
    MAX_NUM_SEQS,
    _from_sheet,
    batch_of_step,
    capacity,
    estimate_speed,
    expected_active,
    largest_batch,
    lora_factor,
    parameters,
    prompt_seconds,
    step_seconds,
    step_under_load,
    step_within,
    tokens_per_second,
)
from fleet.hardware import SHEETS, Sheet, Speed
from tests.fleet.capacity.published import LLAMA_31_8B, QWEN25_7B, expected_busy, series
from tests.fleet.planning.builders import TINY, base

SPEED = Speed(step_s=0.010, request_s=0.0001, lora_factor=2.0, spread=0.01, prompt_weight=0.1)
speeds = st.builds(
    Speed,
    step_s=st.floats(1e-4, 1.0),
    request_s=st.floats(1e-7, 0.01),
    lora_factor=st.floats(1.0, 8.0),
    spread=st.floats(0.0, 0.1),
    prompt_weight=st.floats(0.0, 1.0),
)


@pytest.mark.parametrize(
    ("batch", "active", "milliseconds"),
    [(0, 0, 10), (100, 0, 20), (100, 1, 40), (100, 0.3, 40), (100, 51, 60)],
)
def test_a_step(batch: float, active: float, milliseconds: float) -> None:
    assert step_seconds(SPEED, batch, active) * 1000 == pytest.approx(milliseconds)


def test_tokens_per_second_are_one_per_request_and_step() -> None:
    assert tokens_per_second(SPEED, 100, 1) == pytest.approx(2500)
    assert tokens_per_second(SPEED, 0, 1) == 0


@pytest.mark.parametrize(
    ("tokens", "context", "requests"),
    [(51_200, 512, 100), (511, 512, 0), (1e9, 512, MAX_NUM_SEQS), (-5, 512, 0), (10, 0, 10)],
)
def test_the_kv_cache_limits_the_batch(tokens: float, context: float, requests: int) -> None:
    assert largest_batch(tokens, context) == requests


@pytest.mark.parametrize(
    ("prompt", "output", "slo_s", "step_s"),
    [
        (0, 1, 0.5, 0.25),  # the step under way, and the one that yields the only token
        (0, 9, 0.5, 0.05),
        (1000, 9, 0.5, 0.04721875),  # 1,000 times 0.1 of 0.278 ms are read in 28 ms
        (0, 0, 1.0, 1.0),
    ],
)
def test_a_prompt_is_read_at_once_and_each_token_of_an_answer_takes_a_step(
    prompt: int, output: int, slo_s: float, step_s: float
) -> None:
    assert step_within(SPEED, prompt, output, slo_s) == pytest.approx(step_s)


def test_a_prompt_that_takes_longer_than_is_promised_leaves_no_time_for_a_step() -> None:
    assert step_within(SPEED, 1.01 * 0.5 / prompt_seconds(SPEED), 5, 0.5) < 0


def test_capacity_is_that_of_the_largest_batch_that_all_limits_admit() -> None:
    assert capacity(SPEED, 51_200, 512, 256, 1) == tokens_per_second(SPEED, 100, 1)
    assert capacity(SPEED, 51_200, 512, 40, 1) == tokens_per_second(SPEED, 40, 1)
    assert capacity(SPEED, 51_200, 512, 0, 1) == 0


@given(speed=speeds, slo_s=st.floats(0.05, 60))
def test_the_batch_within_the_promise_keeps_it_and_a_larger_one_breaks_it(
    speed: Speed, slo_s: float
) -> None:
    batch = batch_of_step(speed, 1, step_within(speed, 256, 128, slo_s))
    if not 1 <= batch < math.inf:
        return
    for size, late in ((0.999 * batch, False), (1.001 * batch + 1, True)):
        answer = 256 * prompt_seconds(speed) + 129 * step_seconds(speed, size, 1)
        assert (answer > slo_s * (1 + 1e-9)) == late


@given(speed=speeds, batch=st.floats(1, 255), active=st.sampled_from([0, 1, 2.5, 64]))
def test_the_batch_of_a_step_is_the_one_whose_step_takes_so_long(
    speed: Speed, batch: float, active: float
) -> None:
    for each in (speed, replace(speed, lora_request_s=0.001)):
        found = batch_of_step(each, active, step_seconds(each, batch, active))
        assert found == pytest.approx(batch, rel=1e-3, abs=1e-3)


@given(speed=speeds, batch=st.floats(1, 255), active=st.floats(1, 64))
def test_under_a_load_the_batch_settles_where_it_decodes_as_fast_as_is_asked(
    speed: Speed, batch: float, active: float
) -> None:
    load = tokens_per_second(speed, batch, active)
    expected = step_seconds(speed, batch, active)
    assert step_under_load(speed, load, active) == pytest.approx(expected, rel=1e-3)
    assert step_under_load(speed, 1.01 / min(speed.adapted[1], 1), 64) == math.inf


def test_a_step_that_requests_do_not_stretch_takes_any_batch_or_none() -> None:
    level = replace(SPEED, request_s=0.0)
    assert batch_of_step(level, 1, 0.021) == math.inf
    assert batch_of_step(level, 1, 0.019) == -math.inf
    assert batch_of_step(SPEED, 1, 0.019) < 0


@given(speed=speeds, batch=st.integers(1, 255), active=st.floats(1, 64))
def test_more_requests_give_more_tokens_and_more_adapters_fewer(
    speed: Speed, batch: int, active: float
) -> None:
    now = tokens_per_second(speed, batch, active)
    assert tokens_per_second(speed, batch + 1, active) >= now
    assert tokens_per_second(speed, batch, active + 1) <= now


def test_adapters_expected_in_a_batch() -> None:
    assert expected_active([1.0], 10) == 1
    assert expected_active([0.5, 0.5], 1) == 1
    assert expected_active([0.5, 0.5], 2) == pytest.approx(1.5)
    assert expected_active([1 / 300] * 300, 220) == pytest.approx(156.1, abs=0.1)
    assert expected_active([], 5) == 0


def test_adapters_expected_in_flight() -> None:
    assert expected_busy([0.0, 1e9], 1) == pytest.approx(1)
    assert expected_busy([0.1] * 10, 5) == pytest.approx(3.935, abs=0.001)


@given(speed=speeds)
def test_a_fit_finds_the_constants_that_made_the_points(speed: Speed) -> None:
    cells = [(8, 0), (32, 0), (64, 0), (8, 1), (64, 1), (64, 16), (64, 32), (64, 64)]
    points = [Point(batch, active, step_seconds(speed, batch, active)) for batch, active in cells]
    found, residual = fit(points, prompt_weight=speed.prompt_weight)
    assert residual < 1e-4
    for batch, active in ((1, 0), (16, 4), (128, 1)):
        expected = step_seconds(speed, batch, active)
        assert step_seconds(found, batch, active) == pytest.approx(expected, rel=0.02)


def test_the_residual_is_the_worst_points() -> None:
    points = [Point(8, 0, 0.010), Point(16, 0, 0.010), Point(32, 0, 0.011)]
    speed, residual = fit(points)
    errors = [step_seconds(speed, each.batch, 0) / each.step_s - 1 for each in points]
    assert residual == pytest.approx(max(map(abs, errors)))
    assert 0 < residual < 0.05


def test_one_number_of_adapters_tells_no_spread_so_the_given_one_holds() -> None:
    points = [Point(8, 0, 0.010), Point(64, 0, 0.010), Point(64, 5, 0.024)]
    speed, residual = fit(points, spread=0.05)
    assert speed.spread == 0.05
    assert speed.lora_factor == pytest.approx(2.0)
    assert residual < 1e-6


def test_what_lora_costs_by_the_request_is_told_from_what_it_costs_by_the_step() -> None:
    law = Speed(0.003, 0.00002, 1.5, 0.01, 0.1, lora_request_s=0.0003)
    cells = [(8, 0), (64, 0), (8, 1), (32, 1), (64, 1), (64, 8)]
    points = [Point(batch, active, step_seconds(law, batch, active)) for batch, active in cells]
    found, residual = fit(points, prompt_weight=0.1)
    assert residual < 1e-4
    assert found.adapted == pytest.approx(law.adapted, rel=1e-3)
    assert step_seconds(found, 16, 4) == pytest.approx(step_seconds(law, 16, 4), rel=1e-3)


def test_lora_never_makes_an_empty_step_shorter() -> None:
    points = [Point(8, 0, 0.004), Point(64, 0, 0.004), Point(8, 1, 0.006), Point(64, 1, 0.030)]
    points += [Point(32, 1, 0.014)]
    found, residual = fit(points)
    assert found.lora_factor == 1
    assert found.step_s == pytest.approx(0.004)
    assert residual < 0.2


def test_a_base_whose_step_seems_to_take_no_time_leaves_the_factor_finite() -> None:
    found, _ = fit([Point(8, 0, 0.001), Point(64, 0, 0.1), Point(8, 1, 0.02), Point(64, 1, 0.03)])
    assert found.lora_factor == 1000
    assert found.adapted[0] == pytest.approx(0.0186, abs=0.0001)


def test_the_error_of_a_fit_is_that_of_servers_with_adapters() -> None:
    noisy = [Point(8, 0, 0.010), Point(16, 0, 0.015), Point(32, 0, 0.010)]
    exact = [Point(8, 1, 0.020), Point(32, 1, 0.020)]
    assert fit(noisy)[1] > 0.1
    assert fit([*noisy, *exact])[1] < 1e-6


def test_without_the_base_alone_what_lora_costs_stays_in_the_step() -> None:
    one = series()[0]
    speed, _ = fit(one.points)
    assert speed.lora_factor == 1
    assert step_seconds(speed, 220, 1) == pytest.approx(0.0353, rel=0.01)


def test_times_that_fall_with_the_batch_are_taken_as_level() -> None:
    speed, _ = fit([Point(8, 0, 0.011), Point(64, 0, 0.010)])
    assert speed.request_s == 0


def test_no_points_fit_nothing() -> None:
    with pytest.raises(ValueError, match="no point"):
        fit([])


MARE_NOSTRUM = Sheet(2.0e12, 989e12, 64 << 30)
"""The H100 of 64 GB on which the published figures were taken; its bandwidth is by hearsay."""


@pytest.mark.parametrize(
    ("shape", "step_ms", "request_ms"),
    [(LLAMA_31_8B, 10.54, 0.0438), (QWEN25_7B, 10.62, 0.0489)],
)
def test_the_estimate_is_slower_than_what_was_measured_but_not_twice(
    shape: object, step_ms: float, request_ms: float
) -> None:
    assert shape in {LLAMA_31_8B, QWEN25_7B}
    one = LLAMA_31_8B if shape is LLAMA_31_8B else QWEN25_7B
    found = _from_sheet(MARE_NOSTRUM, base(shape=one), one, 1, 8, cpu=False)
    measured = step_ms + 220 * request_ms
    assert 1.0 < (1000 * step_seconds(found, 220, 0)) / measured < 1.5


def test_the_estimate_covers_the_published_cost_of_lora_within_three_percent() -> None:
    """Agulló et al. fit 106.5 + 3.154 * adapters + rank ** 1.1747 percent of a plain step."""
    for rank in (8, 16, 32):
        speed = Speed(1.0, 0.0, lora_factor(rank), 0.0125, 0.1)
        for active in (1, 32, 64, 96):
            published = (106.466 + 3.15436 * active + rank**1.17467) / 100
            assert step_seconds(speed, 1, active) > 0.97 * published


def test_the_estimate_covers_the_44_published_points() -> None:
    plain = {"llama-3.1-8b": 0.01054 + 220 * 0.0000438, "qwen-2.5-7b": 0.01062 + 250 * 0.0000489}
    for each in series():
        speed = Speed(plain[each.model], 0.0, lora_factor(8), 0.0125, 0.1)
        for point in each.points:
            assert step_seconds(speed, point.batch, point.active) > point.step_s


def test_parameters_are_counted_from_the_shape() -> None:
    assert parameters(LLAMA_31_8B) == pytest.approx(8.03e9 - 128256 * 4096, rel=0.001)
    assert parameters(QWEN25_7B) == pytest.approx(7.62e9 - 152064 * 3584, rel=0.001)


@pytest.mark.parametrize("kind", sorted(SHEETS))
def test_every_known_kind_has_an_estimate_that_falls_with_rank_and_rises_with_devices(
    kind: str,
) -> None:
    one = base(shape=LLAMA_31_8B)
    found = estimate_speed(one, kind, 1, 16)
    assert found is not None
    higher, wider = estimate_speed(one, kind, 1, 128), estimate_speed(one, kind, 4, 16)
    assert higher is not None
    assert wider is not None
    assert higher.lora_factor > found.lora_factor >= 2
    assert wider.step_s < found.step_s
    assert 0 < found.prompt_weight <= 1


def test_an_unknown_kind_or_shape_has_none() -> None:
    assert estimate_speed(base(), "tpu_v6e", 1, 16) is None
    assert estimate_speed(base(shape=None), "h100_80g", 1, 16) is None
    assert estimate_speed(base(), "cpu_arm", 1, 16) == estimate_speed(base(), "cpu", 1, 16)


def test_an_fp8_cache_makes_requests_cheaper() -> None:
    plain = base(shape=LLAMA_31_8B)
    eight = replace(plain, extra=(("kv-cache-dtype", "fp8"),))
    first, second = (estimate_speed(each, "h100_80g", 1, 16) for each in (plain, eight))
    assert first is not None
    assert second is not None
    assert second.request_s < first.request_s
    assert second.step_s == first.step_s


def test_a_tiny_base_on_a_processor_is_all_launching() -> None:
    found = estimate_speed(base(shape=TINY), "cpu", 1, 16)
    assert found is not None
    assert found.step_s == pytest.approx(0.0041, abs=0.0001)
