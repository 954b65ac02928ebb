"""Changes devices, hosts and bases of a declared fleet."""

from dataclasses import replace

from fleet.config import splits
from fleet.hardware import DeviceSpec, HostSpec, sheet_of
from fleet.spec import FleetSpec
from fleet.what_if.edits import (
    LARGEST_RANK,
    Named,
    by_name,
    impossible,
    known,
    names,
    with_warnings,
    without,
)


def more_devices(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Add devices on copies of the first host that has such a device.

    A kind that no host has is taken from its data sheet, 1 device on a copy, at the given price.
    """
    host, model, size = _model(fleet, named["kind"], named["price"])
    count, hosts = int(named["count"]), dict(fleet.hosts)
    for first in range(0, count, size):
        devices = tuple(
            replace(model, name=f"gpu{index}", port=host.devices[0].port + index)
            for index in range(min(size, count - first))
        )
        name = next(text for text in names(f"{host.name}_more") if text not in hosts)
        hosts[name] = replace(host, name=name, devices=devices, reserved_for=())
    return replace(fleet, hosts=by_name(hosts))


def _model(fleet: FleetSpec, kind: str, price: str | None) -> tuple[HostSpec, DeviceSpec, int]:
    """Return a host to copy, the device to put on the copy, and the number of devices."""
    hosts = [host for _, host in sorted(fleet.hosts.items()) if host.devices]
    declared = _kinds(fleet)
    sheet = sheet_of(kind)
    if hosts and sheet and sheet.memory_bytes and kind not in declared:
        if price is None:
            detail = f"No host has a `{kind}`, so its price is not known."
            raise impossible(detail, f"Write such as `gpu {kind} +1 at 2.50`.")
        vllm = hosts[0].devices[0].vllm
        device = DeviceSpec("gpu0", kind, sheet.memory_bytes, float(price), 0, vllm=vllm)
        return hosts[0], device, 1
    kind = known("kind of device", kind, sorted({*declared}))
    host, alike = next(
        (host, alike)
        for host in hosts
        if (alike := [device for device in host.devices if device.kind == kind])
    )
    cost = alike[0].price_per_hour if price is None else float(price)
    return host, replace(alike[0], price_per_hour=cost, state="active"), len(alike)


def fewer_devices(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Take devices away, the last of the last host first."""
    kind, count = known("kind of device", named["kind"], sorted(_kinds(fleet))), int(named["count"])
    alike = [
        (name, device.name)
        for name, host in sorted(fleet.hosts.items())
        for device in host.devices
        if device.kind == kind
    ]
    if count > len(alike):
        detail = f"The fleet has {len(alike)} of `{kind}`, so {count} cannot go."
        raise impossible(detail, f"Write `gpu {kind} -{len(alike)}` at most.")
    gone = alike[len(alike) - count :]
    hosts = {}
    for name, host in fleet.hosts.items():
        left = tuple(device for device in host.devices if (name, device.name) not in gone)
        hosts[name] = replace(host, devices=left)
    lines = (f"{host}/{device} is gone" for host, device in gone)
    fleet = with_warnings(replace(fleet, hosts=by_name(hosts)), *lines)
    for name, host in hosts.items():
        if not host.devices and not host.attached:
            fleet = _without_host(fleet, name)
    return fleet


def _kinds(fleet: FleetSpec) -> set[str]:
    return {device.kind for host in fleet.hosts.values() for device in host.devices}


def host_gone(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Take a host away with all its servers."""
    return _without_host(fleet, known("host", named["name"], [*fleet.hosts]))


def _without_host(fleet: FleetSpec, name: str) -> FleetSpec:
    holders = {name, *(server.name for server in fleet.hosts[name].attached)}
    pinned = [adapter for adapter in fleet.adapters.values() if adapter.pin in holders]
    freed = {adapter.alias: replace(adapter, pin=None) for adapter in pinned}
    hosts, adapters = without(fleet.hosts, name), by_name({**fleet.adapters, **freed})
    lines = (f"{adapter.alias} is pinned to {adapter.pin} no more" for adapter in pinned)
    return with_warnings(replace(fleet, hosts=hosts, adapters=adapters), *lines)


def base(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Change the flags that servers of a base are started with."""
    changed = fleet.bases[known("base", named["name"], [*fleet.bases])]
    number = int(named["number"])
    match named["field"]:
        case "max_loras":
            changed = replace(changed, slots=number)
        case "max_lora_rank":
            changed = replace(changed, max_lora_rank=rank_of(number))
        case _:
            if changed.shape and not splits(changed.shape, number):
                detail = f"`{changed.name}` cannot be divided among {number} devices."
                raise impossible(detail, "Its attention heads must divide by them; try 2 or 4.")
            changed = replace(changed, tensor_parallel=number)
    return replace(fleet, bases=by_name({**fleet.bases, changed.name: changed}))


def rank_of(number: int) -> int:
    """Return a rank, if vLLM serves the rank.

    Raises:
        FleetError: FC6042, vLLM serves no such rank.
    """
    if number > LARGEST_RANK:
        detail = f"Rank {number} is above what vLLM serves."
        raise impossible(detail, f"Write {LARGEST_RANK} at most.")
    return number
