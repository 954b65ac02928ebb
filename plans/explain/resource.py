"""Explain a resource: its kind, its line in the files, its reasons, and the resources on it."""

from collections.abc import Iterator
from dataclasses import dataclass

from fleet.errors import FleetError, did_you_mean
from fleet.names import Address, adapter_address, name_in_address
from fleet.placement import PlacementResult, placement_accounts, weigh
from fleet.plan import Plan
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, State, servers_in
from fleet.rollouts import RolloutTargets
from fleet.spec import AdapterSpec, FleetSpec
from plans.explain.figures import Fact, adapter_facts, host_memory, names_of, server_facts
from plans.explain.rollout import rollout_facts
from plans.render.sections import memory
from plans.tables import counted, duration, listed, size
from plans.wording import SYMBOLS, short_version, verb

AT_LIMIT = 0.995
"""Part of its limit from which on a server counts as at its limit: percents are printed whole."""


@dataclass(frozen=True, slots=True)
class ExplainInput:
    """Input of an explanation."""

    fleet: FleetSpec
    plan: Plan
    desired: State
    live: State
    wanted: RolloutTargets | None = None
    placement: PlacementResult | None = None
    """Placement that figures come from, beside `wanted`; None: no figures."""


def explain(inputs: ExplainInput, name: str) -> dict[Address, list[Fact]]:
    """Return by address the facts about the resources that a name means.

    A name is an address or a shorter form; see `names_of`.

    Raises:
        FleetError: FC5011, there is no such resource, neither wanted nor live.
    """
    return {address: _one(inputs, address) for address in find(inputs, name)}


def find(inputs: ExplainInput, name: str) -> list[Address]:
    """Return the addresses that a name means; raises FC5011 when there is none."""
    known = {**inputs.live.resources, **inputs.desired.resources}
    addresses = [
        address for address, resource in sorted(known.items()) if name in names_of(resource)
    ]
    if not addresses:
        words = [word for address in sorted(known) for word in (address, name_in_address(address))]
        near = did_you_mean(name, words)
        detail = f"`{name}` is neither wanted nor live in fleet {inputs.fleet.name}."
        hint = near or "name it as the plan does, such as route/acme-support"
        command = "fleetctl status"
        raise FleetError.of("FC5011", "No such resource", detail, hint=hint, command=command)
    return addresses


def _one(inputs: ExplainInput, address: Address) -> list[Fact]:
    wanted = inputs.desired.resources.get(address)
    live = inputs.live.resources.get(address)
    resource = wanted or live
    if resource is None:  # `find` gives addresses of either state only
        return []
    return [
        *_what(inputs, resource),
        ("Declared", _origin(inputs, resource) or "nowhere in the files"),
        ("Live", _presence(inputs, address, live)),
        *([] if wanted is not None else [("Wanted", "no")]),
        *_why_here(inputs, resource),
        *_figures(inputs, resource),
        *_change(inputs, address),
        *(_rollout(inputs, resource) if isinstance(resource, Route) else ()),
        *_dependants(inputs, resource),
        *_steps(inputs, address),
    ]


def _declared(inputs: ExplainInput, resource: LoadedAdapter | Route) -> AdapterSpec | None:
    if isinstance(resource, Route):
        return inputs.fleet.adapters.get(resource.alias)
    return inputs.fleet.adapters.get(parts.alias) if (parts := resource.parts) else None


def _rollout(inputs: ExplainInput, route: Route) -> Iterator[Fact]:
    """Yield the facts of a route's rollout, and the parts that are held back, until when."""
    yield from rollout_facts(inputs.plan, inputs.wanted, route)
    for note in inputs.plan.held:
        if note.subject == route.alias:
            yield "Held back", note.text


def _what(inputs: ExplainInput, resource: Resource) -> Iterator[Fact]:
    fleet = inputs.fleet
    match resource:
        case Server():
            where = f"{resource.host} ({listed(resource.devices)})" if resource.devices else ""
            yield "What", f"vLLM server with base {resource.base} on {where or resource.host}"
            if resource.flags is not None:
                flags = resource.flags
                sizes = f"max_loras {flags.max_loras}, max_lora_rank {flags.max_lora_rank}"
                more = f"max_cpu_loras {flags.max_cpu_loras}, digest {flags.digest}"
                yield "Flags", f"{sizes}, {more}"
            for use in inputs.plan.capacity:
                if use.server == resource.name:
                    yield "Memory", memory(use)
        case LoadedAdapter():
            declared = _declared(inputs, resource)
            of = f" of {declared.alias}" if declared else ""
            yield "What", f"version {short_version(resource.adapter)}{of} on {resource.server}"
            if facts := fleet.versions.get(resource.adapter):
                pinned = f"sha256 {facts.digest[:12]}, rank {facts.rank}, {size(facts.bytes)}"
                yield "Locked", f"{pinned}, modules {listed(facts.modules)}"
        case Route():
            client = fleet.clients.get(resource.client)
            tier = f" ({client.tier})" if client else ""
            yield "What", f"what client {resource.client}{tier} reaches as {resource.alias}"
            for share in resource.shares:
                version = short_version(share.adapter)
                yield "Share", f"{share.percent} % {version} on {listed(share.servers)}"
        case Key():
            yield "What", f"API key of client {resource.client}, kept at {resource.reference}"
            yield "Secret", f"fingerprint {resource.fingerprint or 'not readable here'}"


