"""`fleetctl gateway`: run, start, stop and show gateways."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fleetctl import completion

if TYPE_CHECKING:
    from fleet.spec import GatewaySpec
    from runtime.workspace import Workspace

_NAME = "main"
_AGAIN = ("stop", "start")


@click.group(
    name="gateway",
    no_args_is_help=True,
    epilog="""\b
Examples:
  fleetctl gateway start
  fleetctl gateway status
  fleetctl gateway stop main
""",
)
def command() -> None:
    """Run, start, stop and show gateways.

    If the declarations are missing or broken, the gateways that were declared last are used;
    without any, a gateway `main` on 127.0.0.1:8080.
    """


@command.command(
    "run",
    epilog="""\b
Example:
  fleetctl gateway run main
""",
)
@click.argument("name", default=_NAME, shell_complete=completion.gateways)
@click.pass_obj
def run(workspace: "Workspace", name: str) -> None:
    """Run a gateway in this terminal until Ctrl-C, or under a process supervisor.

    A gateway that is declared as an Envoy becomes that Envoy, on the files written by `apply`.
    """
    from runtime.gateway import process, state_dir
    from runtime.gateway.envoy.files import become_envoy

    gateway = _one(workspace, name)
    if gateway.kind == "envoy":
        become_envoy(workspace.state_dir, gateway)
    state_dir.remember(workspace.state_dir, {name: gateway})
    process.run(workspace.state_dir, gateway)


@command.command(
    "start",
    epilog="""\b
Examples:
  fleetctl gateway start
  fleetctl gateway start main
""",
)
@click.argument("name", required=False, shell_complete=completion.gateways)
@click.pass_obj
def start(workspace: "Workspace", name: str | None) -> None:
    """Start a gateway, or all of them, in the background; wait until clients are answered.

    Exits 1 if a gateway already runs with different settings.
    """
    from runtime.gateway import supervisor

    other = False
    for gateway in _own(workspace, name):
        found = supervisor.start(workspace.state_dir.resolve(), gateway)
        click.echo(f"gateway {gateway.name} on {found.url} (pid {found.pid})", err=True)
        wrong = list(supervisor.deviations(found, gateway))
        if wrong:
            other = True
            again = " && ".join(f"fleetctl gateway {verb} {gateway.name}" for verb in _AGAIN)
            text = f"runs {' and '.join(wrong)}. To restart: {again}"
            click.echo(f"Warning: gateway {gateway.name}: {text}", err=True)
    sys.exit(1 if other else 0)


@command.command(
    "stop",
    epilog="""\b
Examples:
  fleetctl gateway stop
  fleetctl gateway stop main
""",
)
@click.argument("name", required=False, shell_complete=completion.gateways)
@click.pass_obj
def stop(workspace: "Workspace", name: str | None) -> None:
    """Stop a gateway, or all of them, after their running requests."""
    from runtime.gateway import state_dir, supervisor

    for each in _own(workspace, name, state_dir.known_gateways(workspace.state_dir)):
        stopped = supervisor.stop(workspace.state_dir, each.name)
        click.echo(f"gateway {each.name} {'stopped' if stopped else 'was not running'}", err=True)


@command.command(
    "status",
    epilog="""\b
Examples:
  fleetctl gateway status
  fleetctl gateway status --format json
