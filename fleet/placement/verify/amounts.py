"""Amounts, checked again: flags, slots, memory, ports and load of servers and devices."""

from collections import defaultdict
from collections.abc import Iterator
from math import ceil, sqrt

from fleet.names import alias_of, client_of
from fleet.placement.accounts import AdapterAccount, ServerAccount
from fleet.placement.verify.view import Constraint, PlacementView, Violation
from fleet.resources import Server
from fleet.vllm import least_kv_bytes

QUANTILE = 2.33
"""Standard deviations of a normal law below which 99 % lie; for slots of cached adapters."""

SLACK = 1e-6
"""Relative error that sums of real numbers may have."""


def flags(view: PlacementView) -> Iterator[Violation]:
    """Find servers whose flags contradict their base, their devices or their host."""
    live = view.live.servers()
    for name, server in view.servers.items():
        base, has = view.fleet.bases.get(server.base), server.flags
        if has is None or base is None or not server.devices:
            continue
        known = [view.device(server.host, device) for device in server.devices]
        if None in known:
            continue  # on its way out: nothing is placed on it, see `servers`
        kinds = {device.kind for device in known if device is not None}
        faults = []
        if has.tensor_parallel != len(set(server.devices)):
            faults.append(f"tensor_parallel {has.tensor_parallel} on {len(server.devices)} devices")
        if len(kinds) > 1 and live.get(name) != server:  # a running server keeps its devices
            faults.append(f"devices of kinds {', '.join(sorted(kinds))}")
        waits = any(name in upgrade.held for upgrade in view.targets.upgrades)
        for flag, own, declared in (
            ()
            if waits
            else (
                ("tensor_parallel", has.tensor_parallel, base.tensor_parallel),
                ("max_loras", has.max_loras, base.slots),
                ("max_lora_rank", has.max_lora_rank, base.max_lora_rank),
            )
        ):
            if declared not in (None, own):
                faults.append(f"{flag} {own}, declared {declared}")
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
        address, total = f"{host}/{device}", declared.memory_bytes
        needs = {server.name: least_bytes(view, view.accounts[server.name]) for server in servers}
        taken = sum(needs.values())
        if taken > total:
            listed = ", ".join(f"`{name}` {_gib(need)}" for name, need in needs.items())
            text = f"`{address}` has {_gib(total)}, and its servers need {_gib(taken)}: {listed}"
            yield Violation(Constraint.MEMORY, address, "", taken, total, text)
        shares = {
            server.name: server.flags.memory_share if server.flags else None for server in servers
        }
        for name, share in shares.items():
            if share is not None and needs[name] > share * total:
                own = int(share * total)
                text = (
                    f"`{name}` needs {_gib(needs[name])}, and its share {share:g} of "
                    f"`{address}` is {_gib(own)}"
                )
                yield Violation(Constraint.MEMORY, name, "", needs[name], own, text)
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
    taken: dict[str, dict[str, int]] = {name: {} for name in declared}
    for name, server in sorted(view.servers.items()):
        if server.host in declared and server.flags is not None and server.devices:
            listed = {item.adapter for item in view.accounts[name].residents}
            listed |= view.foreign.get(name, frozenset())
            versions = view.fleet.versions
            largest = max((versions[own].bytes for own in listed if own in versions), default=0)
            copies = server.flags.max_cpu_loras * server.flags.tensor_parallel
            taken[server.host][name] = copies * largest
    for host, limit in declared.items():
        total = sum(taken[host].values())
        if total > limit:
            texts = ", ".join(f"`{name}` {_gib(need)}" for name, need in taken[host].items())
            text = (
                f"host `{host}` declares {_gib(limit)} for listed adapters, and "
                f"its servers may list {_gib(total)}: {texts}"
            )
            yield Violation(Constraint.HOST_MEMORY, host, "", total, limit, text)


def ports(view: PlacementView) -> Iterator[Violation]:
    """Find servers of a host on the same port."""
    taken: dict[tuple[str, int], str] = {}
    for name, server in sorted(view.servers.items()):
        if server.devices:
            other = taken.setdefault((server.host, server.port), name)
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
