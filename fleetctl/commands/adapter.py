"""`fleetctl adapter`: add, list, show and verify adapter versions."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetctl import completion

if TYPE_CHECKING:
    from fleet.names import AdapterName
    from runtime.library.catalog import CatalogVersion
    from runtime.workspace import Workspace

_FORMAT = click.option(
    "--format", "form", type=click.Choice(["json", "text"]), default="text", show_default=True
)


@click.group(
    name="adapter",
    no_args_is_help=True,
    epilog="""\b
Examples:
  fleetctl adapter add out/checkpoint-600 --as acme-support-llama3_8b-v2.1.0
  fleetctl adapter list acme
  fleetctl adapter verify
""",
)
def command() -> None:
    """Add, list, show and verify adapter versions.

    A version is a folder in the library, `adapters/CLIENT/TASK-vX.Y.Z`. The file `fleet.lock`
    pins its bytes, which never change.
    """


@command.command(
    "add",
    epilog="""\b
Examples:
  fleetctl adapter add out/checkpoint-600 --as acme-support-llama3_8b-v2.1.0
  fleetctl adapter add models/adapters/acme/support-v2.1.0 --as acme-support-tiny-v2.1.0
""",
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--as",
    "name",
    required=True,
    metavar="NAME",
    help="Name of the version: CLIENT-TASK-BASE-vX.Y.Z",
)
@_FORMAT
@click.pass_obj
def add(workspace: "Workspace", path: Path, name: str, form: str) -> None:
    """Check an adapter, copy it into the library and pin its bytes in fleet.lock.

    PATH is a folder that PEFT saved, or the version's own place in the library. An adapter that
    a server would refuse, ignore or serve wrongly is refused, with the reason.
    """
    from plans.diagnostics import render_text
    from runtime.library.add import add as add_version
    from runtime.library.inspect import require_folder
    from runtime.project.known_base import known_base
    from runtime.project.load import library_folder

    parsed = _parsed(name)
    require_folder(path)
    base = known_base(workspace.root, workspace.environment, workspace.variables, parsed.base)
    done = add_version(path, parsed, base, library_folder(workspace.root), workspace.root)
    if done.warnings:
        click.echo(render_text(done.warnings, colour=sys.stderr.isatty()), err=True)
    if done.left_out:
        click.echo(f"Left out, not part of a version: {', '.join(done.left_out)}", err=True)
    if form == "json":
        document = {
            "adapter": name,
            "outcome": done.outcome,
            "folder": str(done.folder),
            "digest": done.facts.digest,
            "rank": done.facts.rank,
            "bytes": done.facts.bytes,
            "modules": list(done.facts.modules),
        }
        click.echo(json.dumps(document, indent=2))
        return
    words = {
        "added": f"Added {name}: rank {done.facts.rank}, digest {done.facts.digest[:12]}.",
        "locked": f"Pinned {name}: rank {done.facts.rank}, digest {done.facts.digest[:12]}.",
        "present": f"{name} is there already, with the same bytes. Nothing to do.",
    }
    click.echo(words[done.outcome], err=True)


@command.command(
    "list",
    epilog="""\b
Examples:
  fleetctl adapter list
  fleetctl adapter list acme --format json
""",
)
@click.argument(
    "selection",
    required=False,
    metavar="[CLIENT|ALIAS]",
    shell_complete=completion.clients_and_aliases,
)
@_FORMAT
@click.pass_obj
def list_versions(workspace: "Workspace", selection: str | None, form: str) -> None:
    """List the versions of lock and library, by client and task."""
    from plans.reports.versions import render_versions

    rows = [
        _row(each)
        for each in _catalogue(workspace)
        if selection in {None, each.client, f"{each.client}-{each.task}"}
    ]
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        click.echo(render_versions(rows), nl=False)
    else:
        what = f"No versions of `{selection}`." if selection else "No versions yet."
        click.echo(f"{what} Add one: fleetctl adapter add PATH --as NAME", err=True)


@command.command(
    "show",
    epilog="""\b
