"""Options that several commands read in the same way."""

from datetime import UTC, datetime, timedelta

import click


def duration(_: click.Context, __: click.Parameter, value: str | None) -> timedelta | None:
    """Read a duration such as `30s` (a click callback)."""
    from fleet.config import parse_duration  # noqa: PLC0415 (keeps `--help` fast)

    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def moment(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """Read a time such as `2026-12-01T08:00Z` (a click callback); without a zone it is UTC."""
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        text = f"{value!r} is no time; write it as 2026-11-25T08:00Z."
        raise click.BadParameter(text) from None
