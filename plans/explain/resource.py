"""Says of one resource what it is, who asks for it, why it is there and what rests on it."""

from collections.abc import Iterator
from dataclasses import dataclass

from fleet.errors import FleetError, did_you_mean, problem
from fleet.names import AdapterName, Address, adapter_address, name_in_address
from fleet.placement import PlacementResult, placement_accounts, weigh
from fleet.plan import Plan
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, State
from fleet.rollouts import RolloutTargets
from fleet.spec import AdapterSpec, FleetSpec
from plans.explain.addresses import names_of
from plans.explain.figures import adapter_facts, host_memory, server_facts
from plans.explain.rollout import facts_of
from plans.render.sections import memory
from plans.wording import SYMBOLS, counted, duration, listed, short_version, size, verb

Fact = tuple[str, str]
"""A label and a sentence."""


@dataclass(frozen=True, slots=True)
class ExplainInput:
    """All that an explanation draws on."""

    fleet: FleetSpec
    plan: Plan
    desired: State
    live: State
    wanted: RolloutTargets | None = None
    placement: PlacementResult | None = None
    """With `wanted`: what figures are drawn up from; None: none are told."""


def explain(scene: ExplainInput, name: str) -> dict[Address, list[Fact]]:
    """Return by address the facts about each resource that `name` means.

    Args:
        scene: What is declared, wanted, live and due.
        name: An address, whole or without what is at the end or in front of it; see `names_of`.

    Raises:
        FleetError: FC5011, there is no such resource, neither wanted nor live.
    """
    return {address: _one(scene, address) for address in find(scene, name)}


def find(scene: ExplainInput, name: str) -> list[Address]:
    """Return the addresses that `name` means; raises FC5011 when there is none."""
    known = {**scene.live.resources, **scene.desired.resources}
    found = [address for address, each in sorted(known.items()) if name in names_of(each)]
    if not found:
        words = [word for each in sorted(known) for word in (each, name_in_address(each))]
        near = did_you_mean(name, words)
        raise FleetError(
            problem(
                "FC5011",
                "No such resource",
                f"`{name}` is neither wanted nor live in fleet {scene.fleet.name}.",
                hint=near or "name it as the plan does, such as route/acme-support",
                command="fleetctl status",
            )
        )
    return found


def _one(scene: ExplainInput, address: Address) -> list[Fact]:
    wanted = scene.desired.resources.get(address)
    live = scene.live.resources.get(address)
    resource = wanted or live
    if resource is None:  # `find` gives addresses of either state only
        return []
    return [
        *_what(scene, resource),
        ("Declared", _origin(scene, resource) or "nowhere in the files"),
        ("Live", _presence(scene, address, live)),
        *([] if wanted is not None else [("Wanted", "no")]),
        *_why_here(scene, resource),
        *_figures(scene, resource),
        *_change(scene, address),
        *(facts_of(scene.plan, scene.wanted, resource) if isinstance(resource, Route) else ()),
        *_held(scene, resource),
        *_dependants(scene, resource),
        *_steps(scene, address),
    ]


def _declared(scene: ExplainInput, resource: LoadedAdapter | Route) -> AdapterSpec | None:
    if isinstance(resource, Route):
        return scene.fleet.adapters.get(resource.alias)
    try:
        return scene.fleet.adapters.get(AdapterName.parse(resource.adapter).alias)
    except ValueError:
        return None


def _held(scene: ExplainInput, resource: Resource) -> Iterator[Fact]:
    """Say what of a route's declaration is not done yet, and until when."""
    if isinstance(resource, Route):
        for each in scene.plan.held:
            alias, _, text = each.partition(": ")
            if alias == resource.alias:
                yield "Held back", text


def _what(scene: ExplainInput, resource: Resource) -> Iterator[Fact]:
    fleet = scene.fleet
    match resource:
        case Server():
            where = f"{resource.host} ({listed(resource.devices)})" if resource.devices else ""
            yield "What", f"vLLM server with base {resource.base} on {where or resource.host}"
            if resource.flags is not None:
                flags = resource.flags
                yield (
                    "Flags",
                    (
                        f"max_loras {flags.max_loras}, max_lora_rank {flags.max_lora_rank}, "
                        f"max_cpu_loras {flags.max_cpu_loras}, digest {flags.digest}"
                    ),
                )
            for use in scene.plan.capacity:
                if use.server == resource.name:
                    yield "Memory", memory(use)
        case LoadedAdapter():
            declared = _declared(scene, resource)
            of = f" of {declared.alias}" if declared else ""
            yield "What", f"version {short_version(resource.adapter)}{of} on {resource.server}"
            facts = fleet.versions.get(resource.adapter)
            if facts is not None:
                yield (
                    "Locked",
                    (
                        f"sha256 {facts.digest[:12]}, rank {facts.rank}, {size(facts.bytes)}, "
                        f"modules {listed(facts.modules)}"
                    ),
                )
        case Route():
            client = fleet.clients.get(resource.client)
            tier = f" ({client.tier})" if client else ""
            yield "What", f"what client {resource.client}{tier} reaches as {resource.alias}"
            for share in resource.shares:
                yield (
                    "Share",
                    (
                        f"{share.percent} % {short_version(share.adapter)} "
                        f"on {listed(share.servers)}"
                    ),
                )
        case Key():
            yield "What", f"API key of client {resource.client}, kept at {resource.reference}"
            yield "Secret", f"fingerprint {resource.fingerprint or 'not readable here'}"