Example:
  fleetctl adapter show acme-support-tiny-v2.1.0
""",
)
@click.argument("name", shell_complete=completion.versions)
@_FORMAT
@click.pass_obj
def show(workspace: "Workspace", name: str, form: str) -> None:
    """Show a version: bytes, training, scores and deployments."""
    from fleet.history import deployments_of
    from plans.reports.versions import render_version

    entry = _find(workspace, name)
    document = _row(entry) | {
        "modules": list(entry.locked.modules) if entry.locked else [],
        "folder": str(entry.folder),
        "training": entry.training,
        "evals": entry.evals,
        "deployments": [
            {"time": each.time.isoformat(timespec="seconds"), "by": each.by, "what": each.what}
            for each in deployments_of(workspace.ledger().read(), _parsed(entry.name))
        ]
        if entry.locked
        else [],
    }
    click.echo(
        json.dumps(document, indent=2) + "\n" if form == "json" else render_version(document),
        nl=False,
    )


@command.command(
    "verify",
    epilog="""\b
Examples:
  fleetctl adapter verify
  fleetctl adapter verify acme-support-tiny-v2.1.0
""",
)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completion.versions)
@_FORMAT
@click.pass_obj
def verify(workspace: "Workspace", names: tuple[str, ...], form: str) -> None:
    """Hash every version and compare with fleet.lock. Exit 1 on a difference.

    The copies that servers load from are checked too, a row for each copy.
    """
    from plans.reports.versions import render_checks
    from runtime.library.verify import verify as verify_versions
    from runtime.project.facts import read_lock
    from runtime.project.load import library_folder

    lock = read_lock(workspace.root)
    for name in names:
        _locked(name, list(lock.adapters))
    found = verify_versions(
        library_folder(workspace.root), lock, names, workspace.state_dir / "store"
    )
    rows = [
        {
            "adapter": each.name,
            "state": each.state,
            "detail": each.detail,
            "folder": str(each.folder),
            "served_copy": each.served,
        }
        for each in found
    ]
    click.echo(
        json.dumps(rows, indent=2) + "\n" if form == "json" else render_checks(rows), nl=False
    )
    sys.exit(0 if all(each.fine for each in found) else 1)


def _parsed(name: str) -> "AdapterName":
    from fleet.names import AdapterName

    try:
        return AdapterName.parse(name)
    except ValueError as error:
        hint = "such as acme-support-llama3_8b-v2.1.0; ids hold no hyphens"
        raise click.UsageError(f"{name!r}: {error}, {hint}.") from None


def _locked(name: str, known: list[str]) -> None:
    from fleet.errors import LibraryError, did_you_mean, problem

    if name not in known:
        hint = did_you_mean(name, known)
        detail = f"`{name}` is not in fleet.lock."
        command_line = "fleetctl adapter list"
        raise LibraryError(
            problem("FC3016", "No such version", detail, hint=hint, command=command_line)
        )


def _catalogue(workspace: "Workspace") -> "tuple[CatalogVersion, ...]":
    from runtime.library.catalog import catalogue
    from runtime.project.facts import read_lock
    from runtime.project.load import library_folder

    return catalogue(library_folder(workspace.root), read_lock(workspace.root))


def _find(workspace: "Workspace", name: str) -> "CatalogVersion":
    entries = {each.name: each for each in _catalogue(workspace)}
    if name not in entries:
        _locked(name, sorted(entries))
    return entries[name]


def _row(entry: "CatalogVersion") -> dict[str, Any]:
    locked = entry.locked
    return {
        "adapter": entry.name,
        "client": entry.client,
        "task": entry.task,
        "version": str(entry.version),
        "base": entry.base,
        "rank": locked.rank if locked else None,
        "bytes": locked.bytes if locked else None,
        "digest": locked.digest if locked else None,
        "accuracy": entry.accuracy,
        "in_lock": locked is not None,
        "in_library": entry.in_library,
    }
