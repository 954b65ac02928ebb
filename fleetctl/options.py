"""Commands whose help texts hold examples, and the options that several commands share."""

import inspect
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

if TYPE_CHECKING:
    import runtime.workspace

Workspace: TypeAlias = "runtime.workspace.Workspace"
Call: TypeAlias = "runtime.workspace.Call"
LedgerContext: TypeAlias = "runtime.workspace.LedgerContext"
ProjectContext: TypeAlias = "runtime.workspace.ProjectContext"
"""Names for annotations: `--help` imports no workspace."""


INPUT_FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
"""A file to read; `-` is standard input."""
EXISTING_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
OUTPUT_FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


class KeyReference(click.ParamType[str]):
    """The place of a key; a value that is no place may be the key, and is not repeated."""

    name = "ref"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the place, or end with the usage."""
        if re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*|file:\S+", value) is None:
            self.fail("Write where the key is kept, env:NAME or file:PATH.", param, ctx)
        return value


class Command(click.Command):
    """A command; `Examples:` in the docstring of its function follow the options in `--help`."""

    def __init__(self, name: str | None, help: str | None = None, **settings: Any) -> None:  # noqa: A002 (click's name)
        text, title, rest = inspect.cleandoc(help or "").partition("\n\nExample")
        # click keeps the lines of a paragraph that begins with `\b`.
        epilog = f"{title}{rest}".replace("\n\n", "\n\n\b\n").strip("\n")
        super().__init__(name, help=text, epilog=epilog, **settings)


class Group(Command, click.Group):
    """A command with subcommands."""

    command_class = Command


def choice_option(*formats: str, help: str | None = None) -> Callable[[Any], Any]:  # noqa: A002 (click's name)
    """Return the option `--format`, with the first of its values as the default."""
    values = click.Choice(sorted(formats))
    return click.option("--format", "form", type=values, default=formats[0], help=help)


format_option = choice_option("text", "json")


def with_format(function: Callable[..., None]) -> Any:
    """Pass the workspace first, and add `--format`, text or json."""
    return format_option(click.pass_obj(function))


out_option = click.option(
    "--out", type=OUTPUT_FILE, help="Write to this file instead of standard output."
)
live_option = click.option(
    "--live",
    "live_file",
    type=INPUT_FILE,
    help="Use this live-state file instead of observing the servers.",
)


def _go_on(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.obj.without_broken |= value


without_broken_option = click.option(
    "--without-broken",
    is_flag=True,
    expose_value=False,
    callback=_go_on,
    help="Leave clients whose files, golden sets, lock entries or places are broken as they are "
    "live, go on with the others, and exit 4.",
)


def search_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--effort`, `--max-moves` and `--repack`, the fields of `SearchLimits`."""
    effort = click.option(
        "--effort",
        type=click.Choice(["fast", "balanced", "proof"]),
        default="fast",
        help="Search effort for the cheapest servers. proof also tries to prove that none are "
        "cheaper (needs the extra `proof`).",
    )
    max_moves = click.option(
        "--max-moves",
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help="Upper bound of adapters to move in order to empty servers.",
    )
    repack = click.option(
        "--repack",
        is_flag=True,
        help="Place everything anew if that is cheaper, regardless of moves.",
    )
    return effort(max_moves(repack(command)))


def duration(_: click.Context, __: click.Parameter, value: str | None) -> timedelta | None:
    """Read a duration such as `30s` (a click callback)."""
    if value is None:
        return None
    from fleet.config import parse_duration  # noqa: PLC0415 (keeps `--help` fast)

    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def moment(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """Read a time such as `2026-12-01T08:00Z` (a click callback); without a zone it is UTC."""
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        text = f"{value!r} is no time; write it as 2026-11-25T08:00Z."
        raise click.BadParameter(text) from None