def _origin(inputs: ExplainInput, resource: Resource) -> str:
    fleet = inputs.fleet
    match resource:
        case Server():
            return fleet.origin("bases", resource.base)
        case Key():
            return fleet.origin("clients", resource.client, "keys", resource.name)
        case LoadedAdapter() | Route():
            if (declared := _declared(inputs, resource)) is None:
                return ""
            name = declared.name
            return fleet.origin("clients", name.client, "adapters", name.task, "version")


def _presence(inputs: ExplainInput, address: Address, live: Resource | None) -> str:
    if not inputs.live.knows(address):
        return "unknown: it could not be observed"
    match live:
        case None:
            return "does not exist"
        case Server():
            url = inputs.live.urls.get(live.name, "")
            return f"answers at {url}" if url else "answers"
        case LoadedAdapter():
            perhaps = ", or from other bytes while its copy was damaged" if live.unsure else ""
            return f"loaded from {'the locked bytes' if live.digest else 'another path'}{perhaps}"
        case Route():
            shares = ((share.percent, short_version(share.adapter)) for share in live.shares)
            return ", ".join(f"{percent} % {version}" for percent, version in shares)
        case Key():
            return f"issued, fingerprint {live.fingerprint or 'unknown'}"


def _why_here(inputs: ExplainInput, resource: Resource) -> Iterator[Fact]:
    if not isinstance(resource, LoadedAdapter) or resource.address not in inputs.desired.resources:
        return
    declared = _declared(inputs, resource)
    base = declared.name.base if declared else ""
    able = [server.name for server in inputs.desired.servers().values() if server.base == base]
    others = f"{counted(len(able), 'server')} of its base"
    if declared and declared.pin:
        yield "Why here", f"it is pinned to {declared.pin}"
    elif len(able) == 1:
        yield "Why here", f"{able[0]} is the only server of base {base}"
    elif resource.address in inputs.live.resources:
        uses = (use for use in inputs.plan.capacity if use.server == resource.server)
        peak = max((part for use in uses for part in use.load), default=0.0)
        limit = inputs.fleet.policy.utilization
        stays = "nothing makes it move"
        if peak >= AT_LIMIT * limit:
            stays = f"its server is asked for {100 * peak:.0f} %, {100 * limit:.0f} % are declared"
        yield "Why here", f"it is loaded here already; {stays} ({others})"
    elif resource.server not in inputs.live.servers() and any(
        name in inputs.live.servers() for name in able
    ):
        yield "Why here", f"its server is new: no running one of its base takes it ({others})"
    else:
        yield "Why here", f"chosen among {others} for room and evenness"
    if declared and declared.replicas > 1:
        yield "Replicas", f"{declared.replicas} wanted, each on another server"


def _figures(inputs: ExplainInput, resource: Resource) -> Iterator[Fact]:
    if inputs.placement is None or inputs.wanted is None:
        return
    placement = inputs.placement
    match resource:
        case Server() if resource.name in placement.servers:
            account = placement_accounts(inputs.fleet, placement)[resource.name]
            yield from server_facts(account)
            if resource.flags is not None:
                host = inputs.fleet.hosts.get(account.host)
                most = host.memory_bytes if host else None
                versions = inputs.fleet.versions
                yield "Host memory", host_memory(account, resource.flags, versions, most)
        case LoadedAdapter() if (
            resource.server in placement.servers
            and resource.server in placement.bindings.get(resource.adapter, ())
        ):
            declared, pair = _declared(inputs, resource), (resource.adapter, resource.server)
            weighed = weigh(inputs.fleet, inputs.wanted, inputs.live, placement, *pair)
            yield from adapter_facts(resource.adapter, declared, weighed, placement)
        case _:
            pass


def _change(inputs: ExplainInput, address: Address) -> Iterator[Fact]:
    for change in inputs.plan.changes:
        if address in (change.address, *(there.address for there in change.resources)):
            to = "" if change.address == address else f" to {change.address}"
            yield "Change", f"{SYMBOLS[change.action]} {verb(change)}{to}: {change.why}"
            return
    yield "Change", "none"


def _dependants(inputs: ExplainInput, resource: Resource) -> Iterator[Fact]:
    state = inputs.desired if resource.address in inputs.desired.resources else inputs.live
    match resource:
        case Server():
            there = state.adapters().values()
            held = [adapter.adapter for adapter in there if adapter.server == resource.name]
            routes = state.routes().values()
            aliases = {route.alias for route in routes if resource.name in servers_in(route)}
            yield "Holds", f"{counted(len(held), 'adapter')}: {listed(held)}"
            yield "Serves", listed(sorted(aliases)) or "no alias"
        case LoadedAdapter():
            users = [
                f"{route.alias} ({share.percent} %)"
                for route in state.routes().values()
                for share in route.shares
                if share.adapter == resource.adapter and resource.server in share.servers
            ]
            yield "Used by", listed(users) or "no route"
        case Route():
            adapters = (
                adapter_address(share.adapter, server)
                for share in resource.shares
                for server in share.servers
            )
            yield "Rests on", listed(adapters)
        case Key():
            routes = state.routes().values()
            aliases = {route.alias for route in routes if route.client == resource.client}
            yield "Opens", listed(sorted(aliases)) or "nothing yet"


def _steps(inputs: ExplainInput, address: Address) -> Iterator[Fact]:
    steps = [step for step in inputs.plan.steps if step.address == address]
    for index, step in enumerate(steps):
        after = f", after {listed(step.needs, 3)}" if step.needs else ""
        yield ("Steps" if index == 0 else ""), f"{step.id} ({duration(step.estimate_s)}){after}"
