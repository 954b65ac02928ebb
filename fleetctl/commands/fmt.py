"""`fleetctl fmt`: put the declarations into canonical form."""

import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.errors import ConfigError, Diagnostic

if TYPE_CHECKING:
    from runtime.workspace import Workspace


@click.command(
    epilog="""\b
Examples:
  fleetctl fmt
  fleetctl fmt --check
  fleetctl fmt --diff clients/acme.yaml
"""
)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--check", is_flag=True, help="Change nothing; exit 1 if a file is not canonical.")
@click.option("--diff", is_flag=True, help="Change nothing; print the differences.")
@click.pass_obj
def command(workspace: "Workspace", paths: tuple[Path, ...], *, check: bool, diff: bool) -> None:
    """Put the declarations into canonical form.

    Orders keys as in the reference, writes quotes and spaces alike, and moves comments with
    their keys. Values never change. PATHS default to every YAML file of the project.
    """
    from fleet.config import format_text
    from runtime.project.facts import decode
    from runtime.project.load import every_file

    files = paths or tuple(workspace.root / name for name in every_file(workspace.root))
    changed = 0
    problems: list[Diagnostic] = []
    for path in files:
        try:
            content = path.read_bytes()
            before = decode(content, str(path))
            after = format_text(before, str(path))
        except ConfigError as error:
            problems += error.diagnostics
            continue
        if after.encode() == content:
            continue
        changed += 1
        if diff:
            lines = before.splitlines(keepends=True), after.splitlines(keepends=True)
            click.echo("".join(difflib.unified_diff(*lines, str(path), str(path))), nl=False)
        else:
            click.echo(str(path))
        if not check and not diff:
            path.write_bytes(after.encode())
    if problems:
        raise ConfigError(*problems)
    if (check or diff) and changed:
        sys.exit(1)
