"""Which constants hold for a server: a measurement that fits it, else the estimate."""

from collections.abc import Sequence

from fleet.declared import Base, Device
from fleet.profiles import Profile, Speed
from fleet.slots import release
from fleet.throughput.estimate import estimate

WORST_RESIDUAL = 0.10
"""A profile whose law is off by more than this on its own points is not used."""


def speed_of(
    profiles: tuple[Profile, ...],
    base: Base,
    device: Device,
    tensor_parallel: int,
    max_lora_rank: int,
    *,
    vllm: str = "",
) -> tuple[Speed | None, str]:
    """Return a server's constants, and how good they are.

    Args:
        profiles: What was measured.
        base: What the server runs.
        device: One of its devices.
        tensor_parallel: Number of its devices.
        max_lora_rank: The rank that it is started with.
        vllm: Version of its engine where it is known.

    Returns:
        The constants, None where nothing is known (no limit can be given); and the basis:
        `calibrated, residual 3.1 %`, `uncalibrated`, `uncalibrated (…)` with what speaks against
        the profile that there is, or `unknown`. Measured steps are made longer by their residual.
    """
    held, reason = measured(profiles, base, device, tensor_parallel, vllm=vllm)
    above = next((each for each in held if each.max_lora_rank >= max_lora_rank), None)
    if above is not None:
        below = [each for each in held if each.max_lora_rank <= max_lora_rank]
        return _between((below or [above])[-1], above, max_lora_rank)
    if held:
        reason = f"measured at rank {held[-1].max_lora_rank}, here it is {max_lora_rank}"
    guess = estimate(base, device.kind, tensor_parallel, max_lora_rank)
    if guess is None:
        return None, "unknown"
    return guess, f"uncalibrated ({reason})" if reason else "uncalibrated"


def measured(
    profiles: Sequence[Profile],
    base: Base,
    device: Device,
    tensor_parallel: int,
    *,
    vllm: str = "",
) -> tuple[tuple[Profile, ...], str]:
    """Return the profiles that hold for such servers, by rank, one per rank, or why none does.

    Where the engine's version is not known, the newest that was measured counts. The reason is
    empty where there is no profile of this base on this kind of device at all.
    """
    same = [each for each in profiles if (each.base, each.kind) == (base.name, device.kind)]
    if not same:
        return (), ""
    fitting = [each for each in same if each.tensor_parallel == tensor_parallel]
    if not fitting:
        return (), f"measured on {same[0].tensor_parallel} devices per server, not on this many"
    dtyped = [each for each in fitting if each.dtype == base.dtype]
    if not dtyped:
        return (), f"measured as {fitting[0].dtype}, here it is {base.dtype}"
    wanted = release(vllm) if vllm else max(release(each.vllm) for each in dtyped)
    current = [each for each in dtyped if release(each.vllm) == wanted]
    if not current:
        return (), f"measured with vLLM {dtyped[0].vllm}, servers run {vllm}"
    good = [each for each in current if each.residual <= WORST_RESIDUAL]
    if not good:
        least = 100 * min(each.residual for each in current)
        limit = 100 * WORST_RESIDUAL
        return (), f"the profile's residual is {least:.1f} %, more than {limit:.0f} %"
    best = {
        each.max_lora_rank: each
        for each in sorted(good, key=lambda each: (-each.residual, each.vllm))
    }
    return tuple(best[rank] for rank in sorted(best)), ""


def _between(below: Profile, above: Profile, rank: int) -> tuple[Speed, str]:
    """Scale linearly by rank between two measurements."""
    width = above.max_lora_rank - below.max_lora_rank
    share = (rank - below.max_lora_rank) / width if width else 0.0
    residual = max(below.residual, above.residual)
    low, high = below.speed, above.speed

    def mix(first: float, second: float) -> float:
        return first + (second - first) * share

    step, request = (mix(*each) for each in zip(low.adapted, high.adapted, strict=True))
    plain = mix(low.step_s, high.step_s)
    speed = Speed(
        step_s=plain * (1 + residual),
        request_s=mix(low.request_s, high.request_s) * (1 + residual),
        lora_factor=step / plain,
        spread=mix(low.spread, high.spread),
        prompt_weight=mix(low.prompt_weight, high.prompt_weight),
        lora_request_s=request * (1 + residual),
    )
    return speed, f"calibrated, residual {100 * residual:.1f} %"
