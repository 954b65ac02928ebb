"""Compiles servers of the plan into Kubernetes objects."""

import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from fleet.errors import FleetError
from fleet.resources import Server, State
from fleet.spec import FleetSpec
from fleet.vllm import RESOLVER, launch_of
from fleetctl.compilation import Compiled, written
from fleetctl.start_commands import known_hosts
from plans.amounts import listed
from plans.compile.kubernetes import (
    ADAPTERS_FILE,
    CALLER_LABEL,
    CLAIM,
    NODE_LABEL,
    PORT,
    STORE,
    Pod,
    as_yaml,
    objects,
)  # fmt: skip
from runtime.operations.planning import desired_fleet
from runtime.shipped import PLUGIN_FOLDER
from runtime.trust import load_trust
from runtime.workspace import Workspace

_FILE: Final = "servers.yaml"


def compile_pods(
    workspace: Workspace, hosts: tuple[str, ...], image: str, out: Path | None
) -> Compiled:
    """Compile the servers of the plan on `hosts`, or on all that fleetctl starts servers on.

    `image`: image with vLLM, for hosts that declare none.

    Raises:
        FleetError: FC5011, no such host; FC1298, no image is given; FC1297, a name is too long; or
            FC5021, another file has the name of the one to write.
    """
    fleet = workspace.fleet()
    known_hosts(fleet, hosts)
    state = desired_fleet(workspace)
    pods = list(_pods(fleet, state, hosts, image))
    served = {name: digest for pod in pods for name, digest in pod.adapters.items()}
    bases = {pod.launch.server.base for pod in pods}
    held = sum(fleet.versions[name].bytes for name in served if name in fleet.versions)
    held += sum(
        shape.weight_bytes for name in bases if (shape := fleet.bases[name].shape) is not None
    )
    text = as_yaml(objects(fleet.name, pods, _plugin(), held))
    notes = _notes(pods, len(served), bases)
    if out is None:
        return text, notes
    path = written(out, _FILE, text)
    return "", (f"written; look at the change: kubectl diff -f {path}", *notes)


def _pods(fleet: FleetSpec, state: State, hosts: tuple[str, ...], image: str) -> Iterator[Pod]:
    for server in state.servers().values():
        host = fleet.hosts.get(server.host)
        if host is None or (hosts and host.name not in hosts):
            continue
        inside = replace(host, engine="local", address="0.0.0.0")  # noqa: S104 (the pod's own)
        launch = launch_of(
            replace(server, port=PORT), inside, python="python3",
            model=f"{STORE}/bases/{server.base}", adapters=ADAPTERS_FILE,
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


def _plugin() -> dict[str, str]:
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


def _notes(pods: list[Pod], versions: int, bases: set[str]) -> tuple[str, ...]:
    servers = [pod.launch.server for pod in pods]
    nodes = sorted({server.host for server in servers})
    notes = [
        "never applied to a cluster by us: the files are checked by the published schemas alone",
        f"label the node of each host ({listed(nodes)}): kubectl label node NODE {NODE_LABEL}=HOST",
        (
            f"claim {CLAIM} must hold, before pods start, {versions} versions as {STORE}/DIGEST "
            f"and bases as {STORE}/bases/NAME: {listed(sorted(bases))}"
        ),
        (
            f"servers answer only pods with the label {CALLER_LABEL}=true, where the cluster's "
            "network keeps policies: whoever reaches a server may load adapters onto it"
        ),
        "no live engine: these servers are not seen, started, stopped or gated by fleetctl",
    ]
    if shared := _sharing(servers):
        notes.append(
            f"{listed(shared)} share a device: Kubernetes gives a device to one pod, so the others "
            "stay pending"
        )
    return tuple(notes)


def _sharing(servers: list[Server]) -> list[str]:
    used = Counter((server.host, device) for server in servers for device in server.devices)
    return sorted(
        server.name for server in servers
        if any(used[server.host, device] > 1 for device in server.devices)
    )  # fmt: skip
