"""`fleetctl validate`, `fmt`, `config`, `schema`: check and print the declarations."""

import difflib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet.errors import ConfigError, Diagnostic
from fleetctl.options import (
    EXISTING_FILE,
    Call,
    Command,
    Group,
    Workspace,
    choice_option,
    out_option,
    with_format,
)
from fleetctl.output import print_diagnostics, print_preflight, print_problems
from plans.diagnostics import RENDERERS
from plans.tables import counted
from runtime.files import read_plain

if TYPE_CHECKING:
    from fleet.spec import FleetSpec
    from runtime.project.load import Project


@click.command(cls=Command)
@choice_option(
    "text",
    *sorted({*RENDERERS} - {"text"}),
    help="text for people; github annotates pull requests; codequality (GitLab), json "
    "and sarif for programs.",
)
@click.pass_obj
def validate(workspace: Workspace, form: str) -> None:
    """Check the declarations; report every problem with its place.

    Reads files only: golden sets, notice templates and declared versions too (of unknown weights
    1 GiB at most; apply checks all). Declarations that are well formed and judge nothing are
    warnings. Exit 1 on an error; warnings exit 0.

    Examples:
      fleetctl validate
      fleetctl --env prod validate --format github
      fleetctl validate --format sarif > fleetctl.sarif
    """
    from fleet.config import diagnostics, lint, lint_signatures
    from runtime.operations.change.apply import check_declared
    from runtime.project.referenced_files import check_referenced_files

    try:
        project = workspace.project.load()
        check_referenced_files(workspace.root, project, _template_fault)
        _require_places(project.fleet)
        checked, left = check_declared(workspace)
        unsigned = lint_signatures(project.fleet, workspace.now().date())
        lints = diagnostics((*lint(project.declarations), *unsigned), project.tree)
        found = (*project.warnings, *lints, *checked)
        warnings = sorted(found, key=lambda warning: str(warning.place))
    except ConfigError as error:
        if form == "text":
            raise
        print_problems(form, error.diagnostics, workspace.root)
        sys.exit(error.exit_code)
    if form != "text":
        print_problems(form, warnings, workspace.root)
        return
    if warnings:
        print_diagnostics(warnings)
        click.echo(err=True)
    print_preflight((), left)
    _print_counts(project)


def _print_counts(project: "Project") -> None:
    fleet = project.fleet
    counts = {
        "client": fleet.clients,
        "adapter": fleet.adapters,
        "base": fleet.bases,
        "host": fleet.hosts,
        "file": project.files,
    }
    text = ", ".join(counted(len(items), word) for word, items in counts.items())
    click.echo(f"{fleet.name}: ok ({text})")


def _require_places(fleet: "FleetSpec") -> None:
    from fleet.placement import beyond_all_places

    if problems := [*beyond_all_places(fleet)]:
        raise ConfigError(*problems)


def _template_fault(*asked: Any) -> tuple[int, str] | None:
    """Return a template's fault; a project without a template need not load what finds it."""
    from plans.reports.notifications import fault

    return fault(*asked)


@click.command(cls=Command)
@click.argument("paths", nargs=-1, type=EXISTING_FILE)
@click.option("--check", is_flag=True, help="Change nothing; exit 1 if a file is not canonical.")
@click.option("--diff", is_flag=True, help="Change nothing; print the differences.")
@click.pass_obj
def fmt(call: Call, paths: tuple[Path, ...], *, check: bool, diff: bool) -> None:
    """Put the declarations into canonical form.

    Orders keys as in the reference, writes quotes and spaces alike, and moves comments with
    their keys. Values never change. PATHS default to every YAML file of the project.

    Examples:
      fleetctl fmt
      fleetctl fmt --check
      fleetctl fmt --diff clients/acme.yaml
    """
    from fleet.config import format_text
    from runtime.project.declaration_files import every_file
    from runtime.project.facts import decode

    files = paths or tuple(call.root / name for name in every_file(call.root))
    changed = 0
    problems: list[Diagnostic] = []
    for path in files:
        try:
            content = read_plain(path)
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


@click.group(cls=Group)
def config() -> None:
    """Show resolved values and their files.

    Examples:
      fleetctl config show --origin clients.acme
    """


@config.command("show")
@click.argument("path", required=False, default="")
@click.option("--origin", is_flag=True, help="Print file and line of each value.")
@with_format
def show_config(workspace: Workspace, path: str, form: str, *, origin: bool) -> None:
    """Print every value in force, defaults and overlays included.

    PATH selects a part, such as `clients.acme`. A secret is shown as its reference.

    Examples:
      fleetctl config show
      fleetctl --env prod config show --origin clients.acme.adapters.support
      fleetctl config show --format json hosts
    """
    from fleet.config import effective_settings

    project = workspace.project.load()
    settings = [
        setting
        for setting in effective_settings(project.declarations, project.tree)
        if not path or setting.path == path or setting.path.startswith(f"{path}.")
    ]
    if not settings:
        raise click.ClickException(f"nothing is declared at `{path}`")
    if form == "json":
        values = {
            setting.path: {"value": setting.value, "origin": setting.origin}
            if origin
            else setting.value
            for setting in settings
        }
        click.echo(json.dumps(values, indent=2))
        return
    width = max(len(f"{setting.path}: {json.dumps(setting.value)}") for setting in settings)
    for setting in settings:
        line = f"{setting.path}: {json.dumps(setting.value, ensure_ascii=False)}"
        click.echo(f"{line:<{min(width, 80)}}  # {setting.origin}" if origin else line)


@click.command(cls=Command)
@out_option
def schema(out: Path | None) -> None:
    """Print the JSON Schema of the declarations.

    Editors complete and check the files with this schema.

    Examples:
      fleetctl schema --out fleet.schema.json
    Then, as the first line of a file, for editors:
      # yaml-language-server: $schema=fleet.schema.json
    """
    from fleet.config import json_schema

    text = json_schema()
    if out:
        out.write_text(text, encoding="utf-8")
        click.echo(f"Wrote {out}.", err=True)
    else:
        click.echo(text, nl=False)
