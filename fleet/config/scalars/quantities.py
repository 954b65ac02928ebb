"""Reads quantities: durations, delays, sizes, percents, thresholds, windows of hours, counts.

All scalar types share the errors, the wording of values and the schema of texts made here.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from math import inf, isfinite
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from fleet.policies import AUTO
from fleet.spec import LEAST_KEPT


def wrong(code: str, detail: str, hint: str = "") -> PydanticCustomError:
    """Return the error of a validator; `code` and texts arrive in the diagnostic."""
    sentence = detail[:1].upper() + detail[1:]
    return PydanticCustomError(code, "{detail}", {"detail": sentence, "hint": hint})


def shown(value: Any) -> str:
    """Return a value as YAML shows the value, shortened."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case dict():
            return "a map"
        case list():
            return "a list"
        case _:
            text = str(value)
            return f"`{text}`" if len(text) <= 40 else f"`{text[:37]}…`"  # noqa: PLR2004 (a line's worth)


def text_schema(pattern: str, **more: Any) -> WithJsonSchema:
    """Return the JSON Schema of a text that matches `pattern` as a whole."""
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern})$", **more})


Value = TypeVar("Value")


def cached(read: Callable[[Any], Value]) -> Callable[[Any], Value]:
    """Return a reader that reads equal texts a single time: a large fleet repeats its texts."""
    read_text = lru_cache(maxsize=4096)(read)
    return lambda value: read_text(value) if isinstance(value, str) else read(value)


def _with_unit(
    value: Any, pattern: re.Pattern[str], code: str, otherwise: str, hint: str
) -> re.Match[str]:
    """Return the number and the unit of a value; `otherwise` says why a text has neither."""
    match = pattern.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        why = otherwise if isinstance(value, str) else "has no unit"
        raise wrong(code, f"{shown(value)} {why}.", hint)
    return match


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"B": 1}
_BYTES |= {f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", 1)}
_BYTES |= {f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", 1)}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(s|m|h|d|w)")
_DELAY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(ms|s)")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([KMGT]i?B|B)")
_PERCENT = re.compile(r"([0-9]{1,3}) ?%?")
_THRESHOLD = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(pp|%|x|ms|s)")
_HOURS = re.compile(r"([0-9]{1,2})(?::00)?-([0-9]{1,2})(?::00)?")
MAX_PORT = 65535
MAX_DURATION = timedelta(days=3660)
LAST_HOUR = 24


@cached
def parse_duration(value: Any) -> timedelta:
    """Read `90s`, `30m`, `24h`, `7d` or `2w`.

    Raises:
        PydanticCustomError: another form, or more than ten years.
    """
    if isinstance(value, timedelta):
        return value
    hint = "Write a number with a unit: `90s`, `30m`, `24h`, `7d` or `2w`."
    match = _with_unit(value, _DURATION, "FC1105", "is not a duration", hint)
    duration = timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    if duration > MAX_DURATION:
        raise wrong("FC1105", f"{shown(value)} is more than ten years.", hint)
    return duration


