"""`fleetctl gateway`: run, start, stop and show gateways."""

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from fleet.errors import ConfigError, FleetError
from fleetctl import completion
from fleetctl.options import Group, Workspace, duration, with_format
from fleetctl.output import print_diagnostics, print_result

_TRIED_LAST = "requests try other servers first"
_FOR_CLIENTS = "it failed their requests alone, which try other servers first"
_CONSEQUENCE = {"stale": "another launch answers at its address and gets no request"}

if TYPE_CHECKING:
    from fleet.spec import GatewaySpec

_optional_name = click.argument("name", required=False, shell_complete=completion.gateways)


@click.group(cls=Group)
def command() -> None:
    """Run, start, stop and show gateways.

    If the declarations are missing or broken, the gateways that were declared last are used.
    Where they declare none, the fleet has a gateway `main` on 127.0.0.1:8080.

    Examples:
      fleetctl gateway start
      fleetctl gateway status
      fleetctl gateway stop main
    """


@command.command()
@click.argument("name", default="main", shell_complete=completion.gateways)
@click.pass_obj
def run(workspace: Workspace, name: str) -> None:
    """Run a gateway in this terminal until Ctrl-C, or under a process supervisor.

    A gateway that is declared as an Envoy becomes that Envoy, on the files written by `apply`.

    Example:
      fleetctl gateway run main
    """
    from runtime.gateway.admin.state_dir import named_gateway
    from runtime.gateway.control import supervisor
    from runtime.gateway.envoy.files import become_envoy

    gateway = named_gateway(_gateways(workspace, to_start=True), name)
    if gateway.kind == "envoy":
        become_envoy(workspace.state_dir, gateway)
    supervisor.become(workspace.state_dir, gateway)


@command.command()
@_optional_name
@click.pass_obj
def start(workspace: Workspace, name: str | None) -> None:
    """Start a gateway, or all of them, in the background; wait until clients are answered.

    Exits 1 if a gateway already runs with different settings.

    Examples:
      fleetctl gateway start
      fleetctl gateway start main
    """
    from runtime.gateway.control import faults, supervisor

    exit_code = 0
    for gateway in _started_here(workspace, name):
        process = supervisor.start(workspace.state_dir.resolve(), gateway)
        click.echo(f"gateway {gateway.name} on {process.url} (pid {process.pid})", err=True)
        if deviations := " and ".join(faults.deviations(process, gateway)):
            exit_code = 1
            again = f"fleetctl gateway stop {gateway.name} && fleetctl gateway start {gateway.name}"
            text = f"runs {deviations}. To restart: {again}"
            click.echo(f"Warning: gateway {gateway.name}: {text}", err=True)
    sys.exit(exit_code)


@command.command()
@_optional_name
@click.pass_obj
def stop(workspace: Workspace, name: str | None) -> None:
    """Stop a gateway, or all of them, after their running requests. `reconcile` starts none again.

    Examples:
      fleetctl gateway stop
      fleetctl gateway stop main
    """
    from runtime.gateway.admin import state_dir
    from runtime.gateway.control import supervisor

    for gateway in _started_here(workspace, name, state_dir.known_gateways(workspace.state_dir)):
        stopped = supervisor.stop(workspace.state_dir, gateway.name)
        text = "stopped" if stopped else "was not running"
        click.echo(f"gateway {gateway.name} {text}", err=True)


@command.command()
@_optional_name
@click.option(
    "--wait",
    default="10s",
    callback=duration,
    help="Time in which a balancer notices that a gateway is or is not ready.",
)
@click.pass_obj
def restart(workspace: Workspace, name: str | None, wait: timedelta) -> None:
    """Restart gateways in turn, on other machines too, without a failed request.

    A gateway first says that it is not ready, so that a balancer takes it out, and then ends its
    running requests. Nothing is restarted while another gateway does not answer.

    Examples:
      fleetctl gateway restart
      fleetctl gateway restart gw2 --wait 5s
    """
    import asyncio

    sys.exit(asyncio.run(_restart(workspace, name, wait.total_seconds())))


async def _restart(workspace: Workspace, name: str | None, wait_s: float) -> int:
    """Return the exit code: 4 where some gateways were restarted, and another is not back."""
    import asyncio

    from runtime.gateway.admin.state_dir import named_gateway
    from runtime.gateway.control.client import AdminClient, connect
    from runtime.gateway.control.control import LocalGateways, require_others, restart
    from runtime.gateway.envoy.files import not_started_here

    known, done = _gateways(workspace), 0
    chosen = [named_gateway(known, name)] if name else [*_started_here(workspace, None, known)]
    async with LocalGateways(workspace.state_dir, known, workspace.machines.envoys()) as gateways:
        for gateway in chosen:
            client = connect(workspace.state_dir, gateway, workspace.machines.envoys())
            try:
                if not isinstance(client, AdminClient):
                    raise not_started_here(gateway)
                if done:
                    await asyncio.sleep(wait_s)  # until the balancer has the one before again
                await require_others(gateways, gateway.name)
                await restart(gateway.name, gateways, client, wait_s)
            except FleetError as error:
                if not done:
                    raise
                print_diagnostics(error.diagnostics)
                return 4
            finally:
                await client.close()
            done += 1
            click.echo(f"gateway {gateway.name} restarted", err=True)
    return 0


