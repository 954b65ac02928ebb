"""Explain the figures of a server and of an adapter on a server, as labelled sentences."""

import json
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite

from fleet.capacity import peak_hour
from fleet.names import Address, alias_parts, name_in_address
from fleet.placement import (
    AdapterAccount,
    LatencyAnswer,
    PlacementResult,
    ServerAccount,
    Weighed,
    answer_of,
)
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, ServerFlags
from fleet.spec import AdapterFacts, AdapterSpec
from fleet.vllm import assumption, host_bytes
from plans.tables import counted, listed, percent, size

FORMAT = "fleetctl-explanation"

Fact = tuple[str, str]
"""A label and a sentence."""


def render_text(explained: Mapping[Address, Sequence[Fact]]) -> str:
    """Return a paragraph for every resource, a line for every fact."""
    paragraphs = []
    for address, facts in explained.items():
        width = max(len(label) for label, _ in facts)
        lines = (f"  {label.ljust(width)}  {text}\n" for label, text in facts)
        paragraphs.append("".join([f"{address}\n", *lines]))
    return "\n".join(paragraphs)


def render_json(explained: Mapping[Address, Sequence[Fact]]) -> str:
    """Return the facts as a JSON document; a fact without a label belongs to the fact before."""
    resources = [
        {"address": address, "facts": [{"label": label, "text": text} for label, text in facts]}
        for address, facts in explained.items()
    ]
    document = {"format": FORMAT, "format_version": "1.0", "resources": resources}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def names_of(resource: Resource) -> frozenset[str]:
    """Return all names that mean a resource, the address among them.

    A server: `server/S`, `S`, `host/device`, `host/H`, `base/B`. An adapter: `adapter/N@S`, `N@S`,
    `adapter/N`, `N`, and the same with `ALIAS@VERSION` in the place of its full name `N`; of a
    server, `ALIAS@S`; all versions of an alias, `adapter/ALIAS`. A route: `route/ALIAS`, `ALIAS`,
    `CLIENT/TASK`. A key: `key/CLIENT/NAME`, `CLIENT/NAME`. All that a client has of routes and
    keys: `client/CLIENT`.
    """
    return frozenset(_names(resource))


def _names(resource: Resource) -> Iterator[str]:
    address = resource.address
    yield from (address, name_in_address(address))
    match resource:
        case Server():
            yield from (f"{resource.host}/{device}" for device in resource.devices)
            yield from (f"host/{resource.host}", f"base/{resource.base}")
        case LoadedAdapter():
            yield from (resource.adapter, f"adapter/{resource.adapter}")
            if name := resource.parts:
                short_names = [f"{name.alias}@{resource.server}"]
                for version in (name.version, f"v{name.version}"):
                    short_name = f"{name.alias}@{version}"
                    short_names += [short_name, f"{short_name}@{resource.server}"]
                yield from (f"adapter/{name.alias}", *short_names)
                yield from (f"adapter/{short_name}" for short_name in short_names)
        case Route():
            client, task = alias_parts(resource.alias)
            yield from (f"{client}/{task}", f"client/{client}")
        case Key():
            yield f"client/{resource.client}"


Versions = Mapping[str, AdapterFacts]
"""Facts of versions by full name."""


def server_facts(account: ServerAccount) -> Iterator[Fact]:
    """Yield a server's shape, worst hour, slots, rank inflation and KV cache."""
    if account.kind:
        cards = f"{len(account.devices)} x {account.kind}"
        yield "Shape", f"{cards}, {account.slots} slots of rank {account.rank}"
        assumed = assumption(account.vllm)
        yield "Engine", f"vLLM {account.vllm}" if account.vllm and not assumed else assumed
    yield "Worst hour", _worst_hour(account)
    yield "Slots", _slots(account)
    inflation = account.inflation
    if inflation is not None:
        names = listed(inflation.adapters, 3)
        pronoun = "it" if len(inflation.adapters) == 1 else "them"
        tokens = inflation.kv_tokens
        freed = f"; moving {pronoun} frees {tokens:,} KV tokens" if tokens else ""
        raised = f"rank {inflation.rank} of {names} raises {counted(inflation.slots, 'other slot')}"
        cost = f"{size(inflation.bytes)} in all{freed}"
        yield "Rank", f"{raised} from rank {inflation.without}: {cost}"
    if account.kv_tokens is not None:
        given = account.kv_tokens_per_slot
        slots = f"; its slots take the place of {given * account.slots:,}" if given else ""
        yield "KV cache", f"{account.kv_tokens:,} tokens{slots} ({account.memory_basis})"


