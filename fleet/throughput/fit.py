"""From measured steps to the constants of the law: least squares on relative errors."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleet.profiles import Speed
from fleet.throughput.law import crowding, step_seconds

_ROUNDS = 200
"""Alternations of the fit; it settles to seven digits in fewer for any law-like points."""

MOST_FACTOR = 1000.0
"""The most that LoRA is taken to multiply an empty step by, where one seems to take no time."""


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement."""

    batch: float
    """Requests that were decoded at a time."""
    active: float
    """Different adapters among them, as `expected_active` counts; 0: the base alone."""
    step_s: float
    """Mean seconds between two tokens of a request; more than 0."""


def fit(
    points: Iterable[Point], *, prompt_weight: float = 0.1, spread: float = 0.0
) -> tuple[Speed, float]:
    """Return the constants that fit the points best, and the largest relative error.

    The error is that over the points with adapters, as servers are planned for those; over all
    where there are none.

    Args:
        points: At least one. Points of the base alone at two or more batch sizes tell `step_s`
            from `request_s`; without any, what LoRA costs cannot be told from the rest and
            `lora_factor` is 1. Points of adapters at two or more batch sizes tell what LoRA
            costs by the step from what it costs by the request.
        prompt_weight: Passed on; decoding alone does not show it.
        spread: Taken where all points have the same number of active adapters.

    Raises:
        ValueError: no points.

    The law is a product of two lines, so each is fitted with the other held, in turns.
    """
    every = sorted(points, key=lambda each: (each.active, each.batch, each.step_s))
    if not every:
        raise ValueError("there is no point to fit")
    adapted = [each for each in every if each.active > 0]
    plain = [each for each in every if each.active <= 0]
    if plain and len({each.batch for each in adapted}) > 1:
        speed = _two_lines(plain, adapted, prompt_weight, spread)
    else:
        speed = _one_line(every, adapted, prompt_weight, spread)
    return speed, error_of(speed, adapted or every)


def _two_lines(
    plain: Sequence[Point], adapted: Sequence[Point], prompt_weight: float, spread: float
) -> Speed:
    """Fit the base alone and the adapters each on its own: LoRA may cost by step or by request."""
    step, request = _line([(each.batch, each.step_s) for each in plain])
    lora = _one_line(adapted, adapted, prompt_weight, spread)
    lora_step, lora_request = lora.step_s, lora.request_s
    if lora_step < step:  # no LoRA makes a step shorter: all that it costs, it costs by request
        lora_step = step
        took = [(each.batch, each.step_s / crowding(lora, each.active)) for each in adapted]
        squares = sum((batch / each) ** 2 for batch, each in took)
        lora_request = sum(batch / each * (1 - step / each) for batch, each in took) / squares
    step = max(step, lora_step / MOST_FACTOR)
    return Speed(
        step, request, lora_step / step, lora.spread, prompt_weight, max(lora_request, 0.0)
    )


def _one_line(
    every: Sequence[Point], adapted: Sequence[Point], prompt_weight: float, spread: float
) -> Speed:
    level = len(adapted) < len(every)  # the base alone was measured: LoRA's own cost shows
    speed = Speed(0.0, 0.0, 1.0, spread, prompt_weight)
    for _ in range(_ROUNDS):
        step, request = _line(
            [(each.batch, each.step_s / _slowdown(speed, each)) for each in every]
        )
        speed = Speed(step, request, speed.lora_factor, speed.spread, prompt_weight)
        if adapted:
            factor, more = _lora(speed, adapted, spread)
            kept = factor if level else 1.0
            speed = Speed(step, request, kept, more, prompt_weight)
    return speed


def error_of(speed: Speed, points: Iterable[Point]) -> float:
    """Return the largest relative error of the law over the points."""
    return max(
        abs(step_seconds(speed, each.batch, each.active) / each.step_s - 1) for each in points
    )


def _slowdown(speed: Speed, point: Point) -> float:
    return speed.lora_factor * crowding(speed, point.active) if point.active > 0 else 1.0


def _lora(speed: Speed, points: Sequence[Point], spread: float) -> tuple[float, float]:
    """Return factor and spread with the cost of the base held."""
    slowed = [
        (max(each.active - 1, 0.0), each.step_s / step_seconds(speed, each.batch, 0))
        for each in points
    ]
    if len({active for active, _ in slowed}) > 1:
        level, slope = _line(slowed)
        return max(level, 1.0), slope / max(level, 1.0)
    mean = sum(slow for _, slow in slowed) / len(slowed)
    return max(mean / (1 + spread * slowed[0][0]), 1.0), spread


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return level and slope, neither negative, with the least sum of squared relative errors."""
    weights = [(1 / value, at / value) for at, value in points]
    ones = sum(one * one for one, _ in weights)
    mixed = sum(one * at for one, at in weights)
    squares = sum(at * at for _, at in weights)
    one_sum = sum(one for one, _ in weights)
    at_sum = sum(at for _, at in weights)
    determinant = ones * squares - mixed * mixed
    if determinant > 1e-9 * ones * squares:
        level = (one_sum * squares - at_sum * mixed) / determinant
        slope = (at_sum * ones - one_sum * mixed) / determinant
        if level > 0 and slope >= 0:
            return level, slope
        if slope > 0:  # steeper than proportional: no constant part
            return 1e-9, at_sum / squares
    return one_sum / ones, 0.0
