"""Scalar types of the declarations: durations, sizes, percents, hours, versions, secrets.

Each reads its YAML form once, at the edge, and raises an error that shows the right form.
The error's type is one of our codes; see `fleet/problems.py`.
"""

from fleet.units.calendar import Day, Digest, Part
from fleet.units.quantities import (
    Amount,
    Count,
    Delay,
    Duration,
    Hours,
    Kept,
    Limit,
    Percent,
    Port,
    Share,
    Size,
    Spare,
    Switch,
    Threshold,
    Width,
    format_duration,
    parse_duration,
    parse_size,
)
from fleet.units.words import (
    FlagValue,
    Id,
    Listen,
    SecretRef,
    Semver,
    Url,
    Webhook,
    Word,
    version_hint,
)

__all__ = [
    "Amount",
    "Count",
    "Day",
    "Delay",
    "Digest",
    "Duration",
    "FlagValue",
    "Hours",
    "Id",
    "Kept",
    "Limit",
    "Listen",
    "Part",
    "Percent",
    "Port",
    "SecretRef",
    "Semver",
    "Share",
    "Size",
    "Spare",
    "Switch",
    "Threshold",
    "Url",
    "Webhook",
    "Width",
    "Word",
    "format_duration",
    "parse_duration",
    "parse_size",
    "version_hint",
]