def _worst_hour(account: ServerAccount) -> str:
    hour = account.worst_hour
    if not account.load[hour]:
        return "no demand is declared for what it holds"
    load = f"{account.load[hour]:,.0f} tokens/s"
    active = f"{account.active[hour]:.1f} adapters active at a time"
    limit = account.limit[hour]
    if not isfinite(limit):
        return f"{hour:02}:00 UTC, {load}, {active}; what it can carry is not known"
    return (
        f"{hour:02}:00 UTC, {load}: {percent(account.part(hour))} of its throughput, "
        f"at most {percent(account.allowed)} allowed; {active} ({account.basis})"
    )


def _slots(account: ServerAccount) -> str:
    parts = [f"{account.pinned} of {account.slots} taken"]
    if account.cached:
        parts.append(f"{counted(account.cached, 'cached adapter')} beside them")
    if account.kept:
        parts.append(f"{account.kept} kept empty on a CPU")
    return ", ".join(parts)


def host_memory(
    account: ServerAccount, flags: ServerFlags, versions: Versions, declared: int | None
) -> str:
    """Return the host memory that a server's listed versions take at most, of the declared."""
    sizes = [versions[r.adapter].bytes for r in account.residents if r.adapter in versions]
    if not sizes:
        return "nothing is listed whose size is known"
    cards = flags.tensor_parallel
    most = host_bytes(flags.max_cpu_loras, max(sizes), cards)
    listing = f"{flags.max_cpu_loras} listed versions of up to {size(max(sizes))}"
    of = "" if declared is None else f" of {size(declared)} that {account.host} declares"
    copies = f" for each of {cards} devices" if cards > 1 else ""
    return f"{size(most)} at most{of}: {listing}{copies}"


def adapter_facts(
    adapter: str, declared: AdapterSpec | None, weighed: Weighed, placement: PlacementResult
) -> Iterator[Fact]:
    """Yield a version's load, response time, binding limit, move and runner-up server."""
    own = next((r for r in weighed.account.residents if r.adapter == adapter), None)
    if own is not None:
        yield "Asks", _asks(own)
        if declared is not None and declared.demand is not None and weighed.account.step_s:
            yield "Answers", _answers(answer_of(own, declared, weighed.account))
    yield "Binding", _binding(weighed)
    if adapter in placement.forced:
        yield "Must move", placement.forced[adapter]
    elif adapter in placement.optional:
        yield "May move", placement.optional[adapter]
    yield "Runner-up", _runner_up(weighed)
    if weighed.closed is not None and weighed.runner_up is not None:
        yield "Not on", f"{weighed.closed.server}: {weighed.closed.obstacles[0]}"


def _asks(own: AdapterAccount) -> str:
    slot = "a place in host memory (cached)" if own.cached else f"a slot of rank {own.rank}"
    hour = peak_hour(own.load.tokens)
    if not own.load.tokens[hour]:
        return f"{slot}; no demand is declared"
    return (
        f"{slot} and {own.load.tokens[hour]:,.0f} tokens/s in its busiest hour, {hour:02}:00 UTC, "
        f"when it is active {percent(own.load.concurrency[hour])} of the time"
    )


def _answers(found: LatencyAnswer | None) -> str:
    """Return the response time in the worst hour with requests for the version."""
    if found is None:
        return "no request asks for it"
    if not isfinite(found.seconds):
        return f"late: at {found.hour:02}:00 UTC its server is asked for more than it can decode"
    took = f"{found.tokens} tokens take {found.seconds:.2g} s at {found.hour:02}:00 UTC"
    so = ", so they are late" if found.late else ""
    return f"{took}; {found.due}{so} ({found.basis})"


def _binding(weighed: Weighed) -> str:
    """Return the resource that the server has least of, with and without the version."""
    account, without = weighed.account, weighed.without
    taken, before = account.pinned + account.kept, without.pinned + without.kept
    filled = taken / account.slots if account.slots else 0.0
    if account.peak > filled:
        hour = account.worst_hour
        return (
            f"throughput of {account.server} at {hour:02}:00 UTC: "
            f"{percent(account.part(hour))} used, {percent(without.part(hour))} without it, "
            f"at most {percent(account.allowed)}"
        )
    return f"slots of {account.server}: {taken} of {account.slots} taken, {before} without it"


def _runner_up(weighed: Weighed) -> str:
    best = weighed.runner_up
    if best is not None:
        where = f"a new server {best.server}" if best.new else best.server
        part = best.peak * weighed.account.allowed
        peak = f", its worst hour then at {percent(part)} of its throughput" if part else ""
        return f"{where}: {best.added_per_hour:+.2f} per hour{peak}"
    if not weighed.alternatives:
        return "none: no other server has its base, and no device is free"
    nearest = min(
        weighed.alternatives,
        key=lambda alternative: (len(alternative.obstacles), alternative.new, alternative.server),
    )
    return f"none; on {nearest.server}, {nearest.obstacles[0]}"
