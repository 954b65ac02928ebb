"""Scalar types of the declarations: durations, sizes, percents, hours, versions, secrets.

Each reads its YAML form once, at the edge, and raises an error that shows the right form.
The error's type is one of our codes; see `fleet/problems.py`.
"""

import re
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from fleet.names import ID_PATTERN, VERSION_PATTERN, is_id, suggest_id

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40} | {
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(s|m|h|d|w)")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([KMGT]i?B|B)")
_PERCENT = re.compile(r"([0-9]{1,3}) ?%?")
_THRESHOLD = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(pp|%|x|ms|s)")
_HOURS = re.compile(r"([0-9]{1,2})(?::00)?-([0-9]{1,2})(?::00)?")
_SECRET = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:[^\s\x00]+")
_VERSION = re.compile(VERSION_PATTERN)
_LISTEN = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_URL = re.compile(r"https?://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[^\s?#]*)?")
MAX_PORT = 65535
MAX_DURATION = timedelta(days=3660)
LAST_HOUR = 24


def wrong(code: str, detail: str, hint: str = "") -> PydanticCustomError:
    """Return the error of a validator; `code` and texts arrive in the diagnostic."""
    sentence = detail[:1].upper() + detail[1:]
    return PydanticCustomError(code, "{detail}", {"detail": sentence, "hint": hint})


def _shown(value: Any) -> str:
    """Return a value as YAML shows it, shortened."""
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


@lru_cache(maxsize=4096)
def parse_duration(value: str) -> timedelta:
    """Read `90s`, `30m`, `24h`, `7d` or `2w`.

    Raises:
        PydanticCustomError: another form, or more than ten years.
    """
    match = _DURATION.fullmatch(value)
    if match is None:
        raise wrong("FC1105", f"{_shown(value)} is not a duration.", _DURATION_HINT)
    duration = timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    if duration > MAX_DURATION:
        raise wrong("FC1105", f"{_shown(value)} is more than ten years.", _DURATION_HINT)
    return duration


_DURATION_HINT = "Write a number with a unit: `90s`, `30m`, `24h`, `7d` or `2w`."


def _duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise wrong("FC1105", f"{_shown(value)} has no unit.", _DURATION_HINT)
    return parse_duration(value)


