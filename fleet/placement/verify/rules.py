"""Rules, checked again: replicas, pins, neighbours, reservations, silent servers."""

from collections.abc import Iterator

from fleet.capacity import prompt_seconds, speed_of, step_seconds
from fleet.names import alias_of, base_of, client_of, server_name
from fleet.placement.verify.amounts import SLACK
from fleet.placement.verify.view import Constraint, PlacementView, Violation
from fleet.spec import AdapterSpec
from fleet.vllm import rank_bucket


def replicas(view: PlacementView) -> Iterator[Violation]:
    """Find versions on fewer or more servers than wanted, and versions that are not wanted."""
    asked: dict[str, int] = {}
    for target in view.targets.wanted.values():
        declared = view.fleet.adapters[target.alias]
        wanted = max(declared.replicas, 1)
        for name, _ in target.shares:
            asked[name] = wanted
            prior = {*view.targets.routed.get(name, ()), *view.targets.loaded.get(name, ())}
            if name not in view.fleet.versions or base_of(name) not in view.fleet.bases:
                # A version that cannot be loaded stays where it is.
                asked[name] = min(wanted, len(prior))
            if declared.name.client in view.fleet.set_aside:
                asked[name] = len(prior)
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
            limit, amount = sorted((count, want))
            yield Violation(Constraint.REPLICAS, "", name, amount, limit, text)


def servers(view: PlacementView) -> Iterator[Violation]:
    """Find versions on servers that are not there, of another base, or silent and new to them."""
    for name, bound in view.bindings.items():
        for on in bound:
            server = view.servers.get(on)
            if on in view.live.unknown_servers:
                if not view.was_there(name, on):
                    text = f"`{name}` comes to `{on}`, which does not answer"
                    yield _broken(Constraint.SILENT, on, name, text)
            elif server is None:
                text = f"`{name}` is bound to `{on}`, which is not among the servers"
                yield _broken(Constraint.SERVER, on, name, text)
            elif server.base != base_of(name):
                text = f"`{name}` is on `{on}`, whose base is `{server.base}`"
                yield _broken(Constraint.SERVER, on, name, text)


def silence(view: PlacementView) -> Iterator[Violation]:
    """Find silent servers that are changed, and servers started on their devices."""
    live = view.live.servers()
    for name, server in view.servers.items():
        if name in view.live.unknown_servers:
            text = f"`{name}` does not answer, and is placed as if it did"
            yield _broken(Constraint.SILENT, name, "", text)
        for device in server.devices if name not in live else ():
            for base in sorted(view.fleet.bases):
                other = server_name(base, server.host, device)
                if other in view.live.unknown_servers and other != name:
                    text = f"`{name}` is started on the device of `{other}`, which does not answer"
                    yield _broken(Constraint.SILENT, name, "", text)


def promises(view: PlacementView) -> Iterator[Violation]:
    """Find versions that come to a server too slow for the promised latency of their tier."""
    for name, account in view.accounts.items():
        shape = view.accounting.shape(view.servers[name], 1)
        for resident in account.residents:
            version = resident.adapter
            declared = view.declared(version)
            if not shape or not declared or not declared.promised or declared.demand is None:
                continue
            rank = shape.base.max_lora_rank or rank_bucket(resident.rank) or 0
            speed, basis = speed_of(
                view.fleet.profiles, shape.base, shape.device, shape.tensor_parallel, rank,
                vllm=shape.device.vllm,
            )  # fmt: skip
            if speed is None or not basis.is_measured:
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
    """Find replicas on the same device, or on the same host where they should share none."""
    for name, bound in view.bindings.items():
        declared = view.declared(name)
        by_host = declared is not None and declared.spread == "host"
        taken: dict[tuple[str, ...], str] = {}
        for on in bound if len(bound) > 1 else ():
            server = view.servers.get(on)
            if server is None:
                continue
            devices = server.devices or (on,)  # an attached server stands for its devices
            places = [(server.host,)] if by_host else [(server.host, part) for part in devices]
            for place in places:
                other = taken.setdefault(place, on)
                if other != on:
                    where = f"{'host' if by_host else 'device'} `{'/'.join(place)}`"
                    text = f"`{name}` has two replicas on {where}: `{other}` and `{on}`"
                    yield _broken(Constraint.SPREAD, on, name, text)
                    break


def choices(view: PlacementView) -> Iterator[Violation]:
    """Find versions that break a pin, avoidance or reservation, or are new to a closed server."""
    for name, bound in view.bindings.items():
        declared = view.declared(name)
        for on in bound:
            server = view.servers.get(on)
            if server is None or declared is None:
                continue
            here = {on, server.host}
            if declared.pin is not None and declared.pin not in here:
                text = f"`{name}` is pinned to `{declared.pin}`, and is on `{on}`"
                yield _broken(Constraint.PIN, on, name, text)
            for place in sorted(here.intersection(declared.avoid)):
                text = f"`{name}` avoids `{place}`, and is on `{on}`"
                yield _broken(Constraint.AVOID, on, name, text)
            host = view.fleet.hosts.get(server.host)
            reserved = host.reserved_for if host else ()
            if reserved and not {declared.tier, declared.name.client}.intersection(reserved):
                text = (
                    f"host `{server.host}` is reserved for {', '.join(reserved)}, and `{name}` of "
                    f"{declared.name.client} ({declared.tier}) is on `{on}`"
                )
                yield _broken(Constraint.RESERVED, on, name, text)
            closed = view.closed(server)
            if closed and not view.was_there(name, on):
                text = f"`{name}` comes to `{on}`, where nothing new may come: {closed}"
                yield _broken(Constraint.CORDONED, on, name, text)


def company(view: PlacementView) -> Iterator[Violation]:
    """Find versions beside others with which they may not share a server."""
    for server, residents in view.residents.items():
        if server not in view.servers:
            continue
        names = [item.adapter for item in residents]
        known = [(name, found) for name in names if (found := view.declared(name)) is not None]
        for name, declared in known:
            apart = [
                other
                for other in (names if declared.apart else ())
                if alias_of(other) != declared.alias
                and {alias_of(other), client_of(other)}.intersection(declared.apart)
            ]
            if apart:
                text = f"`{name}` stays apart from `{apart[0]}`, and both are on `{server}`"
                yield _broken(Constraint.APART, server, name, text, len(apart))
            shared = declared.isolation == "shared"
            others = ((other, _group(declared, spec)) for other, spec in known if not shared)
            strangers = [other for other, group in others if group != _group(declared, declared)]
            if strangers:
                text = (
                    f"`{name}` shares a server with its own {declared.isolation} only, and "
                    f"`{strangers[0]}` is on `{server}` too"
                )
                yield _broken(Constraint.ISOLATION, server, name, text, len(strangers))


def _group(declared: AdapterSpec, other: AdapterSpec) -> str:
    return other.tier if declared.isolation == "tier" else other.name.client


def _broken(
    constraint: Constraint, server: str, adapter: str, text: str, amount: int = 1
) -> Violation:
    return Violation(constraint, server, adapter, amount, 0, text)
