"""`fleetctl usage`: requests of clients, summed up, listed, ingested, compacted; captured text."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from fleetctl import completion
from fleetctl.options import Call, Group, Workspace, format_option, moment
from fleetctl.output import print_lines, print_result, waiting
from plans.tables import WIDE_GAP, aligned, counted

if TYPE_CHECKING:
    from runtime.usage.ingest import Ingested

_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


@click.group(cls=Group)
def usage() -> None:
    """Summarise, list, ingest and compact the usage logs of gateways; a row is a request.

    Export and delete the text of requests that a client's `capture` declares.

    Examples:
      fleetctl usage summary
      fleetctl usage show --client acme
      fleetctl usage ingest
    """


def _filters(function: Callable[..., None]) -> Any:
    """Add the options that choose requests."""
    client = click.option("--client", shell_complete=completion.clients, help="Only this client.")
    alias = click.option("--alias", shell_complete=completion.aliases, help="Only this alias.")
    since = click.option(
        "--since", callback=moment, help="Only requests since this time, such as 2026-11-25T08:00Z."
    )
    purpose = click.option(
        "--purpose",
        type=click.Choice(["live", "eval", "smoke", "shadow"]),
        default="live",
        help="Purpose of the requests.",
    )
    return client(alias(since(purpose(format_option(function)))))


def _gather(call: Call) -> "Ingested":
    """Bring new rows into the store; warn of those that are lacking."""
    import asyncio

    from runtime.operations.watch.usage import WAIT_S, gather_usage_rows, remove_old_logs

    with waiting("Reading usage…"):
        done, lacking = asyncio.run(gather_usage_rows(call.state_dir, call.now, WAIT_S))
    print_lines((*lacking, *remove_old_logs(call.state_dir)))
    return done


@usage.command()
@_filters
@click.option(
    "--billed",
    is_flag=True,
    help="Requests that clients pay for: their own, and evaluations with `bill_evals`.",
)
@click.pass_obj
def summary(
    workspace: Workspace,
    /,
    form: str,
    client: str | None,
    alias: str | None,
    since: datetime | None,
    purpose: str,
    *,
    billed: bool,
) -> None:
    """Sum up requests, errors, users, tokens and times by client, alias, version.

    An error is an answer of 400 or above; requests whose client disconnected count apart. Users
    are counted about, and anew in each rollout. Times are within 1 %. `--since` counts from the
    begin of its hour, UTC. The columns are explained in docs/usage.md.

    Examples:
      fleetctl usage summary
      fleetctl usage summary --client acme --since 2026-11-25
      fleetctl usage summary --billed --format json
    """
    from fleet.usage import Grain, Operator
    from plans.reports.usage import usage_rows
    from runtime.operations.watch.usage import require_known
    from runtime.usage.row import LIVE
    from runtime.usage.store import UsageStore

    if billed and purpose != LIVE:
        raise click.UsageError("--billed covers several purposes: omit --purpose.")
    clients = workspace.project.fleet().clients if billed else {}
    paying = {name for name, declared in clients.items() if declared.bill_evals}
    grain = Grain.HOUR if since else Grain.DAY
    begin = since.replace(minute=0, second=0, microsecond=0) if since else _BEGINNING
    _gather(workspace)
    until = workspace.now() + Grain.DAY.length
    with UsageStore(workspace.state_dir) as store:
        cells = store.cells(
            Operator(),
            begin,
            until,
            grain,
            ("client", "alias", "version", "purpose"),
            client=client or "",
            alias=alias or "",
            purposes=(LIVE, "eval") if billed else (purpose,),
            by_cell=False,
        )
        users = store.users(Operator(), begin, until, ("client", "alias", "version"))
    require_known(workspace.project, client, cells)
    chosen = [cell for cell in cells if not billed or cell.purpose == LIVE or cell.client in paying]
    print_result(form, usage_rows(chosen, users if purpose == LIVE else {}), _table)


@usage.command("show")
@_filters
@click.option("--last", type=click.IntRange(1), default=20, help="Number of requests.")
@click.pass_obj
def show_usage(
    workspace: Workspace,
    /,
    form: str,
    last: int,
    client: str | None,
    alias: str | None,
    since: datetime | None,
    purpose: str,
) -> None:
    """List the last requests of the logs. JSON has every field of a row.

    unit: keyed hash of the user or session, null without one. counted: source of token counts
    that no server reported: `pieces`, a lower bound, or `text`, by an earlier release.

    Examples:
      fleetctl usage show
      fleetctl usage show --alias acme-support --last 100
      fleetctl usage show --format json
    """
    import msgspec

    from runtime.operations.watch.usage import require_known
    from runtime.usage.read import last_rows
    from runtime.usage.row import UsageRow

    def accepts(row: UsageRow) -> bool:
        is_wanted = client in {None, row.client} and alias in {None, row.alias}
        return is_wanted and row.purpose == purpose

    with waiting("Reading usage…"):
        found = last_rows(workspace.state_dir, accepts, since or _BEGINNING, last)
    require_known(workspace.project, client, found)
    rows = [msgspec.structs.asdict(row) for row in found]
    if form == "text":
        names = "time client alias version status latency_s input_tokens output_tokens"
        rows = [{name: row[name] for name in names.split()} for row in rows]
    print_result(form, rows, _table)


def _table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "No such request has been logged.\n"
    titles = [name.replace("_", " ") for name in rows[0]]
    cells = [["-" if cell is None else str(cell) for cell in row.values()] for row in rows]
    return "".join(f"{line}\n" for line in aligned([titles, *cells], gap=WIDE_GAP))


@usage.command("ingest")
@click.pass_obj
def ingest_usage(call: Call) -> None:
    """Bring new rows of all gateways into the usage store, usage/usage.sqlite.

    Rows of gateways on other machines are copied here first. `usage summary`, `demand record` and
    each round of `reconcile` do the same.

    Example:
      fleetctl usage ingest
    """
    done = _gather(call)
    click.echo(f"Ingested {counted(done.rows, 'row')}.")
    if done.duplicates:
        click.echo(f"Left out {counted(done.duplicates, 'row')} that a log has twice.", err=True)


@usage.command()
@click.pass_obj
def compact(call: Call) -> None:
    """Write new rows as Parquet into usage/ of the state folder; remove old logs.

    Needs DuckDB: pip install 'duckdb>=1.2'. A log goes 60 days after its rotation, once its
    rows were read back from Parquet; Parquet goes after 400 days. The store keeps its sums.

    Example:
      fleetctl usage compact
    """
    from runtime.usage import parquet, tables

    _gather(call)
    with waiting("Compacting usage…"):
        done = parquet.compact(call.state_dir, call.now())
    if done.parts:
        click.echo(f"Wrote {counted(done.rows, 'row')} to `{call.state_dir / tables.FOLDER}`.")
    else:
        click.echo("Nothing new has been logged.")
    if done.removed:
        click.echo(f"Removed {counted(done.removed, 'log')} that Parquet and the store hold.")
    print_lines(
        f"{path} stays: it was changed, or its Parquet holds other rows." for path in done.kept
    )


_CLIENT: Final = click.option(
    "--client", required=True, shell_complete=completion.clients, help="The client."
)


@usage.command()
@_CLIENT
@click.option("--alias", shell_complete=completion.aliases, help="Only this alias.")
@click.option(
    "--as",
    "kind",
    type=click.Choice(["golden", "training"]),
    required=True,
    help="golden: expects the answers. training: conversations that end with the answer.",
)
@click.option("--since", callback=moment, help="Only since this time, as 2026-11-25T08:00Z.")
@click.option("--beside", metavar="GOLDEN", help="Only what this golden set does not ask yet.")
@click.pass_obj
def export(
    call: Call,
    /,
    client: str,
    alias: str | None,
    kind: str,
    since: datetime | None,
    beside: str | None,
) -> None:
    """Print captured requests and answers as JSON Lines, repetitions once.

    Requests with tools, images or several prompts are left out. Items hold text of users and
    unchecked answers: read them before they judge or train a version.

    Examples:
      fleetctl usage export --client acme --alias acme-support --as golden > golden/acme.jsonl
      fleetctl usage export --client acme --as golden --beside golden/acme.jsonl > more.jsonl
      fleetctl usage export --client acme --as training --since 2026-11-25
    """
    from runtime.operations.versions.evaluate import read_set
    from runtime.operations.watch.usage import export_captured

    begin = since or _BEGINNING
    asked = read_set(call.root, beside) if beside else None
    items, left_out = export_captured(call.state_dir, client, kind, alias, begin, asked)
    for item in items:
        click.echo(json.dumps(item))
    said = f"Exported {counted(len(items), 'item')}; left out {counted(left_out, 'request')}."
    click.echo(said, err=True)


@usage.command()
@_CLIENT
@click.option("--user", help="Only requests that name this user or session.")
@click.option("--yes", is_flag=True, help="Delete without confirmation.")
@click.pass_obj
def forget(workspace: Workspace, /, client: str, user: str | None, *, yes: bool) -> None:
    """Delete captured requests and answers of a client for ever.

    Rows of usage stay, for bills are made of them; they hold no text and no name of a user. Files
    that `usage export` printed are yours to delete. Capture goes on until its declaration is gone.
    The ledger says who deleted how many requests, and nothing of them.

    Examples:
      fleetctl usage forget --client acme --yes
      fleetctl usage forget --client acme --user ann --yes
    """
    from fleet.history import CaptureForgotten
    from runtime.usage.captured import forget_captured

    if not (yes or sys.stdin.isatty()):
        raise click.UsageError("Not a terminal: pass --yes to delete without confirmation.")
    whose = f"of {client}" + (f" that name {user}" if user is not None else "")
    if not yes and not click.confirm(f"Delete captured requests {whose} for ever?", err=True):
        click.echo("Nothing was deleted.", err=True)
        return
    gone = forget_captured(workspace.state_dir, client, user)
    entry = CaptureForgotten(client, gone, of_user=user is not None)
    if why := workspace.ledger.outbox().append([entry]):
        workspace.warn(f"The ledger has no entry of it yet: {why}")
    click.echo(f"Deleted {counted(gone, 'captured request')} {whose}.")
