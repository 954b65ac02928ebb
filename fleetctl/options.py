"""Options that several commands read in the same way."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, cast

import click

_SEARCH_OPTIONS = (
    click.option(
        "--effort",
        type=click.Choice(["fast", "balanced", "proof"]),
        default="fast",
        help="Search effort for the cheapest servers (default: fast). proof also tries to prove "
        "that none are cheaper (needs the extra `proof`).",
    ),
    click.option(
        "--max-moves",
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help="Upper bound of adapters to move in order to empty servers (default: 0).",
    ),
    click.option(
        "--repack",
        is_flag=True,
        help="Place everything anew if that is cheaper, regardless of moves.",
    ),
)


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


def search_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--effort`, `--max-moves` and `--repack`, which it gets as `search`."""

    def searched(*arguments: Any, **options: Any) -> None:
        from fleet.placement import SearchLimits  # noqa: PLC0415 (keeps `--help` fast)

        search = SearchLimits(*(options.pop(name) for name in ("effort", "max_moves", "repack")))
        command(*arguments, search=search, **options)

    wrapped = cast("Callable[..., None]", wraps(command)(searched))
    for option in reversed(_SEARCH_OPTIONS):
        wrapped = option(wrapped)
    return wrapped
