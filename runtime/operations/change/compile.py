"""Facts of files for other programs: routes as served, servers as pods; writes the files."""

import asyncio
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from fleet.config import COMPILED_LINE
from fleet.errors import EngineTimedOutError, EngineUnreachableError, FleetError
from fleet.resources import Route, State
from fleet.spec import FleetSpec, GatewaySpec
from fleet.vllm import POD_ADAPTERS, POD_PORT, POD_STORE, RESOLVER, Pod, launch_of
from runtime.extensions import PLUGIN_FOLDER
from runtime.files import replace_file
from runtime.gateway.admin.state_dir import known_gateways, named_gateway
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.envoy.admin import EnvoyClient
from runtime.gateway.table.table import RoutingTable
from runtime.operations.change.planning import desired_fleet
from runtime.operations.change.start_commands import require_hosts
from runtime.project.declaration_files import is_compiled
from runtime.secrets import read_secret
from runtime.trust import load_trust
from runtime.workspace import Call, ProjectContext, Workspace


def served_table(workspace: Workspace) -> RoutingTable:
    """Return the table that gateways serve.

    Raises:
        FleetError: FC1269, servers have keys; FC6052, no apply has written a table.
    """
    refuse_server_keys(workspace.project)
    table = read_table(workspace)
    if table.revision == 0:
        detail = (
            "Another gateway gets the routes that fleetctl's own serve, and no apply has "
            "written any."
        )
        raise FleetError.of(
            "FC6052", "There are no routes yet", detail, command="fleetctl apply --auto"
        )
    return table


def routes_due(workspace: Workspace) -> tuple[Mapping[str, Route], tuple[str, ...], bool]:
    """Return routes by alias, the servers, and whether they are served; else they are planned.

    Raises:
        FleetError: FC1269, servers have keys.
    """
    refuse_server_keys(workspace.project)
    table = read_table(workspace)
    if table.revision:
        routes = {alias: entry.route(alias) for alias, entry in table.aliases.items()}
        return routes, tuple(table.servers), True
    state = desired_fleet(workspace)
    return state.routes(), tuple(state.servers()), False


def read_table(workspace: Workspace) -> RoutingTable:
    """Return the table that gateways serve; revision 0: no apply has written any."""
    return asyncio.run(_read_table(workspace))


async def _read_table(workspace: Workspace) -> RoutingTable:
    declared, envoys = workspace.project.fleet().gateways, workspace.machines.envoys()
    async with LocalGateways(workspace.state_dir, declared, envoys) as gateways:
        table, _ = await gateways.read_table()
    return table


def refuse_server_keys(project: ProjectContext) -> None:
    """Raise FC1269 where servers have keys, which no other gateway sends."""
    fleet = project.fleet()
    attached = (server for host in fleet.hosts.values() for server in host.attached)
    if fleet.servers_secret or any(server.api_key or server.tls for server in attached):
        detail = "What is compiled for other gateways sends no keys and knows no `tls` of servers."
        hint = "Serve clients by gateways of kind `fleetctl`, or have servers without."
        summary = "Keys of servers need gateways of fleetctl's own"
        raise FleetError.of("FC1269", summary, detail, hint=hint)


def compiled_gateway(workspace: Workspace, name: str | None) -> GatewaySpec:
    """Return the gateway of a name; without a name, the first that is an Envoy, or else any.

    Raises:
        FleetError: FC1269, servers have keys; FC6010, there is none of the name.
    """
    refuse_server_keys(workspace.project)
    known = dict(workspace.project.fleet().gateways) or known_gateways(workspace.state_dir)
    if name is None:
        envoys = [gateway for gateway in known.values() if gateway.kind == "envoy"]
        return envoys[0] if envoys else known[min(known)]
    return named_gateway(known, name)


async def give_envoy(table: RoutingTable, client: EnvoyClient) -> bool:
    """Write the files of an Envoy, and return whether an Envoy runs on them and serves the table.

    Raises:
        FleetError: a key cannot be read, or the Envoy refuses the files.
    """
    try:
        await client.serve(table)
    except EngineTimedOutError:
        raise
    except EngineUnreachableError:
        return False
    finally:
        await client.close()
    return True


