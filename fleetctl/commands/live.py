"""`fleetctl adopt`, `server`: the live fleet, and the servers that run here."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet.errors import EngineError, FleetError, did_you_mean
from fleetctl import completion
from fleetctl.options import Call, Command, Group, ProjectContext, Workspace, with_format
from fleetctl.output import print_diagnostics, print_result
from plans.tables import counted
from runtime.files import LARGEST_LOG, normal_path, read_plain

if TYPE_CHECKING:
    from runtime.engines.launch_records import LaunchRecords
    from runtime.engines.remote.connection import SshConnection
    from runtime.operations.machines.hosts import BoxServer


@click.command(cls=Command)
@click.argument("globs", nargs=-1, metavar="[ADDRESS-GLOB]...")
@click.option("--dry-run", is_flag=True, help="Show the resources; write nothing.")
@with_format
def adopt(workspace: Workspace, *, globs: tuple[str, ...], dry_run: bool, form: str) -> None:
    """Write live resources into the ledger as if fleetctl had made them. Changes nothing live.

    Without arguments: servers that fleetctl starts, and declared adapters, routes and keys.
    With ADDRESS-GLOB: every match; the next plan may then remove undeclared resources.

    Examples:
      fleetctl adopt --dry-run --format json
      fleetctl adopt
      fleetctl adopt 'adapter/*@llama_a'
    """
    from runtime.operations.change.adopt import adopt, to_adopt

    live = workspace.machines.observe()
    addresses = to_adopt(workspace, live, globs)
    document = {"adopted": list(addresses), "dry_run": dry_run}
    print_result(form, document, lambda _: "".join(f"{address}\n" for address in addresses))
    if not dry_run:
        adopt(workspace, live, addresses)
    verb = "would be adopted" if dry_run else "adopted"
    click.echo(f"{counted(len(addresses), 'resource')} {verb}.", err=True)


@click.group(cls=Group)
def server() -> None:
    """List, stop and read the logs of servers that fleetctl started.

    For those of this machine, declarations may be broken or missing. Those on hosts of engine
    `ssh` are found by the declared hosts.

    Examples:
      fleetctl server list
      fleetctl server logs tiny-laptop-cpu0 --lines 50
      fleetctl server stop --all
    """


def _records(call: Call) -> "LaunchRecords":
    from runtime.engines.launch_records import LaunchRecords

    return LaunchRecords(call.state_dir / "servers")


def _on_boxes(workspace: Workspace) -> "list[BoxServer]":
    """Return servers that are units or actors of Ray; hosts that are not reached are told."""
    from runtime.operations.machines.hosts import list_box_servers

    try:
        fleet = workspace.project.fleet()
    except FleetError:  # broken declarations: then the state folder alone is read
        return []
    servers, errors = list_box_servers(
        fleet, workspace.ledger.fleet_id(), Path(normal_path(workspace.root)), workspace.state_dir
    )
    for error in errors:
        print_diagnostics(error.diagnostics)
    return servers


@server.command("list")
@with_format
def list_servers(workspace: Workspace, form: str) -> None:
    """List the servers that fleetctl started, here and on hosts of engine `ssh`.

    Examples:
      fleetctl server list
      fleetctl server list --format json
    """
    rows = [
        {
            "server": record.name,
            "state": "running"
            if record.leader()
            else "elsewhere"
            if record.is_elsewhere
            else "ended",
            "pid": record.leader(),
            "url": record.url,
            "digest": record.digest,
        }
        for record in _records(workspace).all()
    ]
    rows += [
        {
            "server": box.name,
            "state": box.state,
            "pid": box.pid,
            "url": box.url,
            "digest": box.digest,
        }
        for box in _on_boxes(workspace)
    ]
    print_result(form, rows, _table, "No server was started from this folder.")


def _table(rows: list[dict[str, Any]]) -> str:
    width = max(len(row["server"]) for row in rows)
    pids = [f"pid {row['pid']}" if row["pid"] else "-" for row in rows]
    return "".join(
        f"{row['server']:{width}}  {row['state']:7}  {pid:11}  {row['url']}\n"
        for row, pid in zip(rows, pids, strict=True)
    )


@server.command("stop")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completion.started_servers)
@click.option("--all", "everything", is_flag=True, help="Stop every server of `server list`.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=40.0,
    help="Seconds to let running requests finish before the processes are killed; 30 for units.",
)
@click.pass_obj
def stop_servers(
    workspace: Workspace, names: tuple[str, ...], everything: bool, timeout_s: float
) -> None:
    """Stop servers and all their processes, after their running requests.

    Routes stay: clients of these servers get errors until the next apply.

    Examples:
      fleetctl server stop tiny-laptop-cpu0
      fleetctl server stop --all
    """
    import asyncio

    from runtime.engines.supervisor import end
    from runtime.operations.machines.hosts import stop_box_servers

    if bool(names) == everything:
        raise click.UsageError("Name the servers to stop, or pass --all.")
    records = _records(workspace)
    known = {record.name: record for record in records.all()}
    is_asked = everything or not {*names} <= known.keys()
    boxes = {box.name: box for box in (_on_boxes(workspace) if is_asked else ())}
    for name in names:
        if name not in known and name not in boxes:
            detail = f"There is no record of `{name}` in {records.folder}."
            hint = did_you_mean(name, sorted({*known, *boxes}))
            command = "fleetctl server list"
            raise EngineError.of(
                "FC4021", "No such server was started here", detail, hint=hint, command=command
            )
    chosen = sorted({*known, *boxes} if everything else {*names})

    async def stop_all() -> None:
        here = (known[name] for name in chosen if name in known)
        await asyncio.gather(*(end(record, records, timeout_s) for record in here))

    asyncio.run(stop_all())
    stop_box_servers(boxes[name] for name in chosen if name in boxes)
    workspace.ledger.push()  # a checkout that does not reach the home would start them again
    for name in chosen:
        click.echo(f"stopped {name}", err=True)


def _log_of(workspace: Workspace, name: str) -> Path:
    """Return the path of a server's log; a server of a Ray host has its log in their folder."""
    from runtime.engines.ray.shared_folder import SharedFolder

    own = _records(workspace).log(name)
    if not own.exists():
        with suppress(FleetError):
            fleet = workspace.project.fleet()
            for host in fleet.hosts.values():
                if host.engine == "ray" and f"-{host.name}-" in name:
                    return SharedFolder(Path(host.store), f"fleetctl-{fleet.name}").records.log(
                        name
                    )
    return own


