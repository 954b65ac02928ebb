"""`fleetctl demand`, `pack`: requests of adapters by hour; packings of files."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.errors import ConfigError, Diagnostic, Position
from fleetctl.options import EXISTING_FILE, Call, Command, Group, Workspace, with_format
from fleetctl.output import waiting
from plans.tables import counted
from runtime.files import read_text

if TYPE_CHECKING:
    from fleet.capacity import Recording
    from fleet.packing import Effort

Packed = tuple[object, list[tuple[str, str]]]
"""A packing as JSON values, and its summary: names and values."""


@click.group(cls=Group)
def demand() -> None:
    """Show requests of adapters by hour; record them from the gateways' usage.

    Examples:
      fleetctl demand show
      fleetctl demand record --days 14
    """


@demand.command("show")
@click.option("--all", "every", is_flag=True, help="List every adapter.")
@with_format
def show_demand(workspace: Workspace, form: str, *, every: bool) -> None:
    """Draw the requests of adapters and bases over 24 hours, in UTC.

    With daylight saving, an hour counts as busy if busy in summer or in winter.

    Examples:
      fleetctl demand show
      fleetctl demand show --all
      fleetctl demand show --format json
    """
    from plans.reports.usage import render, render_json

    fleet = workspace.project.fleet()
    click.echo(render(fleet, every=every) if form == "text" else render_json(fleet), nl=False)


@demand.command("record")
@click.option("--days", type=click.IntRange(1, 366), default=7, help="Newest days to count.")
@click.option(
    "--from",
    "folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder with usage logs (default: those of this state folder's gateways).",
)
@click.pass_obj
def record_demand(call: Call, days: int, folder: Path | None) -> None:
    """Write demand.json from the gateways' usage logs.

    For each alias: requests per minute by hour (95th percentile over the days), mean tokens, users.
    Adapters with `demand: {observed: true}` are placed by this file. Keep it in version control.

    Examples:
      fleetctl demand record
      fleetctl demand record --days 14
      fleetctl demand record --from /srv/logs/gateways
    """
    from runtime.operations.watch.traffic_facts import record_observed

    with waiting("Reading usage…"):
        recording, damaged = record_observed(call, days, folder)
    _print_recording(recording, damaged)


def _print_recording(recording: "Recording", damaged: int) -> None:
    from fleet.capacity import DEMAND_FILE

    since, until = (f"{time:%Y-%m-%d %H:%M}" for time in (recording.since, recording.until))
    click.echo(
        f"Wrote {DEMAND_FILE}: demand of {counted(len(recording.adapters), 'adapter')}, "
        f"from {since} to {until} UTC."
    )
    if recording.hours < 24:  # noqa: PLR2004 (a day)
        click.echo(
            f"The logs span {counted(recording.hours, 'hour')}; the rest of the day counts as "
            "idle. Record again after a week.",
            err=True,
        )
    if damaged:
        click.echo(f"Left out {counted(damaged, 'line')} that cannot be read.", err=True)
    click.echo("To place an adapter by it: demand: {observed: true}. See: fleetctl demand show")


@click.command(cls=Command)
@click.argument("instance", type=EXISTING_FILE)
@click.option(
    "--capacity",
    type=EXISTING_FILE,
    help="GPU prices and capacity table of a fleet (default: capacity.json beside INSTANCE).",
)
@click.option(
    "--effort",
    type=click.Choice(["fast", "balanced", "proof"]),
    default="balanced",
    help="Search effort, in moves; proof also proves small instances with HiGHS.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the packing on stdout, the summary on stderr."
)
def pack(instance: Path, capacity: Path | None, effort: "Effort", *, as_json: bool) -> None:
    """Pack vectors or classes of items into bins, or adapters onto servers.

    INSTANCE: .vbp (vectors), into as few bins as possible; .bpps or .txt (items with set-ups),
    into the cheapest bins; .json (a fleet), onto the cheapest servers that carry every hour.
    Results repeat: budgets count moves, not seconds.

    Examples:
      fleetctl pack items.vbp
      fleetctl pack items.vbp --effort proof --json > bins.json
      fleetctl pack classes.bpps
      fleetctl pack fleet.json --capacity capacity.json
    """
    began = time.process_time()
    if instance.suffix == ".json":
        packed, summary = _pack_servers(instance, capacity, effort)
    elif capacity:
        raise click.UsageError("--capacity needs a fleet (.json); other files have their own.")
    else:
        packed, summary = _pack_bins(instance, effort)
    summary.append(("CPU seconds", f"{time.process_time() - began:.2f}"))
    width = max(len(name) for name, _ in summary)
    for name, value in summary:
        click.echo(f"{name:{width}}  {value}", err=as_json)
    if as_json:
        click.echo(json.dumps(packed))


def _pack_bins(path: Path, effort: "Effort") -> Packed:
    """Pack vectors, or items with set-ups; the packing holds the bin of each item."""
    from fleet.packing import pack_setups, pack_vectors, read_setups, read_vectors

    if path.suffix in {".bpps", ".txt"}:
        packing = pack_setups(read_setups(read_text(path), str(path)), effort=effort)
        summary = [("cost", str(packing.cost))]
    else:
        vectors = read_vectors(read_text(path), str(path))
        try:
            packing = pack_vectors(
                vectors.sizes, vectors.capacity, demand=vectors.demand, effort=effort
            )
        except ValueError as error:
            summed = f"Sums cannot be exact: {error}."
            place = Position(str(path), 1, 1)
            raise ConfigError(
                Diagnostic("FC2050", "Vector packing file is malformed", summed, place)
            ) from None
        summary = []
    home = {item: number for number, items in enumerate(packing.bins) for item in items}
    return [home[item] for item in sorted(home)], [
        ("bins", str(len(packing.bins))),
        *summary,
        ("bound", str(packing.bound)),
        ("status", packing.status),
    ]


def _pack_servers(path: Path, capacity: Path | None, effort: "Effort") -> Packed:
    from fleet.packing import PRICE_UNIT, pack_servers, read_fleet

    table = capacity or path.parent / "capacity.json"
    replicas, catalog = read_fleet(read_text(path), str(path), read_text(table), str(table))
    try:
        packing = pack_servers(replicas, catalog, effort=effort)
    except ValueError as error:
        detail = f"Nothing in {table} holds it: {error}."
        place = Position(str(path), 1, 1)
        raise ConfigError(Diagnostic("FC2052", "An adapter fits no GPU", detail, place)) from None
    kinds = Counter(server.gpu for server in packing.servers)
    mix = ", ".join(f"{kinds[name]} {name}" for name in catalog.gpus if name in kinds)
    cost, bound = packing.price / PRICE_UNIT, packing.bound / PRICE_UNIT
    document = {
        "servers": [
            {"gpu": server.gpu, "base": server.base, "items": list(server.items)}
            for server in packing.servers
        ],
        "cost": cost,
        "bound": bound,
        "status": packing.status,
    }
    return document, [
        ("servers", f"{len(packing.servers)} ({mix})"),
        ("cost", f"{cost:.2f} $/h"),
        ("bound", f"{bound:.2f} $/h"),
        ("status", packing.status),
    ]
