"""What is measured, and what of it the meter makes."""

import asyncio
from collections.abc import Sequence

import pytest

from fleet.capacity.calibration import Point, fit
from fleet.capacity.decode_law import step_seconds
from fleet.hardware import Speed
from runtime.calibrate.measure import (
    SHORT_TOKENS,
    BatchMeter,
    BatchPlan,
    ServedNames,
    batch_plans,
    largest_batch,
)

LAW = Speed(0.010, 0.0002, 1.5, 0.01, 0.25)


@pytest.mark.parametrize(
    ("largest", "adapters", "measured"),
    [
        (16, 0, [(2, 0), (8, 0), (16, 0)]),
        (16, 1, [(2, 0), (8, 0), (16, 0), (2, 1), (8, 1), (16, 1)]),
        (16, 8, [(2, 0), (8, 0), (16, 0), (2, 1), (8, 1), (16, 1), (16, 2), (16, 4), (16, 8)]),
        (8, 64, [(1, 0), (4, 0), (8, 0), (1, 1), (4, 1), (8, 1), (8, 2), (8, 4), (8, 8)]),
        (1, 3, [(1, 0), (1, 1)]),
        (64, 3, [(8, 0), (32, 0), (64, 0), (8, 1), (32, 1), (64, 1), (64, 2), (64, 3)]),
    ],
)
def test_the_batches_that_are_measured(
    largest: int, adapters: int, measured: list[tuple[int, int]]
) -> None:
    assert list(batch_plans(largest, adapters)) == [BatchPlan(*each) for each in measured]


@pytest.mark.parametrize(
    ("wanted", "kv_tokens", "each", "batch"),
    [(64, 100_000, 152, 64), (64, 3040, 152, 20), (64, 10, 152, 1), (64, None, 152, 64)],
)
def test_a_batch_is_never_larger_than_the_kv_cache(
    wanted: int, kv_tokens: int | None, each: int, batch: int
) -> None:
    assert largest_batch(wanted, kv_tokens, each) == batch


def test_adapters_take_turns_in_a_batch() -> None:
    names = ServedNames("base", ("a", "b", "c"))
    assert names.of(BatchPlan(3, 0)) == ["base"] * 3
    assert names.of(BatchPlan(5, 2)) == ["a", "b", "a", "b", "a"]
    assert set(names.of(BatchPlan(9, 3))) == {"a", "b", "c"}


class LawfulServer:
    """Answers as the throughput law has it, with a wait of its own and now and then a hiccup."""

    def __init__(self, *, hiccups: Sequence[float] = ()) -> None:
        self._hiccups = list(hiccups)

    async def __call__(
        self, models: Sequence[str], prompt_tokens: int, output_tokens: int
    ) -> float:
        active = len(set(models) - {"base"})
        decoded = step_seconds(LAW, len(models), active)
        plain = step_seconds(LAW, len(models), 0) / len(models)
        prompts = LAW.prompt_weight * plain * prompt_tokens * len(models)
        noise = self._hiccups.pop() if self._hiccups else 0.0
        return 0.3 + prompts + decoded * output_tokens + noise


def measured(server: LawfulServer, plan: Sequence[BatchPlan], rounds: int) -> BatchMeter:
    told: list[str] = []
    meter = BatchMeter(server, ServedNames("base", ("a", "b", "c", "d")), 136, told.append)

    async def body() -> None:
        await meter.warm_up(plan)
        for number in range(rounds):
            await meter.round(plan, f"round {number + 1}")
            await meter.prompts(8, 400)

    asyncio.run(body())
    assert len(told) == len(plan) * (1 + rounds)
    return meter


def test_a_lawful_server_is_measured_exactly() -> None:
    plan = batch_plans(32, 4)
    meter = measured(LawfulServer(), plan, 1)
    steps = {each: meter.step_seconds(each) for each in plan}
    points = [Point(each.batch, each.adapters, step) for each, step in steps.items()]
    speed, residual = fit(points)
    assert residual < 1e-6
    assert speed.step_s == pytest.approx(LAW.step_s, rel=1e-4)
    assert speed.request_s == pytest.approx(LAW.request_s, rel=1e-4)
    assert speed.lora_factor == pytest.approx(LAW.lora_factor, rel=1e-4)
    assert speed.spread == pytest.approx(LAW.spread, rel=1e-3)
    prompt_s = meter.prompt_seconds(8)
    assert prompt_s is not None
    assert prompt_s / (step_seconds(LAW, 8, 0) / 8) == pytest.approx(LAW.prompt_weight)


def test_hiccups_in_one_round_do_not_show_after_another() -> None:
    plan = batch_plans(16, 2)
    hiccups = [3.0, 0.5, 1.0, 0.1] * 5
    meter = measured(LawfulServer(hiccups=hiccups), plan, 3)
    for each in plan:
        expected = step_seconds(LAW, each.batch, each.adapters)
        assert meter.step_seconds(each) == pytest.approx(expected)


def test_a_short_batch_that_took_longer_than_the_long_one_tells_no_step() -> None:
    told: list[str] = []
    meter = BatchMeter(LawfulServer(hiccups=[0.0, 9.0]), ServedNames("base", ()), 136, told.append)
    asyncio.run(meter.round([BatchPlan(8, 0)], "round 1"))
    assert meter.step_seconds(BatchPlan(8, 0)) < 0
    assert told == ["round 1: base alone, 8 requests at a time: too short to tell"]


def test_a_server_that_takes_no_longer_prompts_tells_nothing_of_them() -> None:
    meter = BatchMeter(LawfulServer(), ServedNames("base", ()), SHORT_TOKENS + 1, lambda _: None)
    asyncio.run(meter.prompts(8, 16))
    assert meter.prompt_seconds(8) is None
