"""Search options that `plan` shares with the commands that show a placement."""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

import click

_OPTIONS = (
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


def search_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--effort`, `--max-moves` and `--repack`, which it gets as `search`."""

    def searched(*arguments: Any, **options: Any) -> None:
        from fleet.placement import SearchLimits  # noqa: PLC0415 (keeps `--help` fast)

        search = SearchLimits(*(options.pop(each) for each in ("effort", "max_moves", "repack")))
        command(*arguments, search=search, **options)

    wrapped = cast("Callable[..., None]", wraps(command)(searched))
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped
