"""Placement, checked again: replicas, rules, silent servers; memory, slots, ports and load."""

from collections import defaultdict
from collections.abc import Iterator
from math import ceil, sqrt

from fleet.capacity import prompt_seconds, speed_of, step_seconds
from fleet.names import alias_of, base_of, client_of, server_name
from fleet.placement.model.accounts import AdapterAccount, ServerAccount
from fleet.placement.verify.view import Constraint, PlacementView, Violation
from fleet.resources import Server
from fleet.spec import AdapterSpec
from fleet.vllm import least_kv_bytes, rank_bucket


def replicas(view: PlacementView) -> Iterator[Violation]:
    """Find versions on fewer or more servers than wanted, and versions that are not wanted."""
    wanted_replicas: dict[str, int] = {}
    for target in view.targets.wanted.values():
        declared = view.fleet.adapters[target.alias]
        least_replicas = max(declared.replicas, 1)
        for name, _ in target.shares:
            wanted_replicas[name] = least_replicas
            prior = {*view.targets.routed.get(name, ()), *view.targets.loaded.get(name, ())}
            if name not in view.fleet.versions or base_of(name) not in view.fleet.bases:
                # A version that cannot be loaded stays where it is.
                wanted_replicas[name] = min(least_replicas, len(prior))
            if declared.name.client in view.fleet.set_aside:
                wanted_replicas[name] = len(prior)
    for name in sorted({*wanted_replicas, *view.bindings}):
        servers = view.bindings.get(name, ())
        count, want = len(set(servers)), wanted_replicas.get(name, 0)
        if len(servers) != count:
            text = f"`{name}` is bound to one server twice"
            yield Violation(Constraint.REPLICAS, "", name, len(servers), count, text)
        spec = view.declared(name)
        if want and spec is not None and spec.demand is not None:
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
        server_by_place: dict[tuple[str, ...], str] = {}
        for on in bound if len(bound) > 1 else ():
            server = view.servers.get(on)
            if server is None:
                continue
            devices = server.devices or (on,)  # an attached server stands for its devices
            places = [(server.host,)] if by_host else [(server.host, part) for part in devices]
            for place in places:
                other = server_by_place.setdefault(place, on)
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
            place_names = {on, server.host}
            if declared.pin is not None and declared.pin not in place_names:
                text = f"`{name}` is pinned to `{declared.pin}`, and is on `{on}`"
                yield _broken(Constraint.PIN, on, name, text)
            for place in sorted(place_names.intersection(declared.avoid)):
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
        specs = [(name, spec) for name in names if (spec := view.declared(name)) is not None]
        for name, declared in specs:
            excluded = [
                other
                for other in (names if declared.apart else ())
                if alias_of(other) != declared.alias
                and {alias_of(other), client_of(other)}.intersection(declared.apart)
            ]
            if excluded:
                text = f"`{name}` stays apart from `{excluded[0]}`, and both are on `{server}`"
                yield _broken(Constraint.APART, server, name, text, len(excluded))
            shared = declared.isolation == "shared"
            groups = ((other, _group(declared, spec)) for other, spec in specs if not shared)
            strangers = [other for other, group in groups if group != _group(declared, declared)]
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


QUANTILE = 2.33
"""Standard deviations of a normal law below which 99 % lie; for slots of cached adapters."""

SLACK = 1e-6
"""Relative error that sums of real numbers may have."""


def flags(view: PlacementView) -> Iterator[Violation]:
    """Find servers whose flags contradict their base, their devices or their host."""
    live = view.live.servers()
    for name, server in view.servers.items():
        base = view.fleet.bases.get(server.base)
        has = server.flags
        if has is None or base is None or not server.devices:
            continue
        devices = [view.device(server.host, device) for device in server.devices]
        if None in devices:
            continue  # on its way out: nothing is placed on it, see `servers`
        kinds = {device.kind for device in devices if device is not None}
        faults = []
        if has.tensor_parallel != len(set(server.devices)):
            faults.append(f"tensor_parallel {has.tensor_parallel} on {len(server.devices)} devices")
        if len(kinds) > 1 and live.get(name) != server:  # a running server keeps its devices
            faults.append(f"devices of kinds {', '.join(sorted(kinds))}")
        waits = any(name in upgrade.held for upgrade in view.targets.upgrades)
        for flag, value, declared in (
            ()
            if waits
            else (
                ("tensor_parallel", has.tensor_parallel, base.tensor_parallel),
                ("max_loras", has.max_loras, base.slots),
                ("max_lora_rank", has.max_lora_rank, base.max_lora_rank),
            )
        ):
            if declared not in (None, value):
                faults.append(f"{flag} {value}, declared {declared}")
        if server.digest not in (None, has.digest_like(server.digest)):
            faults.append("another digest than that of its flags")
        for fault in faults:
            yield Violation(Constraint.FLAGS, name, "", 1, 0, f"`{name}` has {fault}")


