"""The page of the commands, as their `--help` prints them, with every default."""

import click

from fleetctl.lazy_group import GROUPS
from tests.fleetctl.program.test_help import EVERY

WIDTH = 96
HEAD = """# Commands

The `--help` of every command, with the defaults of its options. The page
[for operators](../operators.md) says when to use which.
"""


def page() -> str:
    """Return the page."""
    lines = [HEAD, *_entry(("fleetctl",))]
    for title, names in GROUPS.items():
        lines += [f"## {title}", ""]
        for name in names:
            for path in sorted(path for path in EVERY if path[1:2] == (name,)):
                lines += _entry(path)
    return "\n".join(lines).rstrip() + "\n"


def _entry(path: tuple[str, ...]) -> list[str]:
    command, context = EVERY[path], None
    for end in range(1, len(path) + 1):
        context = click.Context(
            EVERY[path[:end]], context, path[end - 1], max_content_width=WIDTH,
            terminal_width=WIDTH,
            **{"show_default": True, **EVERY[path[:end]].context_settings},
        )  # fmt: skip
    assert context is not None
    return [
        f"### {' '.join(path)}",
        "",
        "```text",
        *command.get_help(context).splitlines(),
        "```",
        "",
    ]
