"""Decides which version of vLLM a device runs: as declared, else as its servers answered."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from fleet.hardware import HostSpec
from fleet.resources import State
from fleet.spec import FleetSpec
from fleet.vllm.lora_slots import release


def with_engines(fleet: FleetSpec, live: State) -> FleetSpec:
    """Return the fleet with the known versions of vLLM on devices and servers.

    A declared version holds for the host; else the newest version that a server of the host
    answered, because all are started with the same interpreter. An attached server has the
    version that the server itself answered. Idempotent.
    """
    answered = _answered(live)
    hosts = {name: _host(host, answered.get(name, {})) for name, host in fleet.hosts.items()}
    return fleet if hosts == fleet.hosts else replace(fleet, hosts=hosts)


def disagreements(fleet: FleetSpec, live: State) -> Iterator[str]:
    """Yield a sentence for every host that runs another minor release of vLLM than declared."""
    answered = _answered(live)
    for name, host in fleet.hosts.items():
        declared = next((device.vllm for device in host.devices if device.vllm), "")
        seen = sorted({*answered.get(name, {}).values()})
        other = [version for version in seen if release(version) != release(declared)]
        if declared and other:
            yield (
                f"host `{name}` declares vLLM {declared}, and a server of it runs {other[0]}: it "
                f"is planned with {declared}"
            )


def _answered(live: State) -> dict[str, dict[str, str]]:
    versions: dict[str, dict[str, str]] = defaultdict(dict)
    for name, server in live.servers().items():
        if live.versions.get(name):
            versions[server.host][name] = live.versions[name]
    return versions


def _host(host: HostSpec, versions: dict[str, str]) -> HostSpec:
    if not versions:
        return host
    newest = max(versions.values(), key=lambda version: (release(version), version))
    return replace(
        host,
        devices=tuple(replace(device, vllm=device.vllm or newest) for device in host.devices),
        attached=tuple(
            replace(server, vllm=server.vllm or versions.get(server.name, ""))
            for server in host.attached
        ),
    )