""",
)
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
@click.pass_obj
def status(workspace: "Workspace", form: str) -> None:
    """Show each gateway: process, revision, servers, declared and observed split."""
    import asyncio

    rows = asyncio.run(_rows(workspace))
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        state = f"running  pid {row['pid']}  {row['url']}" if row["pid"] else "stopped"
        if row["kind"] == "envoy":
            state = f"an Envoy, {'stopped' if row['revision'] is None else 'running'}"
        served = ""
        if row["revision"] is not None:
            lag = "" if row["revision"] == row["newest"] else f" (newest: {row['newest']})"
            served = f"  revision {row['revision']}{lag}  in flight {row['in_flight']}"
            served += f"  waiting {row['waiting']}" if row["waiting"] else ""
        click.echo(f"{row['gateway']}  {state}{served}")
        for name, health in row["servers"].items():
            if health != "up":
                click.echo(f"  server {name} is {health}: requests try other servers first")
        for each in row["missing"]:
            click.echo(f"  server {each['server']} lacks {each['adapter']}, which its routes name")
    for line in _split(rows):
        click.echo(line)


def _split(rows: "list[dict[str, Any]]") -> "Iterator[str]":
    """Yield, for aliases between two versions, target and observed share over all gateways."""
    versions: dict[str, dict[str, list[int]]] = {}
    for row in rows:
        for each in row["shares"]:
            known = versions.setdefault(each["alias"], {})
            entry = known.setdefault(each["adapter"], [each["percent"], 0])
            entry[1] += each["requests"]
    for alias, known in sorted(versions.items()):
        if sum(percent > 0 for percent, _ in known.values()) < 2:  # noqa: PLR2004 (a split has two)
            continue
        total = sum(requests for _, requests in known.values())
        parts = [
            f"{adapter.rpartition('-v')[2]} {percent} % wanted, "
            + (f"{100 * requests / total:.1f} % seen" if total else "none seen")
            for adapter, (percent, requests) in known.items()
        ]
        yield f"{alias}  {'; '.join(parts)}  of {total} requests"


async def _rows(workspace: "Workspace") -> list[dict[str, Any]]:
    from runtime.gateway.control import LocalGateways
    from runtime.gateway.state_dir import read_table
    from runtime.gateway.supervisor import find_process

    known = _gateways(workspace)
    gateways = LocalGateways(workspace.state_dir, known, workspace.envoys())
    table = read_table(workspace.state_dir)
    try:
        statuses = {each.name: each for each in await gateways.statuses()}
    finally:
        await gateways.close()
    rows = []
    for name, gateway in sorted(known.items()):
        running, found = find_process(workspace.state_dir, name), statuses[name]
        rows.append(
            {
                "gateway": name,
                "kind": gateway.kind,
                "listen": gateway.listen,
                "pid": running.pid if running else None,
                "url": running.url if running else None,
                "revision": found.revision,
                "digest": found.digest,
                "newest": table.revision if table else 0,
                "in_flight": found.in_flight,
                "waiting": found.waiting,
                "servers": dict(found.servers),
                "missing": [{"adapter": a, "server": s} for a, s in found.missing],
                "shares": [asdict(each) for each in found.shares],
                "problem": found.problem,
            }
        )
    return rows


def _gateways(workspace: "Workspace") -> "dict[str, GatewaySpec]":
    """Return the gateways as declared; as last known where that cannot be read."""
    from fleet.errors import ConfigError
    from runtime.gateway import state_dir

    if not (workspace.root / "fleet.yaml").is_file():
        return state_dir.known_gateways(workspace.state_dir)
    try:
        declared = dict(workspace.fleet().gateways)
    except ConfigError:
        click.echo(
            "Warning: the declarations are broken (`fleetctl validate`); using the gateways that "
            "were declared last.",
            err=True,
        )
        declared = {}
    return declared or state_dir.known_gateways(workspace.state_dir)


def _own(
    workspace: "Workspace", name: str | None, known: "Mapping[str, GatewaySpec] | None" = None
) -> "Iterator[GatewaySpec]":
    """Yield the gateway of that name, or all; not those that are Envoys, which it says.

    Raises:
        FleetError: the one that is named is an Envoy.
    """
    from runtime.gateway.envoy.files import not_started_here

    found = _gateways(workspace) if known is None else known
    named = found.get(name) or _one(workspace, name) if name else None
    for gateway in [named] if named else list(found.values()):
        if gateway.kind != "envoy":
            yield gateway
        elif name:
            raise not_started_here(gateway)
        else:
            run = f"fleetctl gateway run {gateway.name}"
            click.echo(f"gateway {gateway.name} is an Envoy, started apart: {run}", err=True)


def _one(workspace: "Workspace", name: str) -> "GatewaySpec":
    from fleet.errors import FleetError, did_you_mean, problem

    known = _gateways(workspace)
    if name in known:
        return known[name]
    raise FleetError(
        problem(
            "FC6010",
            "No such gateway",
            f"`{name}` is not declared. There are: {', '.join(sorted(known))}.",
            hint=did_you_mean(name, sorted(known)),
        )
    )
