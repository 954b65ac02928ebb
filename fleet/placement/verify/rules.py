"""Rules, checked again: replicas, pins, neighbours, reservations, silent servers."""

from collections.abc import Iterator

from fleet.capacity import prompt_seconds, speed_of, step_seconds
from fleet.names import alias_of
from fleet.placement.verify.view import Constraint, PlacementView, Violation
from fleet.resources import Server
from fleet.spec import AdapterSpec
from fleet.vllm import rank_bucket

SLACK = 1e-6
"""Relative error that products of real numbers may have."""


def replicas(view: PlacementView) -> Iterator[Violation]:
    """Find versions on fewer or more servers than wanted, and versions that are not wanted."""
    asked: dict[str, int] = {}
    for target in view.targets.wanted.values():
        declared = view.fleet.adapters[target.alias]
        for name, _ in target.shares:
            asked[name] = _asked(view, declared, name)
    for name in sorted({*asked, *view.bindings}):
        servers = view.bindings.get(name, ())
        count, want = len(set(servers)), asked.get(name, 0)
        if len(servers) != count:
            text = f"`{name}` is bound to one server twice"
            yield Violation(Constraint.REPLICAS, "", name, len(servers), count, text)
        known = view.declared(name)
        if want and known is not None and known.demand is not None:
            want = max(want, count)  # as many as it takes to carry the load
        if count > want or (count < want and name not in view.unplaced):
            text = f"`{name}` is on {count} servers, and should be on {want}"
            amount, limit = (count, want) if count > want else (want, count)
            yield Violation(Constraint.REPLICAS, "", name, amount, limit, text)


def _asked(view: PlacementView, declared: AdapterSpec, name: str) -> int:
    """Return the replicas of a version; one that cannot be loaded stays where it is."""
    base = name.split("-", 3)[2]
    if name in view.fleet.versions and base in view.fleet.bases:
        return max(declared.replicas, 1)
    wanted = view.targets
    prior = {*wanted.routed.get(name, ()), *wanted.loaded.get(name, ())}
    return min(max(declared.replicas, 1), len(prior))


def servers(view: PlacementView) -> Iterator[Violation]:
    """Find versions on servers that are not there, of another base, or silent and new to them."""
    for name, bound in view.bindings.items():
        base = name.split("-", 3)[2]
        for server_name in bound:
            server = view.servers.get(server_name)
            if server_name in view.live.unknown_servers:
                if not view.was_there(name, server_name):
                    text = f"`{name}` comes to `{server_name}`, which does not answer"
                    yield _broken(Constraint.SILENT, server_name, name, text)
            elif server is None:
                text = f"`{name}` is bound to `{server_name}`, which is not among the servers"
                yield _broken(Constraint.SERVER, server_name, name, text)
            elif server.base != base:
                text = f"`{name}` is on `{server_name}`, whose base is `{server.base}`"
                yield _broken(Constraint.SERVER, server_name, name, text)


def silence(view: PlacementView) -> Iterator[Violation]:
    """Find servers that are decided about although they, or others on their device, are silent."""
    live = view.live.servers()
    for name, server in view.servers.items():
        if name in view.live.unknown_servers:
            text = f"`{name}` does not answer, and is placed as if it did"
            yield _broken(Constraint.SILENT, name, "", text)
        if name in live:
            continue
        for device in server.devices:
            there = [f"{base}-{server.host}-{device}" for base in sorted(view.fleet.bases)]
            for other in there:
                if other in view.live.unknown_servers and other != name:
                    text = f"`{name}` is started on the device of `{other}`, which does not answer"
                    yield _broken(Constraint.SILENT, name, "", text)


def promises(view: PlacementView) -> Iterator[Violation]:
    """Find versions that come to a server too slow for what their tier promises."""
    for name, account in view.accounts.items():
        shape = view.accounting.shape(view.servers[name], 1)
        for resident in account.residents if shape else ():
            version = resident.adapter
            declared = view.declared(version)
            if declared is None or not declared.promised or declared.demand is None:
                continue
            assert shape is not None
            rank = shape.base.max_lora_rank or rank_bucket(resident.rank) or 0
            speed, basis = speed_of(
                view.fleet.profiles,
                shape.base,
                shape.device,
                shape.tensor_parallel,
                rank,
                vllm=shape.device.vllm,
            )
            if speed is None or not basis.startswith("calibrated"):
                continue
            seconds = declared.demand.output_tokens * step_seconds(speed, 1, 1)
            seconds += declared.demand.prompt_tokens * prompt_seconds(speed)
            if seconds > declared.slo_s * (1 + SLACK) and not view.was_there(version, name):
                text = (
                    f"`{version}` comes to `{name}`, which answers in {seconds:.2g} s while "
                    f"idle, and {declared.slo_s:g} s are promised"
                )
                amount, limit = seconds, declared.slo_s
                yield Violation(Constraint.LATENCY, name, version, amount, limit, text)