def format_duration(value: timedelta) -> str:
    """Return the shortest form that `parse_duration` reads back."""
    seconds = value.total_seconds()
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{int(seconds // _SECONDS[unit])}{unit}"
    return f"{seconds:g}s"


@lru_cache(maxsize=4096)
def parse_size(value: str) -> int:
    """Read `80GiB`, `64MiB` or `24GB` as bytes.

    Raises:
        PydanticCustomError: another form.
    """
    match = _SIZE.fullmatch(value)
    if match is None:
        hint = "Write a number with a unit: `80GiB`, `64MiB`, `24GB`."
        raise wrong("FC1106", f"{_shown(value)} is not a size.", hint)
    return int(float(match[1]) * _BYTES[match[2]]) if "." in match[1] else _whole_size(match)


def _whole_size(match: re.Match[str]) -> int:
    return int(match[1]) * _BYTES[match[2]]


def _size(value: Any) -> int:
    if not isinstance(value, str):
        hint = "Write a number with a unit: `80GiB`, `64MiB`, `24GB`."
        raise wrong("FC1106", f"{_shown(value)} has no unit.", hint)
    return parse_size(value)


def _percent(value: Any) -> int:
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    number = int(match[1]) if match else value
    if type(number) is not int or not 0 <= number <= 100:  # noqa: PLR2004 (a percentage)
        detail = f"{_shown(value)} is not a whole percentage from 0 to 100."
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
        raise wrong("FC1108", f"{_shown(value)} is not a threshold.", hint)
    return Threshold(float(match[1]), match[2])


def _format_threshold(value: Threshold) -> str:
    return f"{value.number:g}{value.unit}"


@lru_cache(maxsize=1024)
def _parse_hours(value: str) -> tuple[int, int]:
    match = _HOURS.fullmatch(value)
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if first == last or first >= LAST_HOUR or last > LAST_HOUR:
        hint = 'Write full hours, from and to: `"09-18"`; `"22-04"` spans midnight.'
        raise wrong("FC1109", f"{_shown(value)} is not a window of hours.", hint)
    return first, last


def _hours(value: Any) -> tuple[int, int]:
    if not isinstance(value, str):
        hint = 'Quote it: `"09-18"`.'
        raise wrong("FC1109", f"{_shown(value)} is not a window of hours.", hint)
    return _parse_hours(value)


def _format_hours(value: tuple[int, int]) -> str:
    return f"{value[0]:02}-{value[1]:02}"


def _semver(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise wrong("FC1104", f"{_shown(value)} is not a version.", 'Write it as `"1.2.3"`.')
    if not isinstance(value, str):
        raise wrong("FC1103", str(value))
    if _VERSION.fullmatch(value) is None:
        detail = f"{_shown(value)} is not three numbers such as `1.2.3`."
        raise wrong("FC1104", detail, version_hint(value))
    return value


def version_hint(value: str) -> str:
    """Return how to write the version that was probably meant."""
    numbers = re.fullmatch(r"v?([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:\.([0-9]{1,9}))?", value)
    if numbers is None:
        return 'Write it as `"1.2.3"`, without suffixes.'
    return f'Write `"{".".join(str(int(each or 0)) for each in numbers.groups())}"`.'


def _id(value: Any) -> str:
    if not isinstance(value, str):
        raise wrong("FC1102", f"{_shown(value)} is not a name.", "Quote it, if it is meant as one.")
    if not is_id(value):
        near = suggest_id(value)
        because = (
            "holds a hyphen, which joins the parts of a full name"
            if "-" in value
            else "is not lower-case letters, digits and single underscores, a letter first"
        )
        raise wrong("FC1102", f"{_shown(value)} {because}.", f"Write `{near}`." if near else "")
    return value


def _secret(value: Any) -> str:
    if isinstance(value, str) and _SECRET.fullmatch(value):
        return value
    detail = "A secret in a file ends up in version control, in plans and in logs."
    hint = "Write where it is kept, `env:NAME` or `file:path`, and replace the exposed secret."
    raise wrong("FC1110", detail, hint)


def _listen(value: Any) -> str:
    match = _LISTEN.fullmatch(value) if isinstance(value, str) else None
    if match is None or not 0 < int(match[2]) <= MAX_PORT:
        hint = 'Write host and port: `"127.0.0.1:8080"`.'
        raise wrong("FC1113", f"{_shown(value)} is not an address to listen on.", hint)
    return str(value)


def _url(value: Any) -> str:
    match = _URL.fullmatch(value) if isinstance(value, str) else None
    if match is None or (match[2] and not 0 < int(match[2][1:]) <= MAX_PORT):
        hint = 'Write scheme, host and port: `"http://10.0.0.5:8000"`.'
        raise wrong("FC1113", f"{_shown(value)} is not the URL of a server.", hint)
    return str(value).rstrip("/")


def _flag_value(value: Any) -> str | int | float | bool:
    if isinstance(value, str | int | float):
        return value
    raise wrong("FC1101", f"{_shown(value)} is not the value of a flag.", "`true`: a bare switch.")


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise wrong("FC1101", f"{_shown(value)} is not a number.")
    return value


def _text(pattern: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern})$", **more})


_as_duration = PlainSerializer(format_duration, return_type=str)

Id = Annotated[str, PlainValidator(_id), _text(ID_PATTERN)]
Duration = Annotated[
    timedelta, PlainValidator(_duration), _as_duration, _text(_DURATION.pattern, examples=["24h"])
]
Size = Annotated[int, PlainValidator(_size), _text(_SIZE.pattern, examples=["80GiB"])]
Percent = Annotated[
    int,
    PlainValidator(_percent),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 100},
                {"type": "string", "pattern": f"^(?:{_PERCENT.pattern})$"},
            ],
            "examples": ["10%"],
        }
    ),
]
Limit = Annotated[
    Threshold,
    PlainValidator(_threshold),
    PlainSerializer(_format_threshold, return_type=str),
    _text(_THRESHOLD.pattern, examples=["3pp"]),
]
Hours = Annotated[
    tuple[int, int],
    PlainValidator(_hours),
    PlainSerializer(_format_hours, return_type=str),
    _text(_HOURS.pattern, examples=["09-18"]),
]
Semver = Annotated[str, PlainValidator(_semver), _text(VERSION_PATTERN, examples=["2.1.0"])]
SecretRef = Annotated[
    str, PlainValidator(_secret), _text(_SECRET.pattern, examples=["env:ACME_KEY"])
]
Listen = Annotated[str, PlainValidator(_listen), _text(_LISTEN.pattern)]
Url = Annotated[str, PlainValidator(_url), _text(_URL.pattern)]
FlagValue = Annotated[
    str | int | float | bool,
    PlainValidator(_flag_value),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
Count = Annotated[int, BeforeValidator(_no_boolean), Field(ge=1, le=2**31)]
Port = Annotated[int, BeforeValidator(_no_boolean), Field(ge=1, le=MAX_PORT)]
Amount = Annotated[float, BeforeValidator(_no_boolean), Field(ge=0, le=1e12, allow_inf_nan=False)]
Word = Annotated[str, Field(min_length=1, max_length=4096)]
