"""Profiles: what was measured of a server, and the GPUs we know by their data sheets."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

FORMAT = 1
"""Version of the profile files that this fleetctl writes and reads."""

FOR_PEOPLE = frozenset({"format", "points", "server", "measured", "notes"})
"""Keys of a profile file that planning does not read: how and when it was measured."""

GIB = 1 << 30


class ProfileError(ValueError):
    """A mapping is no profile; the text says why, in a sentence."""


@dataclass(frozen=True, slots=True)
class Speed:
    """The constants of the throughput law of one base on one kind of device.

    A step that decodes one token for each of `batch` requests takes `step_s + request_s * batch`
    where all ask the base, and with `active` different adapters among them
    `(lora_factor * step_s + lora_request_s * batch) * (1 + spread * (active - 1))`.
    """

    step_s: float
    """Seconds of an empty step: reading all weights once, launching kernels."""
    request_s: float
    """Seconds that each request of the batch adds: reading its KV cache."""
    lora_factor: float
    """What any LoRA at all multiplies an empty step by, 1 or more."""
    spread: float
    """What each further adapter of the batch adds, as a part of the step."""
    prompt_weight: float
    """Cost of a prompt token in decoded tokens."""
    lora_request_s: float | None = None
    """Seconds that each request adds once adapters are asked; None: `lora_factor * request_s`.

    On a processor LoRA costs by the request, on a card mostly by the step.
    """

    @property
    def adapted(self) -> tuple[float, float]:
        """Seconds of an empty step, and those that each request adds, with one adapter active."""
        request = self.lora_request_s
        return (
            self.lora_factor * self.step_s,
            self.lora_factor * self.request_s if request is None else request,
        )


@dataclass(frozen=True, slots=True)
class Profile:
    """A measurement of one server, as `fleetctl calibrate` writes it."""

    base: str
    kind: str
    """The device's kind, such as `h100_80g`."""
    tensor_parallel: int
    max_lora_rank: int
    vllm: str
    """The engine's version, such as `0.32.0`."""
    dtype: str
    speed: Speed
    residual: float
    """Largest relative error of the fit over its points."""
    reserve_bytes: int | None = None
    """Memory that is neither weights nor slots nor KV cache, per device."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What the maker says of one kind of device. Peak figures; nobody reaches them."""

    bandwidth: float
    """Bytes per second between the device and its memory."""
    flops: float
    """Dense 16 bit multiply-and-adds per second, counted as two operations."""
    memory_bytes: int
    """Memory by name; what the driver reports is up to 1 % less."""


SHEETS: Mapping[str, Sheet] = MappingProxyType(
    {
        "rtx3090_24g": Sheet(936e9, 71e12, 24 * GIB),
        "rtx4090_24g": Sheet(1008e9, 165.2e12, 24 * GIB),
        "l4_24g": Sheet(300e9, 121e12, 24 * GIB),
        "a10_24g": Sheet(600e9, 125e12, 24 * GIB),
        "a10g_24g": Sheet(600e9, 70e12, 24 * GIB),
        "l40s_48g": Sheet(864e9, 362e12, 48 * GIB),
        "a100_40g": Sheet(1555e9, 312e12, 40 * GIB),
        "a100_80g": Sheet(1935e9, 312e12, 80 * GIB),
        "h100_80g": Sheet(3350e9, 989e12, 80 * GIB),
        "h100_pcie_80g": Sheet(2000e9, 756e12, 80 * GIB),
        "h200_141g": Sheet(4800e9, 989e12, 141_000_000_000),
        "b200_180g": Sheet(7700e9, 2250e12, 180_000_000_000),
        "mi300x_192g": Sheet(5300e9, 1307e12, 192 * GIB),
        "cpu": Sheet(20e9, 0.1e12, 0),
    }
)
"""The kinds of device that fleetctl knows; others are planned without a limit of throughput.

Source:
    NVIDIA: Ampere GA102 and Ada whitepapers (3090, 4090: FP16 with FP32 accumulate, dense); data
    sheets of L4, A10, L40S (half of the figures "with sparsity"), A100 (the PCIe card's 1,935
    GB/s; SXM has 2,039), H100 (SXM5 and PCIe), H200, HGX B200 (per GPU; 7.7 to 8 TB/s by board).
    AWS for the A10G. AMD: data sheet of the MI300X (dense bfloat16).
    `cpu` stands for two desktop cores with dual-channel DDR4, at half of its peak; a guess.
"""


def sheet_of(kind: str) -> Sheet | None:
    """Return the data sheet of a kind of device; None where it is not known."""
    return SHEETS["cpu"] if is_cpu(kind) else SHEETS.get(kind)


def is_cpu(kind: str) -> bool:
    """Say whether a kind is a processor and not a card, such as `cpu` or `cpu_arm`."""
    return kind.startswith("cpu")


def parse_profile(document: Mapping[str, Any]) -> Profile:
    """Read a profile file's content.

    Args:
        document: The decoded JSON of a file that `fleetctl calibrate` wrote.

    Raises:
        ProfileError: unknown format, a key that is missing or unknown, a value out of range.
    """
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 (most fleets have no profile)

    found = document.get("format")
    if found != FORMAT:
        raise ProfileError(f"Its format is {found!r}; this fleetctl reads format {FORMAT}.")
    known = {each.name for each in fields(Profile)}
    strange = sorted(document.keys() - known - FOR_PEOPLE)
    if strange:
        raise ProfileError(f"It has a key that no profile has: `{strange[0]}`.")
    content = {key: value for key, value in document.items() if key in known}
    try:
        # From JSON, because strict Python input takes no mapping for a dataclass.
        profile = TypeAdapter(Profile).validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ProfileError(f"`{where}`: {first['msg']}.") from None
    _check(profile)
    return profile


def _check(profile: Profile) -> None:
    """Refuse what no measurement gives; infinities and not-a-numbers fail every comparison."""
    speed = profile.speed
    for name, value, least, most in (
        ("tensor_parallel", profile.tensor_parallel, 1, 1024),
        ("max_lora_rank", profile.max_lora_rank, 1, 4096),
        ("residual", profile.residual, 0, 1e3),
        ("reserve_bytes", profile.reserve_bytes or 0, 0, 1 << 50),
        ("speed.step_s", speed.step_s, 1e-9, 1e3),
        ("speed.request_s", speed.request_s, 0, 1e3),
        ("speed.lora_factor", speed.lora_factor, 1, 1e3),
        ("speed.spread", speed.spread, 0, 1e3),
        ("speed.prompt_weight", speed.prompt_weight, 0, 1e3),
        ("speed.lora_request_s", speed.lora_request_s or 0, 0, 1e3),
    ):
        if not least <= value <= most:
            raise ProfileError(f"`{name}` is {value:g}; it must be from {least:g} to {most:g}.")
