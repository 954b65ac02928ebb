"""Tells whether a command that a text advises is there."""

import shlex

import click

from fleetctl.cli import main_group


def fault(line: str) -> str:
    """Return why a command cannot be run; empty: it can."""
    command: click.Command = main_group
    words = line.split()
    while words and isinstance(command, click.Group) and words[0].isalpha():
        name = words.pop(0)
        if name == "VALUE":
            return ""
        found = command.get_command(click.Context(command), name)
        if found is None:
            return f"no command `{name}`"
        command = found
    known = {name for option in command.params for name in option.opts + option.secondary_opts}
    given = (word.partition("=")[0] for word in words if word.startswith("-") and word != "-")
    return ", ".join(f"no option `{name}`" for name in given if name not in known)


def in_the_project(text: str, *options: str) -> str:
    """Return a text with its commands as they are advised in the project's folder."""
    return text.replace(f"fleetctl {shlex.join(options)} ", "fleetctl ")