def ranks(view: PlacementView) -> Iterator[Violation]:
    """Find versions whose rank is above their server's."""
    for name, account in view.accounts.items():
        for item in account.residents:
            is_set_aside = client_of(alias_of(item.adapter)) in view.fleet.set_aside
            if 0 < account.rank < item.rank and not is_set_aside:  # the lock may be what is broken
                text = (
                    f"`{item.adapter}` has rank {item.rank}, and `{name}` is started with "
                    f"max_lora_rank {account.rank}"
                )
                yield Violation(Constraint.RANK, name, item.adapter, item.rank, account.rank, text)


def slots(view: PlacementView) -> Iterator[Violation]:
    """Find servers that hold more than their slots or list more than their host memory takes."""
    for name, account in view.accounts.items():
        foreign = len(view.foreign.get(name, ()))
        waiting = [item for item in account.residents if item.cached]
        shared = slots_for(waiting)
        needed = account.pinned + foreign + account.kept * bool(account.residents) + shared
        if 0 < account.slots < needed:
            parts = [f"{account.pinned} versions with a slot of their own"]
            parts += [f"{shared} slots for {len(waiting)} cached ones"] if waiting else []
            parts += [f"{foreign} that are not ours"] if foreign else []
            parts += ["1 kept empty on a CPU"] if account.kept else []
            text = f"`{name}` has {account.slots} slots for {', '.join(parts)}"
            yield Violation(Constraint.SLOTS, name, "", needed, account.slots, text)
        listed = len(account.residents) + foreign
        flags = view.servers[name].flags
        if flags is not None and listed > flags.max_cpu_loras:
            text = f"`{name}` lists {listed} versions with max_cpu_loras {flags.max_cpu_loras}"
            yield Violation(Constraint.CPU_CACHE, name, "", listed, flags.max_cpu_loras, text)


def slots_for(waiting: list[AdapterAccount]) -> int:
    """Return the slots that cached adapters share, by the hour in which most are active.

    The number active at a time is a sum of independent events: mean plus `QUANTILE` deviations.
    """
    most = 1.0
    for busy in zip(*(item.load.concurrency for item in waiting), strict=True):
        deviation = sqrt(sum(share * (1 - share) for share in busy))
        most = max(most, sum(busy) + QUANTILE * deviation - SLACK)
    return min(ceil(most), len(waiting))


def memory(view: PlacementView) -> Iterator[Violation]:
    """Find devices whose servers need more bytes, or larger shares, than there are."""
    on_device: dict[tuple[str, str], list[Server]] = defaultdict(list)
    for _, server in sorted(view.servers.items()):
        for device in server.devices:
            on_device[server.host, device].append(server)
    for (host, device), servers in sorted(on_device.items()):
        declared = view.device(host, device)
        if declared is None:
            continue
        address = f"{host}/{device}"
        total = declared.memory_bytes
        needs = {server.name: least_bytes(view, view.accounts[server.name]) for server in servers}
        needed_bytes = sum(needs.values())
        if needed_bytes > total:
            listed = ", ".join(f"`{name}` {_gib(need)}" for name, need in needs.items())
            need = _gib(needed_bytes)
            text = f"`{address}` has {_gib(total)}, and its servers need {need}: {listed}"
            yield Violation(Constraint.MEMORY, address, "", needed_bytes, total, text)
        shares = {
            server.name: server.flags.memory_share if server.flags else None for server in servers
        }
        for name, share in shares.items():
            if share is not None and needs[name] > share * total:
                share_bytes = int(share * total)
                text = (
                    f"`{name}` needs {_gib(needs[name])}, and its share {share:g} of "
                    f"`{address}` is {_gib(share_bytes)}"
                )
                yield Violation(Constraint.MEMORY, name, "", needs[name], share_bytes, text)
        # Bytes count as the share of the device that they are.
        part = sum(
            needs[name] / total if share is None else share for name, share in shares.items()
        )
        if part > 1 + SLACK:
            text = f"servers on `{address}` take {part:.2f} of its memory"
            yield Violation(Constraint.SHARES, address, "", part, 1, text)
        divided = len(servers) > 1 and any(share is not None for share in shares.values())
        if divided and not view.fleet.policy.share_devices:
            names = ", ".join(f"`{name}`" for name in shares)
            text = f"{names} share `{address}`, and devices are not to be divided"
            yield Violation(Constraint.SHARES, address, "", len(servers), 1, text)