def _origin(scene: ExplainInput, resource: Resource) -> str:
    fleet = scene.fleet
    match resource:
        case Server():
            return fleet.origin("bases", resource.base)
        case Key():
            return fleet.origin("clients", resource.client, "keys", resource.name)
        case LoadedAdapter() | Route():
            declared = _declared(scene, resource)
            if declared is None:
                return ""
            path = ("clients", declared.name.client, "adapters", declared.name.task)
            return fleet.origin(*path, "version")


def _presence(scene: ExplainInput, address: Address, live: Resource | None) -> str:
    if not scene.live.knows(address):
        return "unknown: it could not be observed"
    match live:
        case None:
            return "does not exist"
        case Server():
            url = scene.live.urls.get(live.name, "")
            return f"answers at {url}" if url else "answers"
        case LoadedAdapter():
            return f"loaded from {'the locked bytes' if live.digest else 'another path'}"
        case Route():
            return ", ".join(
                f"{each.percent} % {short_version(each.adapter)}" for each in live.shares
            )
        case Key():
            return f"issued, fingerprint {live.fingerprint or 'unknown'}"


def _why_here(scene: ExplainInput, resource: Resource) -> Iterator[Fact]:
    if not isinstance(resource, LoadedAdapter) or resource.address not in scene.desired.resources:
        return
    declared = _declared(scene, resource)
    base = declared.name.base if declared else ""
    able = [each.name for each in scene.desired.servers().values() if each.base == base]
    if declared and declared.pin:
        yield "Why here", f"it is pinned to {declared.pin}"
    elif len(able) == 1:
        yield "Why here", f"{able[0]} is the only server of base {base}"
    elif resource.address in scene.live.resources:
        yield "Why here", f"it is loaded here already; staying costs nothing ({_others(able)})"
    else:
        yield "Why here", f"chosen among {_others(able)} for room and evenness"
    if declared and declared.replicas > 1:
        yield "Replicas", f"{declared.replicas} wanted, each on another server"


def _figures(scene: ExplainInput, resource: Resource) -> Iterator[Fact]:
    """Tell what a server holds and carries, and what an adapter asks of its server."""
    if scene.placement is None or scene.wanted is None:
        return
    placement = scene.placement
    match resource:
        case Server() if resource.name in placement.servers:
            account = placement_accounts(scene.fleet, placement)[resource.name]
            yield from server_facts(account)
            if resource.flags is not None:
                host = scene.fleet.hosts.get(account.host)
                most = host.memory_bytes if host else None
                versions = scene.fleet.versions
                yield "Host memory", host_memory(account, resource.flags, versions, most)
        case LoadedAdapter() if (
            resource.server in placement.servers
            and resource.server in placement.bindings.get(resource.adapter, ())
        ):
            weighed = weigh(
                scene.fleet, scene.wanted, scene.live, placement, resource.adapter, resource.server
            )
            declared = _declared(scene, resource)
            yield from adapter_facts(resource.adapter, declared, weighed, placement)
        case _:
            pass


def _others(servers: list[str]) -> str:
    return f"{counted(len(servers), 'server')} of its base"


def _change(scene: ExplainInput, address: Address) -> Iterator[Fact]:
    for each in scene.plan.changes:
        if each.address == address:
            yield "Change", f"{SYMBOLS[each.action]} {verb(each)}: {each.why}"
            return
        if each.before is not None and each.before.address == address:
            yield "Change", f"{SYMBOLS[each.action]} {verb(each)} to {each.address}: {each.why}"
            return
    yield "Change", "none"


def _dependants(scene: ExplainInput, resource: Resource) -> Iterator[Fact]:
    state = scene.desired if resource.address in scene.desired.resources else scene.live
    match resource:
        case Server():
            held = [each for each in state.adapters().values() if each.server == resource.name]
            aliases = {
                route.alias
                for route in state.routes().values()
                if any(resource.name in share.servers for share in route.shares)
            }
            yield "Holds", f"{counted(len(held), 'adapter')}: {listed(e.adapter for e in held)}"
            yield "Serves", listed(sorted(aliases)) or "nobody"
        case LoadedAdapter():
            users = [
                f"{route.alias} ({share.percent} %)"
                for route in state.routes().values()
                for share in route.shares
                if share.adapter == resource.adapter and resource.server in share.servers
            ]
            yield "Used by", listed(users) or "no route"
        case Route():
            yield (
                "Rests on",
                listed(
                    adapter_address(share.adapter, server)
                    for share in resource.shares
                    for server in share.servers
                ),
            )
        case Key():
            aliases = {e.alias for e in state.routes().values() if e.client == resource.client}
            yield "Opens", listed(sorted(aliases)) or "nothing yet"


def _steps(scene: ExplainInput, address: Address) -> Iterator[Fact]:
    steps = [each for each in scene.plan.steps if each.address == address]
    for index, each in enumerate(steps):
        after = f", after {listed(each.needs, 3)}" if each.needs else ""
        yield ("Steps" if index == 0 else ""), f"{each.id} ({duration(each.estimate_s)}){after}"
