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
        declared = next((each.vllm for each in host.devices if each.vllm), "")
        seen = sorted({*heard.get(name, {}).values()})
        other = [each for each in seen if release(each) != release(declared)]
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
    newest = max(heard.values(), key=lambda each: (release(each), each))
    return replace(
        host,
        devices=tuple(each if each.vllm else replace(each, vllm=newest) for each in host.devices),
        attached=tuple(
            replace(each, vllm=each.vllm or heard.get(each.name, "")) for each in host.attached
        ),
    )
