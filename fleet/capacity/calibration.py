"""Fits the constants of the decode law to measured steps, and reads the profiles that hold them.

Least squares on relative errors. For a server, a measurement that matches its base and device is
used, else the estimate.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import compress
from math import isclose
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fleet.capacity.decode_law import crowding, estimate_speed, step_seconds
from fleet.hardware import NO_BASIS, BaseSpec, Basis, DeviceSpec, Profile, Speed, sheet_of_device
from fleet.vllm import release

WORST_RESIDUAL = 0.10
"""Upper bound of the residual of a profile that is used: relative error on its own points."""
OTHER_WEIGHTS = 0.05
"""Upper bound of the part by which weights differ from those that a profile was measured on."""


def speed_of(
    profiles: tuple[Profile, ...],
    base: BaseSpec,
    device: DeviceSpec,
    tensor_parallel: int,
    max_lora_rank: int,
    *,
    vllm: str = "",
) -> tuple[Speed | None, Basis]:
    """Return a server's constants, and their basis; all devices of the server are like `device`.

    The constants are None where unknown (no limit can be given). The basis names the residual of a
    measurement, or the reason that rules a profile out. Measured steps are made longer by their
    residual.
    """
    fitting, reason = measured(profiles, base, device, tensor_parallel, vllm=vllm)
    above = next((profile for profile in fitting if profile.max_lora_rank >= max_lora_rank), None)
    if above is not None:
        below = [profile for profile in fitting if profile.max_lora_rank <= max_lora_rank]
        return _between((below or [above])[-1], above, max_lora_rank)
    if fitting:
        reason = f"measured at rank {fitting[-1].max_lora_rank}, here it is {max_lora_rank}"
    guess = estimate_speed(
        base, device.kind, tensor_parallel, max_lora_rank, sheet_of_device(device)
    )
    if guess is None:
        return None, NO_BASIS
    return guess, Basis("uncalibrated", reason)


def measured(
    profiles: Sequence[Profile],
    base: BaseSpec,
    device: DeviceSpec,
    tensor_parallel: int,
    *,
    vllm: str = "",
) -> tuple[tuple[Profile, ...], str]:
    """Return the profiles that hold for such servers, a profile per rank, or the reason for none.

    Where the engine's version is unknown, the newest measured version counts. The reason is empty
    where no profile is of this base on this kind of device.
    """
    base_and_kind = base.name, device.kind
    same = [profile for profile in profiles if (profile.base, profile.kind) == base_and_kind]
    if not same:
        return (), ""
    fitting = [profile for profile in same if profile.tensor_parallel == tensor_parallel]
    if not fitting:
        return (), f"measured on {same[0].tensor_parallel} devices per server, not on this many"
    alike, reason = _of_the_model(fitting, base)
    if reason:
        return (), reason
    current_release = release(vllm) if vllm else max(release(profile.vllm) for profile in alike)
    current = [profile for profile in alike if release(profile.vllm) == current_release]
    if not current:
        return (), f"measured with vLLM {alike[0].vllm}, servers run {vllm}"
    good = [profile for profile in current if profile.residual <= WORST_RESIDUAL]
    if not good:
        least, most = (100 * min(profile.residual for profile in current), 100 * WORST_RESIDUAL)
        return (), f"the profile's residual is {least:.1f} %, more than {most:.0f} %"
    best = {
        profile.max_lora_rank: profile
        for profile in sorted(good, key=lambda profile: (-profile.residual, profile.vllm))
    }
    return tuple(best[rank] for rank in sorted(best)), ""


def _of_the_model(profiles: Sequence[Profile], base: BaseSpec) -> tuple[list[Profile], str]:
    """Return the profiles of the base's type and weights, or the reason for none."""
    typed = [profile for profile in profiles if profile.dtype == base.dtype]
    if not typed:
        return [], f"measured as {profiles[0].dtype}, here it is {base.dtype}"
    if base.shape is None or not (weights := base.shape.weight_bytes):
        return typed, ""
    amounts = [profile.weight_bytes or weights for profile in typed]
    near = [isclose(amount, weights, rel_tol=OTHER_WEIGHTS) for amount in amounts]
    measured, declared = (f"{amount / 2**30:.1f} GiB" for amount in (amounts[0], weights))
    reason = "" if any(near) else f"measured on {measured} of weights, here they are {declared}"
    return list(compress(typed, near)), reason


