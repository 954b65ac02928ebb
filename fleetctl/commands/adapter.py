"""`fleetctl adapter`: add, pull, push, list, show and verify adapter versions."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet.errors import LibraryError, did_you_mean
from fleet.names import AdapterName
from fleetctl import completion
from fleetctl.options import Call, Group, Workspace, with_format
from fleetctl.output import ByteProgress, print_diagnostics, print_result

_offline = click.option(
    "--offline", is_flag=True, help="Fetch nothing: fail if a version is not here."
)

if TYPE_CHECKING:
    from runtime.library.add import AddedVersion
    from runtime.library.catalog import CatalogVersion


@click.group(cls=Group)
def command() -> None:
    """Add, pull, push, list, show and verify adapter versions.

    A version is a folder in the library, `adapters/CLIENT/TASK-vX.Y.Z`. The file `fleet.lock`
    pins its bytes, which never change, and names the source that they came from.

    Examples:
      fleetctl adapter add out/checkpoint-600 --as acme-support-llama3_8b-v2.1.0
      fleetctl adapter pull
      fleetctl adapter list acme
      fleetctl adapter verify
    """


@command.command("add")
@click.argument("source", metavar="PATH|SOURCE")
@click.option(
    "--as",
    "name",
    required=True,
    metavar="NAME",
    help="Name of the version: CLIENT-TASK-BASE-vX.Y.Z",
)
@_offline
@with_format
def add_version(call: Call, source: str, name: str, *, offline: bool, form: str) -> None:
    """Check an adapter, copy its files into the library and pin their bytes in fleet.lock.

    PATH is a folder that PEFT saved, or the version's place in the library. SOURCE: a registry, a
    bucket, the Hub, a web server. A version that a server would serve wrongly is refused.

    Examples:
      fleetctl adapter add out/checkpoint-600 --as acme-support-llama3_8b-v2.1.0
      fleetctl adapter add models/adapters/acme/support-v2.1.0 --as acme-support-tiny-v2.1.0
      fleetctl adapter add oci://registry.example/acme/support:2.1.0 --as acme-support-tiny-v2.1.0
      fleetctl adapter add s3://models/acme/support/2.1.0 --as acme-support-tiny-v2.1.0
      fleetctl adapter add hf://acme/support@main --as acme-support-tiny-v2.1.0
      fleetctl adapter add https://models.example/support/2.1.0/ --as acme-support-tiny-v2.1.0
    """
    from runtime.operations.versions.sources import (
        add_from,
        add_path,
        parsed_reference,
        refuse_offline,
    )

    parsed = _parsed(name)
    reference = parsed_reference(call, source)
    if reference is None:
        added = add_path(call, Path(source), parsed)
    elif offline:
        refuse_offline([str(reference)])
    else:
        added = add_from(call, reference, parsed, ByteProgress(name))
    _print_added(name, added, form)


@command.command("pull")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completion.versions)
@_offline
@click.pass_obj
def pull_versions(call: Call, names: tuple[str, ...], *, offline: bool) -> None:
    """Bring versions that the library lacks back from the sources that fleet.lock names.

    Bytes that differ from the lock are refused. An interrupted run is taken up again.

    Examples:
      fleetctl adapter pull
      fleetctl adapter pull acme-support-tiny-v2.1.0
      fleetctl adapter pull --offline
    """
    from runtime.operations.versions.sources import missing_versions, pull, refuse_offline
    from runtime.project.facts import read_lock

    for name in names:
        _require_known(name, list(read_lock(call.root).adapters))
    missing = missing_versions(call, names)
    if offline:
        refuse_offline([*missing])
    for name in missing:
        brought = pull(call, name, ByteProgress(name))
        print_diagnostics(brought.warnings)
        facts = brought.facts
        click.echo(f"Brought {name}: {facts.bytes:,} bytes, digest {facts.digest[:12]}.", err=True)
    if not missing:
        click.echo("All versions are in the library. Nothing to do.", err=True)


@command.command("push")
@click.argument("name", shell_complete=completion.versions)
@click.argument("target", metavar="oci://REGISTRY/REPOSITORY[:TAG]")
@click.pass_obj
def push_a_version(call: Call, name: str, target: str) -> None:
    """Push a version to an OCI registry; print its reference by digest.

    Layout: ModelPack, a layer for each file. Layers that the registry has are not sent again.

    Example:
      fleetctl adapter push acme-support-tiny-v2.1.0 oci://registry.example/acme/support:2.1.0
    """
    from runtime.operations.versions.sources import push_version
    from runtime.project.facts import read_lock
    from runtime.sources.reference import SourceReference

    _require_known(name, list(read_lock(call.root).adapters))
    reference = SourceReference.parse(target)
    if reference is None or reference.kind != "oci" or reference.digest:
        raise click.UsageError("Push to oci://REGISTRY/REPOSITORY:TAG.")
    click.echo(push_version(call, _parsed(name), reference, ByteProgress(name)))


def _print_added(name: str, added: "AddedVersion", form: str) -> None:
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
        by = f" Signed by `{added.signed_by}`." if added.signed_by else ""
        click.echo(f"{texts[added.outcome]}{by}", err=True)
        return
    document = {
        "adapter": name,
        "outcome": added.outcome,
        "folder": str(added.folder),
        "digest": facts.digest,
        "rank": facts.rank,
        "bytes": facts.bytes,
        "modules": list(facts.modules),
        "signed_by": added.signed_by or None,
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
def list_versions(call: Call, selection: str | None, form: str) -> None:
    """List the versions of lock and library, by client and task.

    Examples:
      fleetctl adapter list
      fleetctl adapter list acme --format json
    """
    from plans.reports.versions import render_versions

    rows = [
        _row(version)
        for version in _catalogue(call)
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
    """Show a version: bytes, signature, training, scores and deployments.

    Example:
      fleetctl adapter show acme-support-tiny-v2.1.0
    """
    from fleet.history import deployments_of
    from plans.reports.versions import render_version
    from runtime.operations.versions.sources import signature_document

    versions = {version.name: version for version in _catalogue(workspace)}
    _require_known(name, sorted(versions))
    version = versions[name]
    entries = workspace.ledger.open().read() if version.locked else ()
    deployments = deployments_of(entries, _parsed(name)) if version.locked else ()
    document = _row(version) | {
        "modules": list(version.locked.modules) if version.locked else [],
        "signature": signature_document(workspace, version),
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
def verify_versions(call: Call, names: tuple[str, ...], form: str) -> None:
    """Hash every version and compare with fleet.lock. Exit 1 on a difference.

    The copies that servers load from are checked too, a row for each copy, and signatures again.

    Examples:
      fleetctl adapter verify
      fleetctl adapter verify acme-support-tiny-v2.1.0
    """
    from plans.reports.versions import render_checks
    from runtime.library.catalog import verify
    from runtime.operations.versions.sources import signature_checks
    from runtime.project.facts import read_lock
    from runtime.project.load import library_folder

    lock = read_lock(call.root)
    for name in names:
        _require_known(name, list(lock.adapters))
    library, store = library_folder(call.root), call.state_dir / "store"
    checks = (*verify(library, lock, names, store), *signature_checks(call, lock, names))
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


def _catalogue(call: Call) -> "tuple[CatalogVersion, ...]":
    from runtime.library.catalog import catalogue
    from runtime.project.facts import read_lock
    from runtime.project.load import library_folder

    return catalogue(library_folder(call.root), read_lock(call.root))


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
        "source": (locked.source or None) if locked else None,
        "accuracy": version.accuracy,
        "in_lock": locked is not None,
        "in_library": version.in_library,
    }
