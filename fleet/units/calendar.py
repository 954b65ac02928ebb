"""Calendar: days, parts of the week, and digests that a person writes down."""

import re
from datetime import date
from functools import lru_cache
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator

from fleet.conditions import ChangeWindow
from fleet.units.refusal import shown, text_schema, wrong

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
_SPOT = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) ([01][0-9]|2[0-3]):([0-5][0-9])"
_WINDOW = re.compile(f"{_SPOT} ?- ?{_SPOT}", re.IGNORECASE)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{12,64})")


@lru_cache(maxsize=256)
def _parse_window(value: str) -> ChangeWindow:
    match = _WINDOW.fullmatch(value)
    spots = [
        DAYS.index(day.lower()) * DAY_MINUTES + int(hour) * 60 + int(minute)
        for day, hour, minute in (match.groups()[:3], match.groups()[3:])
    ] if match else [0, 0]  # fmt: skip
    if spots[0] == spots[1]:
        hint = 'Write days and times, from and to: `"Fri 16:00-Mon 08:00"`.'
        raise wrong("FC1142", f"{shown(value)} is not a part of the week.", hint)
    day, next_day = (each // DAY_MINUTES for each in (spots[0], spots[0] + DAY_MINUTES))
    if spots[1] < spots[0] and spots[1] // DAY_MINUTES == day:  # who wants that writes two parts
        meant = f"{value.rpartition('-')[0]}-{DAYS[next_day % len(DAYS)].capitalize()} "
        meant += value.rpartition(" ")[2]
        hint = f'It would last almost the whole week. Over midnight: `"{meant}"`.'
        raise wrong("FC1142", f"{shown(value)} ends before it begins.", hint)
    return ChangeWindow(spots[0], spots[1], value)


def _window(value: Any) -> ChangeWindow:
    return _parse_window(value if isinstance(value, str) else str(value))


def _day(value: Any) -> date:
    if isinstance(value, str) and _DAY.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise wrong("FC1141", f"{shown(value)} is not a day.", "Write it as `2026-12-01`.")


def _digest(value: Any) -> str:
    match = _DIGEST.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        hint = "Write `sha256:` and at least 12 hex digits, as the plan shows them."
        raise wrong("FC1143", f"{shown(value)} is not a digest.", hint)
    return match[1]


Part = Annotated[
    ChangeWindow,
    PlainValidator(_window),
    PlainSerializer(lambda value: value.text, return_type=str),
    text_schema(_WINDOW.pattern, examples=["Fri 16:00-Mon 08:00"]),
]
Day = Annotated[
    date,
    PlainValidator(_day),
    PlainSerializer(date.isoformat, return_type=str),
    text_schema(_DAY.pattern, examples=["2026-12-01"]),
]
Digest = Annotated[
    str, PlainValidator(_digest), text_schema(_DIGEST.pattern, examples=["sha256:41f0cc9d0a09"])
]
