"""Options that several commands read in the same way."""

from datetime import timedelta

import click


def duration(_: click.Context, __: click.Parameter, value: str | None) -> timedelta | None:
    """Read a duration such as `30s` (a click callback)."""
    from fleet.units import parse_duration  # noqa: PLC0415 (keeps `--help` fast)

    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