def format_duration(value: timedelta) -> str:
    """Return the shortest form that `parse_duration` reads back."""
    seconds = value.total_seconds()
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{int(seconds // _SECONDS[unit])}{unit}"
    return f"{seconds:g}s"


def _delay(value: Any) -> float:
    hint = "Write a number with a unit: `500ms`, `2s`."
    match = _with_unit(value, _DELAY, "FC1105", "is not a time for an answer", hint)
    seconds = float(match[1]) / (1000 if match[2] == "ms" else 1)
    if seconds <= 0:
        raise wrong("FC1105", f"{shown(value)} can never be kept.", hint)
    return seconds


@cached
def parse_size(value: Any) -> int:
    """Read `80GiB`, `64MiB` or `24GB` as bytes.

    Raises:
        PydanticCustomError: another form.
    """
    hint = "Write a number with a unit: `80GiB`, `64MiB`, `24GB`."
    match = _with_unit(value, _SIZE, "FC1106", "is not a size", hint)
    number = float(match[1]) if "." in match[1] else int(match[1])
    if number * _BYTES[match[2]] < 1:
        raise wrong("FC1106", f"{shown(value)} is nothing.", hint)
    return int(number * _BYTES[match[2]])


def _percent(value: Any) -> int:
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    number = int(match[1]) if match else value
    if type(number) is not int or not 0 <= number <= 100:  # noqa: PLR2004 (a percentage)
        detail = f"{shown(value)} is not a whole percentage from 0 to 100."
        raise wrong("FC1107", detail, "Write `10%` or `10`.")
    return number


class Threshold(NamedTuple):
    """A number with its unit: `pp` percentage points, `%`, `x` times, `ms` or `s`."""

    number: float
    unit: str


def _threshold(value: Any) -> Threshold:
    match = _THRESHOLD.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        hint = "Write a number with a unit: `3pp` (percentage points), `2%`, `1.5x`, `500ms`."
        raise wrong("FC1108", f"{shown(value)} is not a threshold.", hint)
    return Threshold(float(match[1]), match[2])


@cached
def _hours(value: Any) -> tuple[int, int]:
    match = _HOURS.fullmatch(value) if isinstance(value, str) else None
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if first == last or first >= LAST_HOUR or last > LAST_HOUR:
        hint = 'Write full hours, from and to: `"09-18"`; `"22-04"` spans midnight.'
        hint = hint if isinstance(value, str) else 'Quote it: `"09-18"`.'
        raise wrong("FC1109", f"{shown(value)} is not a window of hours.", hint)
    return first, last


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise wrong("FC1101", f"{shown(value)} is not a number.")
    return value


def _delay_text(seconds: float) -> str:
    return f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"


Duration = Annotated[
    timedelta,
    PlainValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    text_schema(_DURATION.pattern, examples=["24h"]),
]
Delay = Annotated[
    float,
    PlainValidator(_delay),
    PlainSerializer(_delay_text, return_type=str),
    text_schema(_DELAY.pattern, examples=["500ms", "2s"]),
]
PromisedTime = Annotated[
    float,
    PlainValidator(lambda value: inf if value == "none" else _delay(value)),
    PlainSerializer(lambda s: _delay_text(s) if isfinite(s) else "none", return_type=str),
    text_schema(f"none|{_DELAY.pattern}", examples=["500ms", "2s", "none"]),
]
Size = Annotated[int, PlainValidator(parse_size), text_schema(_SIZE.pattern, examples=["80GiB"])]


def _percentage(least: int) -> WithJsonSchema:
    number = {"type": "integer", "minimum": least, "maximum": 100}
    text = {"type": "string", "pattern": f"^(?:{_PERCENT.pattern})$"}
    return WithJsonSchema({"anyOf": [number, text], "examples": ["10%"]})


def _share(value: Any) -> int:
    number = _percent(value)
    if number == 0:
        raise wrong("FC1107", "0 % leaves nothing to use.", "Write such as `70%`.")
    return number


Percent = Annotated[int, PlainValidator(_percent), _percentage(0)]
Share = Annotated[int, PlainValidator(_share), _percentage(1)]
Limit = Annotated[
    Threshold,
    PlainValidator(_threshold),
    PlainSerializer(lambda limit: f"{limit.number:g}{limit.unit}", return_type=str),
    text_schema(_THRESHOLD.pattern, examples=["3pp"]),
]
GateLimit = Annotated[
    Threshold,
    PlainValidator(lambda value: Threshold(0, AUTO) if value == AUTO else _threshold(value)),
    PlainSerializer(
        lambda limit: AUTO if limit.unit == AUTO else f"{limit.number:g}{limit.unit}",
        return_type=str,
    ),
    text_schema(f"{AUTO}|{_THRESHOLD.pattern}", examples=["3pp"]),
]
Hours = Annotated[
    tuple[int, int],
    PlainValidator(_hours),
    PlainSerializer(lambda hours: f"{hours[0]:02}-{hours[1]:02}", return_type=str),
    text_schema(_HOURS.pattern, examples=["09-18"]),
]
Count = Annotated[int, Field(ge=1, le=2**31), BeforeValidator(_no_boolean)]
Kept = Annotated[int, Field(ge=LEAST_KEPT, le=2**31), BeforeValidator(_no_boolean)]
Many = Annotated[int, Field(ge=1, le=10**14), BeforeValidator(_no_boolean)]
Spare = Annotated[int, Field(ge=0, le=2**31), BeforeValidator(_no_boolean)]
Width = Annotated[int, Field(ge=1, le=64), BeforeValidator(_no_boolean)]
Port = Annotated[int, Field(ge=1, le=MAX_PORT), BeforeValidator(_no_boolean)]
Amount = Annotated[float, Field(ge=0, le=1e12), BeforeValidator(_no_boolean)]
Rate = Annotated[float, Field(gt=0, le=1e9), BeforeValidator(_no_boolean)]
Switch = Annotated[bool, Field(strict=True)]
