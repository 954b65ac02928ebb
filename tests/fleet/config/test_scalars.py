"""Scalar types at their edges."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from fleet.config.scalars.quantities import (
    Amount,
    Count,
    Duration,
    Hours,
    Limit,
    Percent,
    Port,
    Size,
    format_duration,
    parse_duration,
)
from fleet.config.scalars.texts import AdminAddress, Id, Listen, SecretRef, Semver, Url


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Duration, "90s", timedelta(seconds=90)),
        (Duration, "1.5h", timedelta(minutes=90)),
        (Duration, "2w", timedelta(days=14)),
        (Duration, "0s", timedelta()),
        (Size, "80GiB", 80 * 2**30),
        (Size, "1.5KiB", 1536),
        (Size, "24GB", 24 * 10**9),
        (Size, "7B", 7),
        (Percent, "10%", 10),
        (Percent, 100, 100),
        (Percent, "0", 0),
        (Limit, "3pp", (3.0, "pp")),
        (Limit, "1.5x", (1.5, "x")),
        (Hours, "00-24", (0, 24)),
        (Hours, "22-04", (22, 4)),
        (Hours, "09:00-18:00", (9, 18)),
        (Semver, "0.0.0", "0.0.0"),
        (SecretRef, "env:A_1", "env:A_1"),
        (SecretRef, "file:.keys/a", "file:.keys/a"),
        (Listen, "[::1]:80", "[::1]:80"),
        (Url, "http://a:1/", "http://a:1"),
        (Count, "12", 12),
        (Port, 65535, 65535),
    ],
)
def test_it_is_read(kind: Any, text: object, value: object) -> None:
    assert TypeAdapter(kind).validate_python(text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Duration, "24"),
        (Duration, "-1h"),
        (Duration, " 1h"),
        (Duration, "1h30m"),
        (Duration, "999999999d"),
        (Duration, True),
        (Size, "80 gigs"),
        (Size, "80Gib"),
        (Size, 80),
        (Percent, 101),
        (Percent, 10.0),
        (Percent, True),
        (Percent, "-1%"),
        (Limit, "3"),
        (Limit, "-3pp"),
        (Hours, "09-09"),
        (Hours, "24-04"),
        (Hours, "9"),
        (Semver, "1.2"),
        (Semver, "1.2.3\n"),
        (Semver, 1.1),
        (SecretRef, "secret"),
        (SecretRef, "env:"),
        (SecretRef, "file:"),
        (SecretRef, "env:A B"),
        (Listen, ":8080"),
        (Listen, "a:0"),
        (Listen, "a:65536"),
        (Url, "ftp://a"),
        (Url, "http://a:0"),
        (Url, "http://a?x=1"),
        (Id, "a__b"),
        (Id, "_a"),
        (Id, "a_"),
        (Id, "é"),
        (Id, "a\n"),
        (Count, 0),
        (Count, True),
        (Count, 1.5),
        (Port, 65536),
        (Amount, float("nan")),
        (Amount, False),
    ],
)
def test_it_is_refused(kind: Any, text: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(text)


@pytest.mark.parametrize(
    ("kind", "value"), [(SecretRef, "sk-live-1"), (AdminAddress, "http://u:sk-live@127.0.0.1:9")]
)
def test_a_refused_secret_is_not_in_the_message(kind: Any, value: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    (error,) = caught.value.errors(include_input=False)
    assert "sk-live" not in str(error)


@given(st.integers(0, 3660 * 24 * 60).map(lambda minutes: timedelta(minutes=minutes)))
def test_a_duration_is_read_back_as_written(value: timedelta) -> None:
    assert parse_duration(format_duration(value)) == value