def write_compiled(out: Path, name: str, text: str) -> Path:
    """Write a compiled file and return its path.

    Raises:
        FleetError: FC5021, another file has its name.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / name
    if path.exists() and not is_compiled(path):
        detail = f"`{path}` exists, and `fleetctl compile` did not write it."
        hint = "Name another folder with --out, or move the file away."
        raise FleetError.of("FC5021", "File cannot be written", detail, hint=hint)
    replace_file(path, (COMPILED_LINE + text).encode())
    return path


def receiver_secret(call: Call, reference: str) -> str:
    """Return the secret of a receiver of notices; empty: none is declared.

    Raises:
        FleetError: FC5022, the secret is not readable.
    """
    found = read_secret(call.root, reference) if reference else ""
    if found is None:
        detail = f"`{reference}` of `notify` is not readable here, and its receiver needs it."
        raise FleetError.of("FC5022", "Secret of a receiver is not readable", detail)
    return found


def planned_pods(workspace: Workspace, hosts: tuple[str, ...], image: str) -> tuple[list[Pod], int]:
    """Return the pods of the servers of the plan, and the bytes that their claim holds.

    Servers on `hosts`, or on all hosts that fleetctl starts servers on. `image`: image with vLLM,
    for hosts that declare none.

    Raises:
        FleetError: FC5011, no such host; FC1298, no image is given.
    """
    fleet = workspace.project.fleet()
    require_hosts(fleet, hosts)
    pods = list(_pods(fleet, desired_fleet(workspace), hosts, image))
    served = {name for pod in pods for name in pod.adapters}
    shapes = (fleet.bases[name].shape for name in {pod.launch.server.base for pod in pods})
    held = sum(fleet.versions[name].bytes for name in served if name in fleet.versions)
    return pods, held + sum(shape.weight_bytes for shape in shapes if shape is not None)


def _pods(fleet: FleetSpec, state: State, hosts: tuple[str, ...], image: str) -> Iterator[Pod]:
    for server in state.servers().values():
        host = fleet.hosts.get(server.host)
        if host is None or (hosts and host.name not in hosts):
            continue
        inside = replace(host, engine="local", address="0.0.0.0")  # noqa: S104 (the pod's own)
        launch = launch_of(
            replace(server, port=POD_PORT), inside, python="python3",
            model=f"{POD_STORE}/bases/{server.base}", adapters=POD_ADAPTERS,
            allowed=load_trust().code.get(host.name, ()),
        )  # fmt: skip
        if host.engine == "attach" or launch is None:
            continue
        from_image = host.image or image
        if not from_image:
            raise _no_image(host.name)
        kinds = {device.name: device.kind for device in host.devices}
        adapters = {
            adapter.adapter: adapter.digest
            for adapter in state.adapters().values()
            if adapter.server == server.name and adapter.digest
        }
        yield Pod(launch, from_image, kinds.get(server.devices[0], ""), adapters)


def _no_image(host: str) -> FleetError:
    return FleetError.of(
        "FC1298",
        "Pods need an image",
        f"Host `{host}` declares no image that its servers run from.",
        hint="Name an image with vLLM: fleetctl compile --target kubernetes --image IMAGE",
    )


def resolver_files() -> dict[str, str]:
    """Return the files by which Python finds the plug-in of vLLM as if installed."""
    package = PLUGIN_FOLDER / RESOLVER
    declared = tomllib.loads((PLUGIN_FOLDER / "pyproject.toml").read_text("utf-8"))["project"]
    files = {f"{RESOLVER}/{path.name}": path.read_text("utf-8") for path in package.glob("*.py")}
    version, group = declared["version"], "vllm.general_plugins"
    points = "".join(f"{name} = {at}\n" for name, at in declared["entry-points"][group].items())
    entry = f"[{group}]\n{points}"
    about = f"Metadata-Version: 2.1\nName: {declared['name']}\nVersion: {version}\n"
    info = f"{RESOLVER}-{version}.dist-info"
    return files | {f"{info}/METADATA": about, f"{info}/entry_points.txt": entry}
