"""Reads the profile of a device as `fleetctl calibrate` writes the file."""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fleet.hardware import Profile

PROFILE_FORMAT = 1
"""Version of the profile files that this fleetctl writes and reads."""
FOR_PEOPLE = frozenset({"format", "points", "server", "measured", "notes"})
"""Keys of a profile file that planning does not read: circumstances of the measurement."""


class ProfileError(ValueError):
    """A mapping that is no profile; the message gives the reason, in a sentence."""


def parse_profile(document: Mapping[str, Any]) -> Profile:
    """Read a profile file's content.

    Args:
        document: The decoded JSON of a file that `fleetctl calibrate` wrote.

    Raises:
        ProfileError: unknown format, a key that is missing or unknown, a value out of range.
    """
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 (most fleets have no profile)

    found = document.get("format")
    if found != PROFILE_FORMAT:
        raise ProfileError(f"Its format is {found!r}; this fleetctl reads format {PROFILE_FORMAT}.")
    known = {field.name for field in fields(Profile)}
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
        if not least <= value <= most:  # refuses infinities and not-a-numbers too
            raise ProfileError(f"`{name}` is {value:g}; it must be from {least:g} to {most:g}.")
    return profile