def _between(below: Profile, above: Profile, rank: int) -> tuple[Speed, Basis]:
    """Scale linearly by rank between two measurements."""
    width = above.max_lora_rank - below.max_lora_rank
    share = (rank - below.max_lora_rank) / width if width else 0.0
    residual = max(below.residual, above.residual)
    low, high = below.speed, above.speed

    def mix(first: float, second: float) -> float:
        return first + (second - first) * share

    step, request = (mix(*pair) for pair in zip(low.adapted, high.adapted, strict=True))
    plain = mix(low.step_s, high.step_s)
    speed = Speed(
        step_s=plain * (1 + residual),
        request_s=mix(low.request_s, high.request_s) * (1 + residual),
        lora_factor=step / plain,
        spread=mix(low.spread, high.spread),
        prompt_weight=mix(low.prompt_weight, high.prompt_weight),
        lora_request_s=request * (1 + residual),
    )
    return speed, Basis("calibrated", f"residual {100 * residual:.1f} %")


_ROUNDS = 200
"""Alternations of the fit; it settles to seven digits in fewer for any law-like points."""

MOST_FACTOR = 1000.0
"""Upper bound of LoRA's factor on an empty step, where empty steps seem to take no time."""


@dataclass(frozen=True, slots=True)
class Point:
    """A measured decoding step."""

    batch: float
    """Requests that were decoded at a time."""
    active: float
    """Different adapters in the batch, as `expected_active` counts; 0: the base alone."""
    step_s: float
    """Mean seconds between two tokens of a request; more than 0."""


def fit(
    points: Iterable[Point], *, prompt_weight: float = 0.1, spread: float = 0.0
) -> tuple[Speed, float]:
    """Return the constants that fit the points best, and the largest relative error.

    The error is that over the points with adapters, as servers are planned for those; over all
    points where no point has adapters. The law is a product of two lines, which are fitted in
    turns.

    Points of the base alone at two or more batch sizes tell `step_s` from `request_s`; without any,
    LoRA's cost cannot be told from the rest and `lora_factor` is 1. Points of adapters at two or
    more batch sizes tell LoRA's cost by the step from its cost by the request. `spread` is used
    where all points have the same number of active adapters; `prompt_weight` is passed on, as
    decoding alone does not show the weight.

    Raises:
        ValueError: no points.
    """
    every = sorted(points, key=lambda point: (point.active, point.batch, point.step_s))
    if not every:
        raise ValueError("there is no point to fit")
    adapted = [point for point in every if point.active > 0]
    plain = [point for point in every if point.active <= 0]
    if plain and len({point.batch for point in adapted}) > 1:
        speed = _two_lines(plain, adapted, prompt_weight, spread)
    else:
        speed = _one_line(every, adapted, prompt_weight, spread)
    steps = ((step_seconds(speed, p.batch, p.active), p.step_s) for p in adapted or every)
    return speed, max(abs(predicted / step_s - 1) for predicted, step_s in steps)


def _two_lines(
    plain: Sequence[Point], adapted: Sequence[Point], prompt_weight: float, spread: float
) -> Speed:
    """Fit base and adapters separately: LoRA may cost by step or by request."""
    step, request = _line([(point.batch, point.step_s) for point in plain])
    lora = _one_line(adapted, adapted, prompt_weight, spread)
    lora_step, lora_request = lora.step_s, lora.request_s
    if lora_step < step:  # LoRA makes no step shorter: its whole cost is by request
        lora_step = step
        took = [(point.batch, point.step_s / crowding(lora, point.active)) for point in adapted]
        squares = sum((batch / seconds) ** 2 for batch, seconds in took)
        lora_request = (
            sum(batch / seconds * (1 - step / seconds) for batch, seconds in took) / squares
        )
    step = max(step, lora_step / MOST_FACTOR)
    return Speed(
        step, request, lora_step / step, lora.spread, prompt_weight, max(lora_request, 0.0)
    )