def _journal_of(project: ProjectContext, name: str, log: Path) -> "SshConnection | None":
    """Return the way to the journal that has a server's log; None: it is in the file, if at all."""
    from runtime.engines.remote.connection import ThisMachine, connection_to
    from runtime.engines.remote.units import has_units, unit_file

    if unit_file(name).exists():
        return ThisMachine()
    if log.exists():
        return None
    with suppress(FleetError):  # broken declarations: then the state folder alone is read
        for host in project.fleet().hosts.values():
            ends = tuple(f"-{host.name}-{device.name}" for device in host.devices)
            if name.endswith(ends) and has_units(host):
                return connection_to(host)
    return None


@server.command("logs")
@click.argument("name", shell_complete=completion.started_servers)
@click.option("--lines", type=click.IntRange(min=1), help="Number of last lines to print.")
@click.option("--previous", is_flag=True, help="Print the log of the launch before.")
@click.option("-f", "--follow", is_flag=True, help="Print new lines too, until Ctrl-C.")
@click.pass_obj
def print_log(
    workspace: Workspace, name: str, *, lines: int | None, previous: bool, follow: bool
) -> None:
    """Print a server's log, which is kept after the server has ended.

    The log of a server that is a unit of systemd is the journal of its machine.

    Examples:
      fleetctl server logs tiny-laptop-cpu0 --lines 50 --follow
      fleetctl server logs tiny-laptop-cpu0 --previous
    """
    import asyncio

    from runtime.engines.remote.units import follow_command, launch_log
    from runtime.processes import lines_of

    path = _log_of(workspace, name)
    if previous:
        path = path.with_name(f"{path.name}.1")
    ssh = _journal_of(workspace.project, name, path)
    if ssh and not follow:
        sys.stdout.write(asyncio.run(launch_log(ssh, name, lines, previous=previous)))
        return
    if follow and (ssh or path.exists()):
        words: tuple[str, ...] = ("tail", "-n", str(lines or "+1"), "-F", "--", str(path))
        if ssh:
            words = asyncio.run(follow_command(ssh, name, lines))
        for line in lines_of(words):
            sys.stdout.write(line)
            sys.stdout.flush()
        return
    try:
        text = read_plain(path, LARGEST_LOG).decode(errors="replace")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    except OSError:
        detail = f"There is no log at {path}."
        raise EngineError.of(
            "FC4021", "No such server was started here", detail, command="fleetctl server list"
        ) from None
    if lines is not None:
        text = "".join(f"{line}\n" for line in text.splitlines()[-lines:])
    sys.stdout.write(text)
