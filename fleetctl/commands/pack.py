"""`fleetctl pack`: pack vectors into bins, or adapters onto servers, from files."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.errors import ConfigError, Diagnostic, Position
from runtime.files import read_text

if TYPE_CHECKING:
    from fleet.packing import Effort


@click.command(
    epilog="""\b
Examples:
  fleetctl pack items.vbp
  fleetctl pack items.vbp --effort proof --json > bins.json
  fleetctl pack classes.bpps
  fleetctl pack fleet.json --capacity capacity.json
"""
)
@click.argument("instance", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--capacity",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="GPU prices and capacity table of a fleet (default: capacity.json beside INSTANCE).",
)
@click.option(
    "--effort",
    type=click.Choice(["fast", "balanced", "proof"]),
    default="balanced",
    show_default=True,
    help="Search effort, in moves; proof also proves small instances with HiGHS.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the packing on stdout, the summary on stderr."
)
def command(instance: Path, capacity: Path | None, effort: "Effort", *, as_json: bool) -> None:
    """Pack vectors or classes of items into bins, or adapters onto servers.

    INSTANCE: .vbp (vectors), into as few bins as possible; .bpps or .txt (items with set-ups),
    into the cheapest bins; .json (a fleet), onto the cheapest servers that carry every hour.
    Results repeat: budgets count moves, not seconds.
    """
    began = time.process_time()
    if instance.suffix == ".json":
        packed, summary = _servers(instance, capacity, effort)
    elif capacity:
        raise click.UsageError("--capacity needs a fleet (.json); other files have their own.")
    elif instance.suffix in {".bpps", ".txt"}:
        packed, summary = _classed(instance, effort)
    else:
        packed, summary = _bins(instance, effort)
    summary.append(("CPU seconds", f"{time.process_time() - began:.2f}"))
    width = max(len(name) for name, _ in summary)
    for name, value in summary:
        click.echo(f"{name:{width}}  {value}", err=as_json)
    if as_json:
        click.echo(json.dumps(packed))


def _bins(path: Path, effort: "Effort") -> tuple[object, list[tuple[str, str]]]:
    from fleet.packing import pack_vectors, read_vectors

    vectors = read_vectors(read_text(path), str(path))
    packing = pack_vectors(vectors.sizes, vectors.capacity, demand=vectors.demand, effort=effort)
    return _homes(packing.bins), [
        ("bins", str(len(packing.bins))),
        ("bound", str(packing.bound)),
        ("status", packing.status),
    ]


def _classed(path: Path, effort: "Effort") -> tuple[object, list[tuple[str, str]]]:
    from fleet.packing import pack_setups, read_setups

    packing = pack_setups(read_setups(read_text(path), str(path)), effort=effort)
    return _homes(packing.bins), [
        ("bins", str(len(packing.bins))),
        ("cost", str(packing.cost)),
        ("bound", str(packing.bound)),
        ("status", packing.status),
    ]


def _homes(bins: tuple[tuple[int, ...], ...]) -> list[int]:
    """Return the bin of each item."""
    home = {item: number for number, items in enumerate(bins) for item in items}
    return [home[item] for item in range(len(home))]


def _servers(
    path: Path, capacity: Path | None, effort: "Effort"
) -> tuple[object, list[tuple[str, str]]]:
    from fleet.packing import PRICE_UNIT, pack_servers, read_fleet

    table = capacity or path.parent / "capacity.json"
    replicas, catalog = read_fleet(read_text(path), str(path), read_text(table), str(table))
    try:
        packing = pack_servers(replicas, catalog, effort=effort)
    except ValueError as error:
        detail = f"Nothing in {table} holds it: {error}."
        place = Position(str(path), 1, 1)
        raise ConfigError(Diagnostic("FC2052", "An adapter fits no GPU", detail, place)) from None
    kinds: dict[str, int] = {}
    for server in packing.servers:
        kinds[server.gpu] = kinds.get(server.gpu, 0) + 1
    mix = ", ".join(f"{kinds[name]} {name}" for name in catalog.gpus if name in kinds)
    cost, bound = packing.price / PRICE_UNIT, packing.bound / PRICE_UNIT
    document = {
        "servers": [
            {"gpu": each.gpu, "base": each.base, "items": list(each.items)}
            for each in packing.servers
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
