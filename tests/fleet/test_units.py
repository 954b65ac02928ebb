"""Scalar types at their edges."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from fleet import units
from fleet.units import format_duration, parse_duration


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (units.Duration, "90s", timedelta(seconds=90)),
        (units.Duration, "1.5h", timedelta(minutes=90)),
        (units.Duration, "2w", timedelta(days=14)),
        (units.Duration, "0s", timedelta()),
        (units.Size, "80GiB", 80 * 2**30),
        (units.Size, "1.5KiB", 1536),
        (units.Size, "24GB", 24 * 10**9),
        (units.Size, "7B", 7),
        (units.Percent, "10%", 10),
        (units.Percent, 100, 100),
        (units.Percent, "0", 0),
        (units.Limit, "3pp", (3.0, "pp")),
        (units.Limit, "1.5x", (1.5, "x")),
        (units.Hours, "00-24", (0, 24)),
        (units.Hours, "22-04", (22, 4)),
        (units.Hours, "09:00-18:00", (9, 18)),
        (units.Semver, "0.0.0", "0.0.0"),
        (units.SecretRef, "env:A_1", "env:A_1"),
        (units.SecretRef, "file:.keys/a", "file:.keys/a"),
        (units.Listen, "[::1]:80", "[::1]:80"),
        (units.Url, "http://a:1/", "http://a:1"),
        (units.Count, "12", 12),
        (units.Port, 65535, 65535),
    ],
)
def test_it_is_read(kind: Any, text: object, value: object) -> None:
    assert TypeAdapter(kind).validate_python(text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (units.Duration, "24"),
        (units.Duration, "-1h"),
        (units.Duration, " 1h"),
        (units.Duration, "1h30m"),
        (units.Duration, "999999999d"),
        (units.Duration, True),
        (units.Size, "80 gigs"),
        (units.Size, "80Gib"),
        (units.Size, 80),
        (units.Percent, 101),
        (units.Percent, 10.0),
        (units.Percent, True),
        (units.Percent, "-1%"),
        (units.Limit, "3"),
        (units.Limit, "-3pp"),
        (units.Hours, "09-09"),
        (units.Hours, "24-04"),
        (units.Hours, "9"),
        (units.Semver, "1.2"),
        (units.Semver, "1.2.3\n"),
        (units.Semver, 1.1),
        (units.SecretRef, "secret"),
        (units.SecretRef, "env:"),
        (units.SecretRef, "file:"),
        (units.SecretRef, "env:A B"),
        (units.Listen, ":8080"),
        (units.Listen, "a:0"),
        (units.Listen, "a:65536"),
        (units.Url, "ftp://a"),
        (units.Url, "http://a:0"),
        (units.Url, "http://a?x=1"),
        (units.Id, "a__b"),
        (units.Id, "_a"),
        (units.Id, "a_"),
        (units.Id, "é"),
        (units.Id, "a\n"),
        (units.Count, 0),
        (units.Count, True),
        (units.Count, 1.5),
        (units.Port, 65536),
        (units.Amount, float("nan")),
        (units.Amount, False),
    ],
)
def test_it_is_refused(kind: Any, text: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(text)


def test_a_refused_secret_is_not_in_the_message() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(units.SecretRef).validate_python("sk-live-1")
    (error,) = caught.value.errors(include_input=False)
    assert "sk-live" not in str(error)


@given(st.integers(0, 3660 * 24 * 60).map(lambda minutes: timedelta(minutes=minutes)))
def test_a_duration_is_read_back_as_written(value: timedelta) -> None:
    assert parse_duration(format_duration(value)) == value
