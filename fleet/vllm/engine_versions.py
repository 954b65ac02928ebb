"""Decides which vLLM each device runs, as declared or as its servers answered. Pure."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from fleet.hardware import HostSpec
from fleet.resources import State
from fleet.spec import FleetSpec
from fleet.vllm.lora_slots import release


def with_engines(fleet: FleetSpec, live: State) -> FleetSpec:
    """Return the fleet with the version of vLLM on every device and server where it is known.

    What a host declares holds for it; else the newest that a server of it answered, since all are
    started with one interpreter. A server that others run has its own. Idempotent.
    """
    if not live.versions:
        return fleet
    heard = _heard(live)
    hosts = {name: _host(host, heard.get(name, {})) for name, host in fleet.hosts.items()}
    return fleet if hosts == fleet.hosts else replace(fleet, hosts=hosts)


def disagreements(fleet: FleetSpec, live: State) -> Iterator[str]:
    """Say which hosts run another minor release of vLLM than they declare."""
    heard = _heard(live)
    for name, host in fleet.hosts.items():
        declared = next((device.vllm for device in host.devices if device.vllm), "")
        seen = sorted({*heard.get(name, {}).values()})
        other = [version for version in seen if release(version) != release(declared)]
        if declared and other:
            yield (
                f"host `{name}` declares vLLM {declared}, and a server of it runs {other[0]}: it "
                f"is planned with {declared}"
            )


def _heard(live: State) -> dict[str, dict[str, str]]:
    """Return the versions that servers answered, by host and server."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for name, server in live.servers().items():
        if live.versions.get(name):
            found[server.host][name] = live.versions[name]
    return found


def _host(host: HostSpec, heard: dict[str, str]) -> HostSpec:
    if not heard:
        return host
    newest = max(heard.values(), key=lambda version: (release(version), version))
    return replace(
        host,
        devices=tuple(
            device if device.vllm else replace(device, vllm=newest) for device in host.devices
        ),
        attached=tuple(
            replace(server, vllm=server.vllm or heard.get(server.name, ""))
            for server in host.attached
        ),
    )