@command.command()
@with_format
def status(workspace: Workspace, form: str) -> None:
    """Show gateways: process, revision, servers, declared and observed split.

    Examples:
      fleetctl gateway status
      fleetctl gateway status --format json
    """
    import asyncio

    rows = asyncio.run(_rows(workspace))
    print_result(form, rows, lambda rows: "".join(f"{line}\n" for line in _status_lines(rows)))


def _status_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        state = "stopped" if row["revision"] is None else "running elsewhere"
        state = f"running  pid {row['pid']}  {row['url']}" if row["pid"] else state
        if row["kind"] == "envoy":
            state = f"an Envoy, {'stopped' if row['revision'] is None else 'running'}"
        served = ""
        if row["revision"] is not None:
            lag = "" if row["revision"] == row["newest"] else f" (newest: {row['newest']})"
            served = f"  revision {row['revision']}{lag}  in flight {row['in_flight']}"
            served += f"  waiting {row['waiting']}" if row["waiting"] else ""
        if row["problem"] and not row["pid"] and row["revision"] is None:
            state = f"unknown  {row['problem']}"
        yield f"{row['gateway']}  {state}{served}"
        for name, health in row["servers"].items():
            if health != "up":
                so = _FOR_CLIENTS if health.startswith("resting for") else _TRIED_LAST
                yield f"  server {name} is {health}: {_CONSEQUENCE.get(health, so)}"
        for missing in row["missing"]:
            yield f"  server {missing['server']} lacks {missing['adapter']}, which its routes name"
        for client, count in row["unlogged"].items():
            yield f"  {count} refused or left, without a usage row: {client or 'no valid key'}"
    yield from _splits(rows)


def _splits(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield declared and observed share over all gateways, of aliases between two versions."""
    percents: dict[str, dict[str, int]] = defaultdict(dict)
    requests: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        for share in row["shares"]:
            percents[share["alias"]].setdefault(share["adapter"], share["percent"])
            requests[share["alias"], share["adapter"]] += share["requests"]
    for alias, versions in sorted(percents.items()):
        if sum(percent > 0 for percent in versions.values()) < 2:  # noqa: PLR2004 (a split has two)
            continue
        total = sum(requests[alias, adapter] for adapter in versions)
        shares = [
            f"{adapter.rpartition('-v')[2]} {percent} % wanted, "
            + (f"{100 * requests[alias, adapter] / total:.1f} % seen" if total else "none seen")
            for adapter, percent in versions.items()
        ]
        yield f"{alias}  {'; '.join(shares)}  of {total} requests"


async def _rows(workspace: Workspace) -> list[dict[str, Any]]:
    from runtime.gateway.admin.state_dir import read_table
    from runtime.gateway.control.control import LocalGateways
    from runtime.gateway.control.supervisor import find_process

    known = _gateways(workspace)
    table = read_table(workspace.state_dir)
    async with LocalGateways(workspace.state_dir, known, workspace.machines.envoys()) as gateways:
        statuses = {status.name: status for status in await gateways.statuses()}
    rows = []
    for name, gateway in sorted(known.items()):
        process, status = find_process(workspace.state_dir, name), statuses[name]
        rows.append(
            {
                "gateway": name,
                "kind": gateway.kind,
                "listen": gateway.listen,
                "pid": process.pid if process else None,
                "url": process.url if process else None,
                "revision": status.revision,
                "digest": status.digest,
                "newest": table.revision if table else 0,
                "in_flight": status.in_flight,
                "waiting": status.waiting,
                "servers": dict(status.servers),
                "missing": [{"adapter": a, "server": s} for a, s in status.missing],
                "unlogged": dict(status.unlogged),
                "shares": [asdict(share) for share in status.shares],
                "problem": status.problem,
            }
        )
    return rows


def _gateways(workspace: Workspace, *, to_start: bool = False) -> "dict[str, GatewaySpec]":
    """Return the declared gateways; those declared last if the declarations cannot be read.

    Raises ConfigError where one is `to_start` and none was declared before.
    """
    from runtime.gateway.admin.state_dir import DEFAULT_GATEWAY, known_gateways

    last = known_gateways(workspace.state_dir)
    is_new = to_start and last.get(DEFAULT_GATEWAY.name) is DEFAULT_GATEWAY  # none was declared
    if not (workspace.root / "fleet.yaml").is_file() and not is_new:
        return last
    try:
        return dict(workspace.project.fleet().gateways) or last
    except ConfigError:
        if is_new:
            raise
        text = "the declarations are broken (`fleetctl validate`); using the gateways that were"
        click.echo(f"Warning: {text} declared last.", err=True)
        return last


def _started_here(
    workspace: Workspace, name: str | None, known: "Mapping[str, GatewaySpec] | None" = None
) -> "Iterator[GatewaySpec]":
    """Yield the gateway of the name, or all of this machine; of Envoys print what runs them.

    Raises:
        FleetError: FC6010, no gateway has the name; FC6054, the named gateway is an Envoy.
    """
    from runtime.gateway.admin.state_dir import named_gateway
    from runtime.gateway.envoy.files import not_started_here

    if known is None or (name and name not in known):
        known = _gateways(workspace, to_start=known is None)
    all_here = [gateway for gateway in known.values() if not gateway.ssh]
    for gateway in [named_gateway(known, name)] if name else all_here:
        if gateway.kind != "envoy":
            yield gateway
        elif name:
            raise not_started_here(gateway)
        else:
            run = f"fleetctl gateway run {gateway.name}"
            click.echo(f"gateway {gateway.name} is an Envoy, started apart: {run}", err=True)