def least_bytes(view: PlacementView, account: ServerAccount) -> int:
    """Return the bytes that a server needs on a device; unknown parts count as 0."""
    flags = view.servers[account.server].flags
    base = view.fleet.bases.get(account.base)
    if base is None or flags is None:
        return 0
    least = least_kv_bytes(base, flags.tensor_parallel) if base.shape else base.kv_cache_bytes or 0
    parts = (account.weights_bytes, account.slot_bytes, account.reserve_bytes, least)
    return sum(part or 0 for part in parts)


def host_memory(view: PlacementView) -> Iterator[Violation]:
    """Find hosts whose servers may list more versions than fit in the declared memory."""
    declared = {
        name: host.memory_bytes
        for name, host in sorted(view.fleet.hosts.items())
        if host.memory_bytes is not None
    }
    needs: dict[str, dict[str, int]] = {name: {} for name in declared}
    for name, server in sorted(view.servers.items()):
        if server.host in declared and server.flags is not None and server.devices:
            listed = {item.adapter for item in view.accounts[name].residents}
            listed |= view.foreign.get(name, frozenset())
            versions = view.fleet.versions
            largest = max(
                (versions[version].bytes for version in listed if version in versions), default=0
            )
            copies = server.flags.max_cpu_loras * server.flags.tensor_parallel
            needs[server.host][name] = copies * largest
    for host, limit in declared.items():
        total = sum(needs[host].values())
        if total > limit:
            texts = ", ".join(f"`{name}` {_gib(need)}" for name, need in needs[host].items())
            text = (
                f"host `{host}` declares {_gib(limit)} for listed adapters, and "
                f"its servers may list {_gib(total)}: {texts}"
            )
            yield Violation(Constraint.HOST_MEMORY, host, "", total, limit, text)


def ports(view: PlacementView) -> Iterator[Violation]:
    """Find servers of a host on the same port."""
    server_by_port: dict[tuple[str, int], str] = {}
    for name, server in sorted(view.servers.items()):
        if server.devices:
            other = server_by_port.setdefault((server.host, server.port), name)
            if other != name:
                text = f"`{other}` and `{name}` are both on port {server.port} of `{server.host}`"
                yield Violation(Constraint.PORT, name, "", 2, 1, text)


def loads(view: PlacementView) -> Iterator[Violation]:
    """Find hours in which the load of a server is above its limit.

    Left out are servers of versions that wait for further replicas, until a host or a silent
    server is back: those that have a place carry the requests of all until then.
    """
    for name, account in view.accounts.items():
        if any(resident.adapter in view.unplaced for resident in account.residents):
            continue
        hours = zip(account.load, account.limit, account.active, strict=True)
        for hour, (load, limit, active) in enumerate(hours):
            if load > limit * (1 + SLACK):
                text = (
                    f"`{name}` is asked for {load:.0f} tokens/s at {hour:02d}:00 UTC, and may "
                    f"carry {limit:.0f} with {active:.1f} adapters active"
                )
                yield Violation(Constraint.LOAD, name, "", load, limit, text, hour)


def _gib(amount: int) -> str:
    return f"{amount / (1 << 30):.1f} GiB"
