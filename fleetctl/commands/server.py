"""`fleetctl server`: list, stop and read the logs of servers that fleetctl started."""

import sys
from typing import TYPE_CHECKING

import click

from fleetctl import completion

if TYPE_CHECKING:
    from runtime.engines.launch_records import LaunchRecords
    from runtime.workspace import Workspace


@click.group(
    name="server",
    no_args_is_help=True,
    epilog="""\b
Examples:
  fleetctl server list
  fleetctl server logs tiny-laptop-cpu0 --lines 50
  fleetctl server stop --all
""",
)
def command() -> None:
    """List, stop and read the logs of servers that fleetctl started on this machine.

    Needs the state folder alone: declarations may be broken or missing.
    """


def _records(workspace: "Workspace") -> "LaunchRecords":
    from runtime.engines.launch_records import LaunchRecords

    return LaunchRecords(workspace.state_dir / "servers")


@command.command(
    "list",
    epilog="""\b
Examples:
  fleetctl server list
  fleetctl server list --format json
""",
)
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
@click.pass_obj
def list_servers(workspace: "Workspace", form: str) -> None:
    """List the servers that were started here."""
    import json

    rows = [
        {
            "server": record.name,
            "state": "running" if record.leader() else "ended",
            "pid": record.leader(),
            "url": record.url,
            "digest": record.digest,
        }
        for record in _records(workspace).all()
    ]
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo("No server was started from this folder.", err=True)
    width = max((len(str(row["server"])) for row in rows), default=0)
    for row in rows:
        pid = f"pid {row['pid']}" if row["pid"] else "-"
        click.echo(f"{row['server']!s:{width}}  {row['state']:7}  {pid:11}  {row['url']}")


@command.command(
    "stop",
    epilog="""\b
Examples:
  fleetctl server stop tiny-laptop-cpu0
  fleetctl server stop --all
""",
)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completion.started_servers)
@click.option("--all", "everything", is_flag=True, help="Stop every server that was started here.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=40.0,
    show_default=True,
    help="Seconds to let running requests finish before the processes are killed.",
)
@click.pass_obj
def stop(
    workspace: "Workspace", names: tuple[str, ...], everything: bool, timeout_s: float
) -> None:
    """Stop servers and all their processes, after their running requests.

    Routes stay: clients of these servers get errors until the next apply.
    """
    import asyncio

    from fleet.errors import EngineError, did_you_mean, problem
    from runtime.engines.supervisor import end

    if bool(names) == everything:
        raise click.UsageError("Name the servers to stop, or pass --all.")
    records = _records(workspace)
    known = {record.name: record for record in records.all()}
    for name in names:
        if name not in known:
            raise EngineError(
                problem(
                    "FC4021",
                    "No such server was started here",
                    f"There is no record of `{name}` in {records.folder}.",
                    hint=did_you_mean(name, sorted(known)),
                    command="fleetctl server list",
                )
            )
    chosen = sorted(known) if everything else sorted(set(names))

    async def stop_all() -> None:
        await asyncio.gather(*(end(known[name], records, timeout_s) for name in chosen))

    asyncio.run(stop_all())
    for name in chosen:
        click.echo(f"stopped {name}", err=True)


@command.command(
    "logs",
    epilog="""\b
Examples:
  fleetctl server logs tiny-laptop-cpu0 --lines 50
  fleetctl server logs tiny-laptop-cpu0 --previous
""",
)
@click.argument("name", shell_complete=completion.started_servers)
@click.option("--lines", type=click.IntRange(min=1), help="Number of last lines to print.")
@click.option("--previous", is_flag=True, help="Print the log of the launch before.")
@click.pass_obj
def logs(workspace: "Workspace", name: str, lines: int | None, previous: bool) -> None:
    """Print a server's log, which is kept after the server has ended."""
    from fleet.errors import EngineError, problem

    path = _records(workspace).log(name)
    if previous:
        path = path.with_name(f"{path.name}.1")
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        raise EngineError(
            problem(
                "FC4021",
                "No such server was started here",
                f"There is no log at {path}.",
                command="fleetctl server list",
            )
        ) from None
    if lines is not None:
        text = "".join(f"{line}\n" for line in text.splitlines()[-lines:])
    sys.stdout.write(text)
