"""Changes a declared fleet by texts such as `client acme x3`, and the live state with the fleet."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count, cycle
from typing import TypeVar

from fleet.config import splits
from fleet.errors import FleetError, did_you_mean
from fleet.hardware import DeviceSpec, HostSpec, sheet_of
from fleet.resources import LoadedAdapter, Server, State
from fleet.spec import AdapterSpec, DemandSpec, FleetSpec
from fleet.vllm import RANKS

T = TypeVar("T")

EXAMPLES = (
    "gpu h100_80g +1",
    "gpu h100 +2 at 3.00",
    "gpu h100 -1",
    "host rack1 gone",
    "client acme x3",
    "client acme gone",
    "clients +20",
    "adapter acme-support x2",
    "adapter acme-support rank 64",
    "adapter acme-support replicas 2",
    "adapter acme-support gone",
    "base llama3_8b max_loras 32",
    "base llama3_8b max_lora_rank 64",
    "base llama3_8b tensor_parallel 2",
    "utilization 80%",
    "canary_slots 1",
)
"""An example of every form."""

Named = Mapping[str, str]
"""The parts of a change's text, by name."""


def what_if(fleet: FleetSpec, changes: Sequence[str]) -> FleetSpec:
    """Return the fleet with the changes made, in their order.

    The texts are of the forms in `EXAMPLES`; the case of letters does not matter. Side effects of
    a change (a pin to a host that is gone is dropped) are warnings of the fleet.

    Raises:
        FleetError: FC6040, a change is of no known form; FC6041, it names nothing in the
            fleet; FC6042, it cannot be made.
    """
    for text in changes:
        words = " ".join(text.lower().split())
        for pattern, change in _FORMS:
            if match := re.fullmatch(pattern, words):
                fleet = change(fleet, match.groupdict())
                break
        else:
            raise not_understood(text)
    return fleet


def what_if_live(fleet: FleetSpec, live: State) -> State:
    """Return the live state without the servers on hosts or devices that the changed fleet lacks.

    The versions on those servers are left out too.
    """
    gone = set()
    for name, server in live.servers().items():
        host = fleet.hosts.get(server.host)
        devices = {device.name for device in host.devices} if host else set()
        if host is None or (host.engine != "attach" and {*server.devices} - devices):
            gone.add(name)
    kept = {
        address: resource
        for address, resource in live.resources.items()
        if not (isinstance(resource, Server) and resource.name in gone)
        and not (isinstance(resource, LoadedAdapter) and resource.server in gone)
    }
    return replace(live, resources=kept)


def _utilization(fleet: FleetSpec, named: Named) -> FleetSpec:
    percent = int(named["number"])
    if percent > 100:  # noqa: PLR2004 (all of it)
        raise impossible(f"A server cannot be used to {percent} %.", "Write 100% at most.")
    return replace(fleet, policy=replace(fleet.policy, utilization=percent / 100))


def _canary_slots(fleet: FleetSpec, named: Named) -> FleetSpec:
    return replace(fleet, policy=replace(fleet.policy, canary_slots=int(named["number"])))


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
            changed = replace(changed, max_lora_rank=_rank_of(number))
        case _:
            if changed.shape and not splits(changed.shape, number):
                detail = f"`{changed.name}` cannot be divided among {number} devices."
                raise impossible(detail, "Its attention heads must divide by them; try 2 or 4.")
            changed = replace(changed, tensor_parallel=number)
    return replace(fleet, bases=by_name({**fleet.bases, changed.name: changed}))


def _rank_of(number: int) -> int:
    """Return a rank, if vLLM serves the rank.

    Raises:
        FleetError: FC6042, vLLM serves no such rank.
    """
    if number > RANKS[-1]:
        detail = f"Rank {number} is above what vLLM serves."
        raise impossible(detail, f"Write {RANKS[-1]} at most.")
    return number


