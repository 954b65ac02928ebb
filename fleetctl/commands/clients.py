"""`fleetctl key`, `usage`: API keys and requests of clients."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from fleet.errors import FleetError, did_you_mean
from fleetctl import completion
from fleetctl.options import Group, Workspace, format_option, moment
from fleetctl.output import print_result, waiting
from plans.amounts import counted
from plans.tables import WIDE_GAP, aligned

if TYPE_CHECKING:
    from fleet.spec import ClientKey
    from runtime.usage.parquet import UsageFilter


@click.group(cls=Group)
def key() -> None:
    """Create API keys of clients. Only hashes leave the place where a key is kept.

    Examples:
      fleetctl key create acme/prod
      fleetctl key create --all
    """


@completion.completion
def _declared_keys(ctx: click.Context) -> Iterable[str]:
    """Return the declared API keys as CLIENT/KEY."""
    from runtime.project import load
    from runtime.project.parse_cache import ParseCache

    options = ctx.find_root().params
    variables = dict(text.partition("=")[::2] for text in options["variables"])
    texts = load.read_files(options["root"], options["environment"])
    cache = ParseCache(options["root"])
    declared = load.read_tree(texts, options["environment"], variables, cache).value.get("clients")
    return [
        f"{client}/{key}"
        for client, entry in completion.as_map(declared).items()
        for key in completion.as_map(completion.as_map(entry).get("keys"))
    ]


@key.command("create")
@click.argument("name", metavar="[CLIENT/KEY]", required=False, shell_complete=_declared_keys)
@click.option(
    "--all", "every", is_flag=True, help="Create every declared `file:` key that has no file."
)
@click.option("--replace", is_flag=True, help="Also in the place of a key that clients use.")
@click.pass_obj
def create_keys(workspace: Workspace, name: str | None, *, every: bool, replace: bool) -> None:
    """Create a random key for a declared key.

    The key is written to the declared file, readable by you alone, or printed once if the
    declaration names an environment variable. A key that clients use and whose file is missing
    is not replaced (exit 1), unless with --replace.

    Examples:
      fleetctl key create acme/prod
      fleetctl key create --all
    """
    from runtime.operations import keys

    if (name is None) != every:
        raise click.UsageError("Name one CLIENT/KEY, or pass --all.")
    if every and replace:
        raise click.UsageError("Name the CLIENT/KEY to replace.")
    declared = {
        f"{client.name}/{key.name}": key
        for client in workspace.fleet().clients.values()
        for key in client.keys
    }
    if name is not None and name not in declared:
        raise FleetError.of(
            "FC6012",
            "No such key is declared",
            f"`{name}` is not declared. A key is declared with its client: "
            '`keys: {prod: "file:.fleetctl/keys/acme-prod"}`.',
            hint=did_you_mean(name, sorted(declared)),
            command="fleetctl validate",
        )
    chosen = {name: declared[name]} if name else declared
    missing = {
        full: path
        for full, key in chosen.items()
        for kind, _, path in [key.reference.partition(":")]
        if kind == "file" and not (workspace.root / path).exists()
    }
    used = keys.fingerprints_in_use(workspace) if missing and not replace else {}
    for full in missing if every else chosen:
        if not (full in missing and full in used):
            _create(workspace, full, declared[full])
    problems = [
        keys.in_use(workspace, full, path, used[full])
        for full, path in missing.items()
        if full in used
    ]
    if problems:
        raise FleetError(*problems)


def _create(workspace: Workspace, name: str, declared: "ClientKey") -> None:
    from runtime.secrets import make_key, write_secret

    kind, _, place = declared.reference.partition(":")
    secret = make_key()
    if kind == "env":
        click.echo(secret)
        text = f"Shown only once. Set {place} to this key where `fleetctl apply` runs, then apply."
    else:
        path = workspace.root / place
        write_secret(secret, path)
        text = f"{name} written to {path}; `fleetctl apply --auto` activates it."
    click.echo(text, err=True)


@click.group(cls=Group)
def usage() -> None:
    """Summarise, list and compact the usage logs of gateways; a row is a request.

    Needs DuckDB: pip install 'fleetctl[dashboard]'.

    Examples:
      fleetctl usage summary
      fleetctl usage show --client acme
      fleetctl usage compact
    """


def _filters(function: Callable[..., None]) -> Any:
    """Add the options that choose requests, the arguments of `_usage_filter`."""
    client = click.option("--client", shell_complete=completion.clients, help="Only this client.")
    alias = click.option("--alias", shell_complete=completion.aliases, help="Only this alias.")
    since = click.option(
        "--since",
        callback=moment,
        help="Only requests since this time, such as 2026-11-25T08:00Z.",
    )
    purpose = click.option(
        "--purpose",
        type=click.Choice(["live", "eval", "smoke", "shadow"]),
        default="live",
        help="Purpose of the requests.",
    )
    return client(alias(since(purpose(format_option(function)))))


def _usage_filter(
    client: str | None, alias: str | None, since: datetime | None, purpose: str
) -> "UsageFilter":
    from runtime.usage.parquet import UsageFilter

    return UsageFilter(client or "", alias or "", since.isoformat() if since else "", purpose)


@usage.command()
@_filters
@click.option(
    "--billed",
    is_flag=True,
    help="Requests that clients pay for: their own, and evaluations with `bill_evals`.",
)
@click.pass_obj
def summary(workspace: Workspace, /, form: str, *, billed: bool, **filters: Any) -> None:
    """Sum up requests, errors, users, tokens and times by client, alias, version.

    An error is an answer of 400 or above; requests whose client disconnected count apart. Users
    are counted by keyed hashes, and anew in each rollout. `recounted`: requests whose tokens no
    server reported, at least one token for each piece that was sent.

    Examples:
      fleetctl usage summary
      fleetctl usage summary --client acme --since 2026-11-25
      fleetctl usage summary --billed --format json
    """
    from runtime.usage import parquet
    from runtime.usage.row import LIVE

    chosen = _usage_filter(**filters)
    if billed:
        if chosen.purpose != LIVE:
            raise click.UsageError("--billed covers several purposes: omit --purpose.")
        clients = workspace.fleet().clients.items()
        paying = frozenset(name for name, client in clients if client.bill_evals)
        chosen = replace(chosen, billed=paying)
    with waiting("Reading usage…"):
        rows = parquet.summarize(workspace.state_dir, chosen)
    print_result(form, rows, _table)


@usage.command("show")
@_filters
@click.option("--last", type=click.IntRange(1), default=20, help="Number of requests.")
@click.pass_obj
def show_usage(workspace: Workspace, /, form: str, last: int, **filters: Any) -> None:
    """List the last requests. JSON has every field of a row.

    unit: keyed hash of the user or session, null without one. counted: source of token counts
    that no server reported: `pieces`, a lower bound, or `text`, by an earlier release.

    Examples:
      fleetctl usage show
      fleetctl usage show --alias acme-support --last 100
      fleetctl usage show --format json
    """
    from runtime.usage import parquet

    rows = parquet.last_rows(workspace.state_dir, _usage_filter(**filters), last)
    if form == "text":
        names = (
            "time", "client", "alias", "version", "status", "latency_s", "input_tokens",
            "output_tokens",
        )  # fmt: skip
        rows = [{name: row[name] for name in names} for row in rows]
    print_result(form, rows, _table)


def _table(rows: list[dict[str, Any]]) -> str:

    if not rows:
        return "No such request has been logged.\n"
    titles = [name.replace("_", " ") for name in rows[0]]
    cells = [["-" if cell is None else str(cell) for cell in row.values()] for row in rows]
    return "".join(f"{line}\n" for line in aligned([titles, *cells], gap=WIDE_GAP))


@usage.command()
@click.pass_obj
def compact(workspace: Workspace) -> None:
    """Write new rows of the usage logs as Parquet, into usage/ of the state folder.

    The logs stay as they are. After an interruption, the next run goes on from there.

    Example:
      fleetctl usage compact
    """
    from runtime.usage import parquet
    from runtime.usage.store import FOLDER

    with waiting("Compacting usage…"):
        done = parquet.compact(workspace.state_dir)
    if done.parts:
        click.echo(f"Wrote {counted(done.rows, 'row')} to `{workspace.state_dir / FOLDER}`.")
    else:
        click.echo("Nothing new has been logged.")
