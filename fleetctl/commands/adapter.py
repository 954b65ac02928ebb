"""`fleetctl adapter`: add, list, show and verify adapter versions."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet.errors import LibraryError, did_you_mean
from fleet.names import AdapterName
from fleetctl import completion
from fleetctl.options import Group, Workspace, with_format
from fleetctl.output import print_diagnostics, print_result

if TYPE_CHECKING:
    from runtime.library.catalog import CatalogVersion


@click.group(cls=Group)
def command() -> None:
    """Add, list, show and verify adapter versions.

    A version is a folder in the library, `adapters/CLIENT/TASK-vX.Y.Z`. The file `fleet.lock`
    pins its bytes, which never change.

    Examples:
      fleetctl adapter add out/checkpoint-600 --as acme-support-llama3_8b-v2.1.0
      fleetctl adapter list acme
      fleetctl adapter verify
    """


@command.command("add")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--as",
    "name",
    required=True,
    metavar="NAME",
    help="Name of the version: CLIENT-TASK-BASE-vX.Y.Z",
)
@with_format
def add_version(workspace: Workspace, path: Path, name: str, form: str) -> None:
    """Check an adapter, copy its files into the library and pin their bytes in fleet.lock.

    PATH is a folder that PEFT saved, or the version's own place in the library. An adapter that
    a server would refuse, ignore or serve wrongly is refused, with the reason.

    Examples:
      fleetctl adapter add out/checkpoint-600 --as acme-support-llama3_8b-v2.1.0
      fleetctl adapter add models/adapters/acme/support-v2.1.0 --as acme-support-tiny-v2.1.0
    """
    from runtime.library.add import add
    from runtime.library.inspect import require_folder
    from runtime.project.known_base import known_base
    from runtime.project.load import library_folder

    parsed = _parsed(name)
    require_folder(path)
    base = known_base(workspace.root, workspace.environment, workspace.variables, parsed.base)
    added = add(path, parsed, base, library_folder(workspace.root), workspace.root)
    facts = added.facts
    if added.warnings:
        print_diagnostics(added.warnings)
        click.echo(err=True)
    if added.left_out:
        click.echo(f"Left out, not part of a version: {', '.join(added.left_out)}", err=True)
    texts = {
        "added": f"Added {name}: rank {facts.rank}, digest {facts.digest[:12]}.",
        "locked": f"Pinned {name}: rank {facts.rank}, digest {facts.digest[:12]}.",
        "present": f"{name} is there already, with the same bytes. Nothing to do.",
    }
    if form == "text":
        click.echo(texts[added.outcome], err=True)
        return
    document = {
        "adapter": name,
        "outcome": added.outcome,
        "folder": str(added.folder),
        "digest": facts.digest,
        "rank": facts.rank,
        "bytes": facts.bytes,
        "modules": list(facts.modules),
    }
    click.echo(json.dumps(document, indent=2))


@command.command("list")
@click.argument(
    "selection",
    required=False,
    metavar="[CLIENT|ALIAS]",
    shell_complete=completion.clients_and_aliases,
)
@with_format
def list_versions(workspace: Workspace, selection: str | None, form: str) -> None:
    """List the versions of lock and library, by client and task.

    Examples:
      fleetctl adapter list
      fleetctl adapter list acme --format json
    """
    from plans.reports.versions import render_versions

    rows = [
        _row(version)
        for version in _catalogue(workspace)
        if selection in {None, version.client, f"{version.client}-{version.task}"}
    ]
    none = f"No versions of `{selection}`." if selection else "No versions yet."
    print_result(
        form, rows, render_versions, f"{none} Add one: fleetctl adapter add PATH --as NAME"
    )


@command.command("show")
@click.argument("name", shell_complete=completion.versions)
@with_format
def show_version(workspace: Workspace, name: str, form: str) -> None:
    """Show a version: bytes, training, scores and deployments.

    Example:
      fleetctl adapter show acme-support-tiny-v2.1.0
    """
    from fleet.history import deployments_of
    from plans.reports.versions import render_version

    versions = {version.name: version for version in _catalogue(workspace)}
    _require_known(name, sorted(versions))
    version = versions[name]
    entries = workspace.ledger().read() if version.locked else ()
    deployments = deployments_of(entries, _parsed(name)) if version.locked else ()
    document = _row(version) | {
        "modules": list(version.locked.modules) if version.locked else [],
        "folder": str(version.folder),
        "training": version.training,
        "evals": version.evals,
        "deployments": [
            {"time": entry.time.isoformat(timespec="seconds"), "by": entry.by, "what": entry.what}
            for entry in deployments
        ],
    }
    print_result(form, document, render_version)


@command.command("verify")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completion.versions)
@with_format
def verify_versions(workspace: Workspace, names: tuple[str, ...], form: str) -> None:
    """Hash every version and compare with fleet.lock. Exit 1 on a difference.

    The copies that servers load from are checked too, a row for each copy.

    Examples:
      fleetctl adapter verify
      fleetctl adapter verify acme-support-tiny-v2.1.0
    """
    from plans.reports.versions import render_checks
    from runtime.library.catalog import verify
    from runtime.project.facts import read_lock
    from runtime.project.load import library_folder

    lock = read_lock(workspace.root)
    for name in names:
        _require_known(name, list(lock.adapters))
    library, store = library_folder(workspace.root), workspace.state_dir / "store"
    checks = verify(library, lock, names, store)
    rows = [
        {
            "adapter": check.name,
            "state": check.state,
            "detail": check.detail,
            "folder": str(check.folder),
            "served_copy": check.served,
        }
        for check in checks
    ]
    print_result(form, rows, render_checks)
    sys.exit(0 if all(check.fine for check in checks) else 1)


def _parsed(name: str) -> "AdapterName":

    try:
        return AdapterName.parse(name)
    except ValueError as error:
        hint = "such as acme-support-llama3_8b-v2.1.0; ids hold no hyphens"
        raise click.UsageError(f"{name!r}: {error}, {hint}.") from None


def _require_known(name: str, known: list[str]) -> None:

    if name not in known:
        hint = did_you_mean(name, known)
        detail = f"`{name}` is not in fleet.lock."
        command_line = "fleetctl adapter list"
        raise LibraryError.of("FC3016", "No such version", detail, hint=hint, command=command_line)


def _catalogue(workspace: Workspace) -> "tuple[CatalogVersion, ...]":
    from runtime.library.catalog import catalogue
    from runtime.project.facts import read_lock
    from runtime.project.load import library_folder

    return catalogue(library_folder(workspace.root), read_lock(workspace.root))


def _row(version: "CatalogVersion") -> dict[str, Any]:
    locked = version.locked
    return {
        "adapter": version.name,
        "client": version.client,
        "task": version.task,
        "version": str(version.version),
        "base": version.base,
        "rank": locked.rank if locked else None,
        "bytes": locked.bytes if locked else None,
        "digest": locked.digest if locked else None,
        "accuracy": version.accuracy,
        "in_lock": locked is not None,
        "in_library": version.in_library,
    }
