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
    told,
    without,
)


def more_devices(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Add devices on copies of the first host that has such a device.

    A kind that no host has is taken from its data sheet, one on each copy, at a given price.
    """
    host, model, size = _model(fleet, named["kind"], named["price"])
    count, hosts = int(named["count"]), dict(fleet.hosts)
    for first in range(0, count, size):
        devices = tuple(
            replace(model, name=f"gpu{each}", port=host.devices[0].port + each)
            for each in range(min(size, count - first))
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
    host = next(own_host for own_host in hosts if any(its.kind == kind for its in own_host.devices))
    found = [own_device for own_device in host.devices if own_device.kind == kind]
    cost = found[0].price_per_hour if price is None else float(price)
    return host, replace(found[0], price_per_hour=cost, state="active"), len(found)


def fewer_devices(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Take devices away, the last of the last host first."""
    kind, count = _kind(fleet, named["kind"]), int(named["count"])
    found = [
        (host, device.name)
        for host, its in sorted(fleet.hosts.items())
        for device in its.devices
        if device.kind == kind
    ]
    if count > len(found):
        detail = f"The fleet has {len(found)} of `{kind}`, so {count} cannot go."
        raise impossible(detail, f"Write `gpu {kind} -{len(found)}` at most.")
    gone = found[len(found) - count :]
    hosts = {
        name: replace(
            host,
            devices=tuple(
                own_device for own_device in host.devices if (name, own_device.name) not in gone
            ),
        )
        for name, host in fleet.hosts.items()
    }
    fleet = told(replace(fleet, hosts=by_name(hosts)), *(f"{a}/{b} is gone" for a, b in gone))
    for name, host in hosts.items():
        if not host.devices and not host.attached:
            fleet = _without_host(fleet, name)
    return fleet


def _kind(fleet: FleetSpec, name: str) -> str:
    return known("kind of device", name, sorted(_kinds(fleet)))


def _kinds(fleet: FleetSpec) -> set[str]:
    return {device.kind for host in fleet.hosts.values() for device in host.devices}


def host_gone(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Take a host away with all its servers."""
    return _without_host(fleet, known("host", named["name"], [*fleet.hosts]))


def _without_host(fleet: FleetSpec, name: str) -> FleetSpec:
    host: HostSpec = fleet.hosts[name]
    holders = {name, *(server.name for server in host.attached)}
    pinned = [adapter for adapter in fleet.adapters.values() if adapter.pin in holders]
    freed = {loaded_adapter.alias: replace(loaded_adapter, pin=None) for loaded_adapter in pinned}
    fleet = replace(
        fleet,
        hosts=without(fleet.hosts, name),
        adapters=by_name({**fleet.adapters, **freed}),
    )
    return told(
        fleet,
        *(
            f"{loaded_adapter.alias} is pinned to {loaded_adapter.pin} no more"
            for loaded_adapter in pinned
        ),
    )


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
    """Return a rank that was asked for.

    Raises:
        FleetError: FC6042, vLLM serves no such rank.
    """
    if number > LARGEST_RANK:
        detail = f"Rank {number} is above what vLLM serves."
        raise impossible(detail, f"Write {LARGEST_RANK} at most.")
    return number