def client_gone(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Take a client away with its adapters."""
    name = known("client", named["name"], [*fleet.clients])
    left = {key: spec for key, spec in fleet.adapters.items() if spec.name.client != name}
    return replace(fleet, clients=without(fleet.clients, name), adapters=by_name(left))


def client_demand(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Multiply the demand of all adapters of a client."""
    name = known("client", named["name"], [*fleet.clients])
    its = [adapter for adapter in fleet.adapters.values() if adapter.name.client == name]
    return _times(fleet, its, float(named["factor"]), f"client {name}")


def adapter_demand(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Multiply the demand of an adapter."""
    adapter = _adapter(fleet, named)
    return _times(fleet, [adapter], float(named["factor"]), adapter.alias)


def _times(
    fleet: FleetSpec, adapters: Sequence[AdapterSpec], factor: float, whose: str
) -> FleetSpec:
    changed = {
        adapter.alias: replace(adapter, demand=_scaled(adapter.demand, factor))
        for adapter in adapters
        if adapter.demand
    }
    if not changed:
        hint = "Declare `demand: {peak_rpm: 30}`, or record it: fleetctl demand record."
        raise impossible(f"{whose} declares no demand that could be multiplied.", hint)
    return replace(fleet, adapters=by_name({**fleet.adapters, **changed}))


def _scaled(demand: DemandSpec, factor: float) -> DemandSpec:
    observed = demand.observed and tuple(rpm * factor for rpm in demand.observed)
    return replace(demand, peak_rpm=demand.peak_rpm * factor, observed=observed)


def more_clients(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Copy the declared clients in turn, so that the new clients are as these are on average."""
    its: dict[str, list[AdapterSpec]] = {}
    for adapter in fleet.adapters.values():
        its.setdefault(adapter.name.client, []).append(adapter)
    if not its:
        raise impossible("No client has an adapter to copy.", "Declare one client at least.")
    clients, adapters = dict(fleet.clients), dict(fleet.adapters)
    versions, free_names = dict(fleet.versions), {client: names(client) for client in its}
    for model, _ in zip(cycle(sorted(its)), range(int(named["count"])), strict=False):
        client = next(name for name in free_names[model] if name not in clients)
        clients[client] = replace(fleet.clients[model], name=client, keys=())
        for adapter in its[model]:
            name = replace(adapter.name, client=client)
            adapters[name.alias] = replace(adapter, name=name, pin=None, apart=())
            if str(adapter.name) in versions:
                versions[str(name)] = versions[str(adapter.name)]
    return replace(
        fleet, clients=by_name(clients), adapters=by_name(adapters), versions=by_name(versions)
    )


def _adapter(fleet: FleetSpec, named: Named) -> AdapterSpec:
    return fleet.adapters[known("adapter", named["name"], [*fleet.adapters])]


def adapter_gone(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Take an adapter away."""
    alias = _adapter(fleet, named).alias
    return replace(fleet, adapters=without(fleet.adapters, alias))


def adapter_replicas(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Change the number of replicas of an adapter."""
    adapter = replace(_adapter(fleet, named), replicas=int(named["number"]))
    return replace(fleet, adapters=by_name({**fleet.adapters, adapter.alias: adapter}))


def adapter_rank(fleet: FleetSpec, named: Named) -> FleetSpec:
    """Change the rank of the declared version; its bytes grow with the rank."""
    adapter, rank = _adapter(fleet, named), _rank_of(int(named["number"]))
    facts = fleet.versions.get(str(adapter.name))
    if facts is None:
        detail = f"`{adapter.name}` is not in the lock, so its rank is not known."
        raise impossible(detail, f"Add it: fleetctl adapter add PATH --as {adapter.name}.")
    changed = replace(facts, rank=rank, bytes=facts.bytes * rank // facts.rank)
    return replace(fleet, versions=by_name({**fleet.versions, str(adapter.name): changed}))


_COUNT = r"(?P<count>[1-9][0-9]{0,3})"
_NUMBER = r"(?P<number>[1-9][0-9]{0,3})"
_FACTOR = r"x ?(?P<factor>[0-9]{1,4}(?:\.[0-9]{1,4})?)"
_FIELD = r"(?P<field>max_loras|max_lora_rank|tensor_parallel)"
_NAME = r"(?P<name>[a-z0-9_-]+)"
_PRICE = r"(?P<price>[0-9]{1,6}(?:\.[0-9]{1,4})?)"
_FORMS: tuple[tuple[str, Callable[[FleetSpec, Named], FleetSpec]], ...] = (
    (rf"gpu (?P<kind>\S+) \+ ?{_COUNT}(?: at {_PRICE})?", more_devices),
    (rf"gpu (?P<kind>\S+) - ?{_COUNT}", fewer_devices),
    (rf"host {_NAME} gone", host_gone),
    (rf"client {_NAME} gone", client_gone),
    (rf"client {_NAME} {_FACTOR}", client_demand),
    (rf"clients \+ ?{_COUNT}", more_clients),
    (rf"adapter {_NAME} gone", adapter_gone),
    (rf"adapter {_NAME} {_FACTOR}", adapter_demand),
    (rf"adapter {_NAME} rank {_NUMBER}", adapter_rank),
    (rf"adapter {_NAME} replicas {_NUMBER}", adapter_replicas),
    (rf"base {_NAME} {_FIELD} {_NUMBER}", base),
    (rf"utili[sz]ation {_NUMBER} ?%", _utilization),
    (r"canary_slots (?P<number>[0-9]{1,4})", _canary_slots),
)


def by_name(items: Mapping[str, T]) -> Mapping[str, T]:
    """Return the items sorted by name, as a fleet holds them."""
    return dict(sorted(items.items(), key=lambda item: item[0]))


def without(items: Mapping[str, T], name: str) -> Mapping[str, T]:
    """Return the items without `name`."""
    return {key: item for key, item in items.items() if key != name}


def with_warnings(fleet: FleetSpec, *lines: str) -> FleetSpec:
    """Return the fleet with the side effects of a change among its warnings."""
    return replace(fleet, warnings=(*fleet.warnings, *(f"what if: {line}" for line in lines)))


def names(first: str) -> Iterator[str]:
    """Yield a name and its numbered variants, without end."""
    yield first
    yield from (f"{first}_{number}" for number in count(2))


def not_understood(text: str) -> FleetError:
    """Return the error for a text that is of no known form, with examples of the nearest form."""
    words = text.lower().split()
    first = words[0] if words else ""
    forms = [example for example in EXAMPLES if example.split()[0] == first]
    firsts = sorted({example.split()[0] for example in EXAMPLES})
    near = "" if forms else did_you_mean(first, firsts)
    shown = ", ".join(f"`{form}`" for form in forms or EXAMPLES)
    detail = f"`{text}` is no change that can be tried{f'; {near}' if near else '.'}"
    return FleetError.of("FC6040", "What-if not understood", detail, hint=f"Write such as {shown}.")


def known(kind: str, name: str, names: Sequence[str]) -> str:
    """Return the name that equals `name`, or else the only name that begins with `name`.

    Raises:
        FleetError: FC6041, there is none, or several begin so.
    """
    begin = [choice for choice in names if choice.lower().startswith(name)]
    exact = [choice for choice in begin if choice.lower() == name]
    if len(exact or begin) == 1:
        return (exact or begin)[0]
    several = f"`{name}` may be {' or '.join(f'`{choice}`' for choice in begin[:4])}."
    declared = f"Declared: {', '.join(sorted(names)[:8])}." if names else ""
    detail = several if begin else f"No {kind} is called `{name}`."
    hint = did_you_mean(name, sorted(names)) or declared
    raise FleetError.of("FC6041", "What-if names nothing in the fleet", detail, hint=hint)


def impossible(detail: str, hint: str) -> FleetError:
    """Return the error for a change that is understood and cannot be made."""
    return FleetError.of("FC6042", "What-if cannot be tried", detail, hint=hint)
