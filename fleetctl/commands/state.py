"""`fleetctl state`: back up, restore and drill the state folder."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetctl.options import EXISTING_FILE, OUTPUT_FILE, Group, Workspace, with_format
from fleetctl.output import print_lines, print_result
from plans.tables import counted

if TYPE_CHECKING:
    from runtime.operations.state.state_drill import DrilledBackup


@click.group(cls=Group)
def command() -> None:
    """Back up, restore and drill the state folder: ledger, routes, launch records.

    Needs no declarations where the ledger names the fleet; a drill needs both.

    Examples:
      fleetctl state backup /backups/fleet-2026-11-28.tar.gz
      fleetctl state drill
      fleetctl state restore /backups/fleet-2026-11-28.tar.gz
    """


@command.command()
@click.argument("file", type=OUTPUT_FILE)
@click.option("--with-keys", is_flag=True, help="Include API keys and the operator's secret.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@with_format
def backup(workspace: Workspace, *, file: Path, with_keys: bool, force: bool, form: str) -> None:
    """Write ledger, queue, routes, launch records, usage store and closed months to FILE.

    Taken at one moment of the ledger, whose chain is checked. Left out are served copies, usage
    rows, captured text, answers of evaluations, logs; and secrets, whose fingerprints are kept.

    Examples:
      fleetctl state backup /backups/fleet.tar.gz --force
      fleetctl state backup vault/fleet.tar.gz --with-keys
    """
    from plans.tables import file_size
    from runtime.operations.state.state_backup import back_up

    done = back_up(workspace, file, with_keys=with_keys, force=force)
    document = {**asdict(done.manifest), "file": str(file), "sha256": done.sha256}
    del document["files"]

    def text(_: object) -> str:
        return (
            f"Backed up fleet {done.manifest.fleet} to {file}: "
            f"ledger entries 1 to {done.manifest.seq}, sha256 {done.sha256}.\n"
        )

    print_result(form, document, text)
    sizes = ", ".join(
        f"{name} {file_size(count)}" for name, count in done.manifest.left_out.items()
    )
    click.echo(f"Left out: {sizes or 'nothing'}.", err=True)
    click.echo("To try it: fleetctl state drill", err=True)


@command.command()
@click.argument("file", type=EXISTING_FILE)
@click.option("--force", is_flag=True, help="Restore over a state that is ahead of the backup.")
@with_format
def restore(workspace: Workspace, *, file: Path, force: bool, form: str) -> None:
    """Put the whole state of FILE in place, or nothing. Touches no server and no gateway.

    Refuses a backup that is torn, altered, of another fleet or of a later format, and a state here
    that is ahead. Keys, copies, usage and newer routes here stay.

    Examples:
      fleetctl state restore /backups/fleet.tar.gz
      fleetctl state restore /backups/fleet.tar.gz --force --format json
    """
    from runtime.operations.state.state_backup import restore as restore_state

    done = restore_state(workspace, file, force=force)
    manifest = done.backup.manifest
    document = {
        "fleet": manifest.fleet,
        "created": manifest.created,
        "entries": manifest.seq,
        "sha256": done.backup.sha256,
        "lost": done.lost,
        "aside": done.aside or None,
        "kept": list(done.kept),
    }

    def text(_: object) -> str:
        return (
            f"Restored fleet {manifest.fleet} as of entry {manifest.seq}, backed up "
            f"{manifest.created} by {manifest.by}.\n"
        )

    print_result(form, document, text)
    if done.aside:
        click.echo(f"The ledger before is kept in {workspace.state_dir / done.aside}.", err=True)
    if done.kept:
        click.echo(f"Kept as they are, because they are live: {', '.join(done.kept)}.", err=True)
    after = "First `fleetctl adopt`: it writes down what is live beyond the backup, and puts copies"
    click.echo(f"{after} that servers read back in place. Then: fleetctl plan", err=True)


@command.command()
@click.argument("file", type=EXISTING_FILE, required=False)
@with_format
def drill(workspace: Workspace, *, file: Path | None, form: str) -> None:
    """Prove that a backup (default: the newest) brings its fleet back, on the fake engine.

    Unpacks and checks it, starts its servers apart from those that serve, loads the library's
    bytes, and asks every alias. Exit 1 if one does not answer; the ledger keeps the result.

    Examples:
      fleetctl state drill
      fleetctl state drill /backups/fleet.tar.gz --format json
    """
    import asyncio

    from runtime.operations.state.state_drill import drill_backup, newest_backup

    path = file.absolute() if file else newest_backup(workspace.ledger)
    done = asyncio.run(drill_backup(workspace, path))
    document = {**asdict(done), "file": str(done.file), "complete": done.complete}
    print_result(form, document, lambda _: _drilled(done))
    print_lines(done.failures, "Error")
    if done.not_tried:
        aliases = ", ".join(done.not_tried)
        click.echo(f"Not tried, on servers that fleetctl does not start: {aliases}.", err=True)
    sys.exit(0 if done.complete else 1)


def _drilled(done: "DrilledBackup") -> str:
    back = "Restorable" if done.complete else "NOT restorable"
    return (
        f"{back}: {done.file}, entries 1 to {done.entries}. Established again: "
        f"{counted(done.servers, 'server')}, {counted(done.adapters, 'adapter')}; aliases served: "
        f"{len(done.served)}; {done.due}.\n"
    )