def spread(view: PlacementView) -> Iterator[Violation]:
    """Find replicas on one device, or on one host where they should not be."""
    for name, bound in view.bindings.items():
        if len(bound) < 2:  # noqa: PLR2004 (a single one is apart from all others)
            continue
        declared = view.declared(name)
        by_host = declared is not None and declared.spread == "host"
        taken: dict[tuple[str, ...], str] = {}
        for server_name in bound:
            if server_name not in view.homes:
                continue
            host, *devices = view.homes[server_name]
            places = [(host,)] if by_host else [(host, device) for device in devices]
            for place in places:
                other = taken.setdefault(place, server_name)
                if other != server_name:
                    where = f"host `{host}`" if by_host else f"device `{'/'.join(place)}`"
                    text = f"`{name}` has two replicas on {where}: `{other}` and `{server_name}`"
                    yield _broken(Constraint.SPREAD, server_name, name, text)
                    break


def choices(view: PlacementView) -> Iterator[Violation]:
    """Find versions where they are pinned away from, unwanted, or newly come to a closed place."""
    for name, bound in view.bindings.items():
        declared = view.declared(name)
        for server_name in bound:
            server = view.servers.get(server_name)
            if server is None or declared is None:
                continue
            yield from _choice(view, declared, name, server)


def _choice(
    view: PlacementView, declared: AdapterSpec, name: str, server: Server
) -> Iterator[Violation]:
    here = {server.name, server.host}
    if declared.pin is not None and declared.pin not in here:
        text = f"`{name}` is pinned to `{declared.pin}`, and is on `{server.name}`"
        yield _broken(Constraint.PIN, server.name, name, text)
    for place in sorted(here.intersection(declared.avoid)):
        text = f"`{name}` avoids `{place}`, and is on `{server.name}`"
        yield _broken(Constraint.AVOID, server.name, name, text)
    host = view.host(server)
    reserved = host.reserved_for if host else ()
    if reserved and not {declared.tier, declared.name.client}.intersection(reserved):
        text = (
            f"host `{server.host}` is reserved for {', '.join(reserved)}, and `{name}` of "
            f"{declared.name.client} ({declared.tier}) is on `{server.name}`"
        )
        yield _broken(Constraint.RESERVED, server.name, name, text)
    closed = view.closed(server)
    if closed and not view.was_there(name, server.name):
        text = f"`{name}` comes to `{server.name}`, where nothing new may come: {closed}"
        yield _broken(Constraint.CORDONED, server.name, name, text)


def company(view: PlacementView) -> Iterator[Violation]:
    """Find versions beside others with which they may not share a server."""
    for server, residents in view.residents.items():
        if server not in view.servers:
            continue
        names = [item.adapter for item in residents]
        known = [(name, found) for name in names if (found := view.declared(name)) is not None]
        for name, declared in known:
            if declared.apart:
                yield from _apart(declared, name, server, names)
            if declared.isolation != "shared":
                yield from _isolated(declared, name, server, known)


def _apart(declared: AdapterSpec, name: str, server: str, names: list[str]) -> Iterator[Violation]:
    apart = set(declared.apart)
    beside = [
        name
        for name in names
        if alias_of(name) != declared.alias
        and apart.intersection((alias_of(name), name.partition("-")[0]))
    ]
    if beside:
        text = f"`{name}` stays apart from `{beside[0]}`, and both are on `{server}`"
        yield _broken(Constraint.APART, server, name, text, len(beside))


def _isolated(
    declared: AdapterSpec, name: str, server: str, known: list[tuple[str, AdapterSpec]]
) -> Iterator[Violation]:
    def group(of: AdapterSpec) -> str:
        return of.tier if declared.isolation == "tier" else of.name.client

    beside = [other_name for other_name, other in known if group(other) != group(declared)]
    if beside:
        text = (
            f"`{name}` shares a server with its own {declared.isolation} only, and `{beside[0]}` "
            f"is on `{server}` too"
        )
        yield _broken(Constraint.ISOLATION, server, name, text, len(beside))


def _broken(
    constraint: Constraint, server: str, adapter: str, text: str, amount: int = 1
) -> Violation:
    """Return a finding about something of which there should be none."""
    return Violation(constraint, server, adapter, amount, 0, text)
