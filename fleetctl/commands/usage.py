"""`fleetctl usage`: summarise, list and compact the requests of clients."""

import json
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from fleetctl import completion
from fleetctl.options import moment

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.usage.parquet import UsageFilter
    from runtime.workspace import Workspace


@click.group(
    name="usage",
    no_args_is_help=True,
    epilog="""\b
Examples:
  fleetctl usage summary
  fleetctl usage show --client acme
  fleetctl usage compact
""",
)
def command() -> None:
    """Summarise, list and compact the usage logs of gateways, a row for each request.

    Needs DuckDB: pip install 'fleetctl[dashboard]'.
    """


def _filters(function: "Callable[..., None]") -> "Callable[..., None]":
    for option in (
        click.option("--format", "form", type=click.Choice(["json", "text"]), default="text"),
        click.option(
            "--purpose",
            type=click.Choice(["live", "eval", "smoke", "shadow"]),
            default="live",
            show_default=True,
            help="Purpose of the requests.",
        ),
        click.option(
            "--since",
            callback=moment,
            help="Only requests since this time, such as 2026-11-25T08:00Z.",
        ),
        click.option(
            "--alias", default="", shell_complete=completion.aliases, help="Only this alias."
        ),
        click.option(
            "--client", default="", shell_complete=completion.clients, help="Only this client."
        ),
    ):
        function = option(function)
    return function


def _wanted(client: str, alias: str, since: datetime | None, purpose: str) -> "UsageFilter":
    from runtime.usage.parquet import UsageFilter

    return UsageFilter(client, alias, since.isoformat() if since else "", purpose)


@command.command(
    epilog="""\b
Examples:
  fleetctl usage summary
  fleetctl usage summary --client acme --since 2026-11-25
  fleetctl usage summary --billed --format json
"""
)
@_filters
@click.option(
    "--billed",
    is_flag=True,
    help="Requests that clients pay for: their own, and evaluations with `bill_evals`.",
)
@click.pass_obj
def summary(
    workspace: "Workspace",
    form: str,
    client: str,
    alias: str,
    since: datetime | None,
    purpose: str,
    *,
    billed: bool,
) -> None:
    """Sum up requests, errors, users, tokens and times by client, alias, version.

    An error is an answer of 400 or above; requests whose client disconnected count apart. Users
    are counted by keyed hashes, and anew in each rollout. `recounted`: requests whose tokens no
    server reported, at least one token for each piece that was sent.
    """
    from fleetctl.output import waiting
    from runtime.usage import parquet
    from runtime.usage.row import LIVE

    wanted = _wanted(client, alias, since, purpose)
    if billed:
        if purpose != LIVE:
            raise click.UsageError("--billed covers several purposes: omit --purpose.")
        paying = (name for name, each in workspace.fleet().clients.items() if each.bill_evals)
        wanted = replace(wanted, billed=frozenset(paying))
    with waiting("Reading usage…"):
        rows = parquet.summarize(workspace.state_dir, wanted)
    _print(rows, form)


@command.command(
    epilog="""\b
Examples:
  fleetctl usage show
  fleetctl usage show --alias acme-support --last 100
  fleetctl usage show --format json
"""
)
@_filters
@click.option(
    "--last", type=click.IntRange(1), default=20, show_default=True, help="Number of requests."
)
@click.pass_obj
def show(
    workspace: "Workspace",
    form: str,
    client: str,
    alias: str,
    since: datetime | None,
    purpose: str,
    last: int,
) -> None:
    """List the last requests. JSON has every field of a row.

    unit: keyed hash of the user or session, null without one. counted: source of token counts
    that no server reported: `pieces`, a lower bound, or `text`, by an earlier release.
    """
    from runtime.usage import parquet

    wanted = _wanted(client, alias, since, purpose)
    rows = parquet.last_rows(workspace.state_dir, wanted, last)
    if form == "text":
        names = (
            "time", "client", "alias", "version", "status", "latency_s", "input_tokens",
            "output_tokens",
        )  # fmt: skip
        rows = [{name: row[name] for name in names} for row in rows]
    _print(rows, form)


@command.command(
    epilog="""\b
Example:
  fleetctl usage compact
"""
)
@click.pass_obj
def compact(workspace: "Workspace") -> None:
    """Write new rows of the usage logs as Parquet, into usage/ of the state folder.

    The logs stay as they are. After an interruption, the next run goes on from there.
    """
    from fleetctl.output import waiting
    from plans.amounts import counted
    from runtime.usage import parquet

    with waiting("Compacting usage…"):
        done = parquet.compact(workspace.state_dir)
    folder = workspace.state_dir / parquet.FOLDER
    if done.parts:
        click.echo(f"Wrote {counted(done.rows, 'row')} to `{folder}`.")
    else:
        click.echo("Nothing new has been logged.")


def _print(rows: "list[dict[str, Any]]", form: str) -> None:
    from plans.tables import WIDE_GAP, aligned

    if form == "json":
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo("No such request has been logged.")
    else:
        titles = [name.replace("_", " ") for name in rows[0]]
        cells = [["-" if cell is None else str(cell) for cell in row.values()] for row in rows]
        click.echo("\n".join(aligned([titles, *cells], gap=WIDE_GAP)))