def _one_line(
    every: Sequence[Point], adapted: Sequence[Point], prompt_weight: float, spread: float
) -> Speed:
    level = len(adapted) < len(every)  # the base alone was measured: LoRA's own cost shows
    speed = Speed(0.0, 0.0, 1.0, spread, prompt_weight)
    actives = {point.active for point in adapted}
    for _ in range(_ROUNDS):
        slowed = {active: speed.lora_factor * crowding(speed, active) for active in actives}
        step, request = _line(
            [(point.batch, point.step_s / slowed.get(point.active, 1.0)) for point in every]
        )
        speed = replace(speed, step_s=step, request_s=request)
        if adapted:
            factor, more = _lora(speed, adapted, spread)
            speed = replace(speed, lora_factor=factor if level else 1.0, spread=more)
    return speed


def _lora(speed: Speed, points: Sequence[Point], spread: float) -> tuple[float, float]:
    """Return factor and spread while the cost of the base stays."""
    slowed = [
        (max(point.active - 1, 0.0), point.step_s / step_seconds(speed, point.batch, 0))
        for point in points
    ]
    if len({active for active, _ in slowed}) > 1:
        level, slope = _line(slowed)
        return max(level, 1.0), slope / max(level, 1.0)
    mean = sum(slow for _, slow in slowed) / len(slowed)
    return max(mean / (1 + spread * slowed[0][0]), 1.0), spread


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return level and slope, neither negative, with the least sum of squared relative errors."""
    weights = [(1 / value, at / value) for at, value in points]
    ones = sum(inverse * inverse for inverse, _ in weights)
    mixed = sum(inverse * at for inverse, at in weights)
    squares = sum(at * at for _, at in weights)
    one_sum = sum(inverse for inverse, _ in weights)
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


PROFILE_FORMAT = 1
"""Version of the profile files that this fleetctl writes and reads."""
FOR_PEOPLE = frozenset({"format", "points", "server", "measured", "notes"})
"""Keys of a profile file that planning does not read: circumstances of the measurement."""


class ProfileError(ValueError):
    """A mapping that is no profile; the message gives the reason, in a sentence."""


def parse_profile(document: Mapping[str, Any]) -> Profile:
    """Read the decoded JSON of a file that `fleetctl calibrate` wrote.

    Raises:
        ProfileError: unknown format, a key that is missing or unknown, a value out of range.
    """
    stamp = document.get("format")
    if stamp != PROFILE_FORMAT:
        raise ProfileError(f"Its format is {stamp!r}; this fleetctl reads format {PROFILE_FORMAT}.")
    field_names = {field.name for field in fields(Profile)}
    strange = sorted(document.keys() - field_names - FOR_PEOPLE)
    if strange:
        raise ProfileError(f"It has a key that no profile has: `{strange[0]}`.")
    content = {key: value for key, value in document.items() if key in field_names}
    try:
        # From JSON, because strict Python input takes no mapping for a dataclass.
        profile = TypeAdapter(Profile).validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ProfileError(f"`{where}`: {first['msg']}.") from None
    speed = profile.speed
    for name, value, least, most in (
        ("tensor_parallel", profile.tensor_parallel, 1, 1024),
        ("max_lora_rank", profile.max_lora_rank, 1, 4096),
        ("residual", profile.residual, 0, 1e3),
        ("reserve_bytes", profile.reserve_bytes or 0, 0, 1 << 50),
        ("weight_bytes", profile.weight_bytes or 1, 1, 1 << 50),
        ("speed.step_s", speed.step_s, 1e-9, 1e3),
        ("speed.request_s", speed.request_s, 0, 1e3),
        ("speed.lora_factor", speed.lora_factor, 1, 1e3),
        ("speed.spread", speed.spread, 0, 1e3),
        ("speed.prompt_weight", speed.prompt_weight, 0, 1e3),
        ("speed.lora_request_s", speed.lora_request_s or 0, 0, 1e3),
    ):
        if not least <= value <= most:  # refuses infinities and not-a-numbers too
            raise ProfileError(f"`{name}` is {value:g}; it must be from {least:g} to {most:g}.")
    return profile
