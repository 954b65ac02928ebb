"""Completes the commands that texts advise by the global options that were given.

A pasted command then acts on the same project, overlay and state folder.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fleetctl.lazy_group import COMMANDS

if TYPE_CHECKING:
    from runtime.workspace import Call

_OF_NO_PROJECT: Final = r"demo|scaffold fleet"
_ADVISED: Final = re.compile(
    rf"fleetctl(?=\s+(?!{_OF_NO_PROJECT})(?:{'|'.join(COMMANDS)})(?![\w'-]|\.\w))"
)
_BEGINS: Final = ("`", '"', "'", "(", ">", ": ", ". ", "&& ")
"""Ends of the text before an advised command, which may begin a line, too."""
_ESCAPED: Final = re.compile(r'["\\<>&\x00-\x1f]')
"""Characters that are not themselves in JSON and HTML; an option with such a value is left out."""
_PUBLIC: Final = frozenset({"md", "issues", "github", "sarif", "codequality"})
"""Formats that a forge shows, where absolute paths of this machine are left out."""


def given_options(
    root: Path, environment: str | None, variables: Mapping[str, str], state_dir: Path
) -> tuple[str, ...]:
    """Return the global options of a call, shell-quoted; what is as usual is left out."""
    given = [("-C", root, Path()), ("--env", environment, None)]
    given += [("--var", "=".join(pair), None) for pair in variables.items()]
    given += [("--state-dir", state_dir, root / ".fleetctl")]
    texts = (shlex.join([name, str(value)]) for name, value, usual in given if value != usual)
    return tuple(text for text in texts if not _ESCAPED.search(text))


def workspace_options(call: "Call") -> tuple[str, ...]:
    """Return the global options of a workspace."""
    return given_options(call.root, call.environment, call.variables, call.state_dir)


def completed(text: str, options: Iterable[str]) -> str:
    """Return text whose advised commands have the options."""
    context = click.get_current_context(silent=True)
    form = context.params.get("form") if context else None
    if context and form == "json" and context.command.name in {"plan", "show"}:
        return text  # `apply` reads such a document, and compares its texts, too
    if form in _PUBLIC:
        options = [option for option in options if not _is_absolute(option)]
    whole = " ".join(("fleetctl", *options))
    return _ADVISED.sub(lambda found: whole if _begins(found) else found[0], text)


def _is_absolute(option: str) -> bool:
    name, value = shlex.split(option)
    return name in {"-C", "--state-dir"} and Path(value).is_absolute()


def _begins(found: re.Match[str]) -> bool:
    before = found.string[found.string.rfind("\n", 0, found.start()) + 1 : found.start()]
    return not before.strip() or before.endswith(_BEGINS)
