"""Checks of what servers and devices hold and carry: flags, slots, memory, ports, load."""

from collections import defaultdict
from collections.abc import Iterator
from math import ceil, sqrt

from fleet.capacity import HOURS
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
        base, found = view.fleet.bases.get(server.base), server.flags
        if found is None or base is None or not server.devices:
            continue
        known = [view.device(server.host, device) for device in server.devices]
        if view.host(server) is None or None in known:
            continue  # on its way out: nothing is placed on it, see `servers`
        kinds = {device.kind for device in known if device is not None}
        runs = live.get(name) == server  # whatever its devices are called today
        for what, is_so in (
            (
                f"tensor_parallel {found.tensor_parallel} on {len(server.devices)} devices",
                found.tensor_parallel != len(set(server.devices)),
            ),
            (f"devices of kinds {', '.join(sorted(kinds))}", len(kinds) > 1 and not runs),
            (
                f"tensor_parallel {found.tensor_parallel}, declared {base.tensor_parallel}",
                base.tensor_parallel not in (None, found.tensor_parallel),
            ),
            (
                f"max_loras {found.max_loras}, declared {base.slots}",
                base.slots not in (None, found.max_loras),
            ),
            (
                f"max_lora_rank {found.max_lora_rank}, declared {base.max_lora_rank}",
                base.max_lora_rank not in (None, found.max_lora_rank),
            ),
            (
                "another digest than that of its flags",
                server.digest not in (None, found.digest_like(server.digest)),
            ),
        ):
            if is_so:
                yield Violation(Constraint.FLAGS, name, "", 1, 0, f"`{name}` has {what}")


def ranks(view: PlacementView) -> Iterator[Violation]:
    """Find versions whose rank is above their server's."""
    for name, account in view.accounts.items():
        for item in account.residents:
            if 0 < account.rank < item.rank:
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
        found = view.servers[name].flags
        if found is not None and listed > found.max_cpu_loras:
            text = f"`{name}` lists {listed} versions with max_cpu_loras {found.max_cpu_loras}"
            yield Violation(Constraint.CPU_CACHE, name, "", listed, found.max_cpu_loras, text)


def slots_for(waiting: list[AdapterAccount]) -> int:
    """Return the slots that cached adapters share, by the hour in which most are active.

    The number active at a time is a sum of independent events: mean plus `QUANTILE` deviations.
    """
    most = 0
    for hour in range(HOURS):
        busy = [item.load.concurrency[hour] for item in waiting]
        bound = sum(busy) + QUANTILE * sqrt(sum(share * (1 - share) for share in busy))
        most = max(most, ceil(bound - SLACK))
    return max(min(most, len(waiting)), 1) if waiting else 0


def memory(view: PlacementView) -> Iterator[Violation]:
    """Find devices whose servers need more bytes, or larger shares, than there are."""
    for (host, device), servers in sorted(view.on_device.items()):
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
        for server in servers:
            share = server.flags.memory_share if server.flags else None
            if share is not None and needs[server.name] > share * total:
                own = int(share * total)
                text = (
                    f"`{server.name}` needs {_gib(needs[server.name])}, and its share {share:g} of "
                    f"`{address}` is {_gib(own)}"
                )
                yield Violation(Constraint.MEMORY, server.name, "", needs[server.name], own, text)
        yield from _shares(view, address, servers, needs, total)


def _shares(
    view: PlacementView, address: str, servers: list[Server], needs: dict[str, int], total: int
) -> Iterator[Violation]:
    """Find shares of a device that add up to more than it; bytes count as the share they are."""
    shares = [
        needs[server.name] / total
        if server.flags is None or server.flags.memory_share is None
        else server.flags.memory_share
        for server in servers
    ]
    if sum(shares) > 1 + SLACK:
        text = f"servers on `{address}` take {sum(shares):.2f} of its memory"
        yield Violation(Constraint.SHARES, address, "", sum(shares), 1, text)
    shared = [
        server for server in servers if server.flags and server.flags.memory_share is not None
    ]
    if shared and len(servers) > 1 and not view.fleet.policy.share_devices:
        names = ", ".join(f"`{server.name}`" for server in servers)
        text = f"{names} share `{address}`, and devices are not to be divided"
        yield Violation(Constraint.SHARES, address, "", len(servers), 1, text)


def least_bytes(view: PlacementView, account: ServerAccount) -> int:
    """Return what a server needs on each device; what is not known counts as nothing."""
    flags = view.servers[account.server].flags
    base = view.fleet.bases.get(account.base)
    if base is None or flags is None:
        return 0
    least = least_kv_bytes(base, flags.tensor_parallel) if base.shape else base.kv_cache_bytes or 0
    parts = (account.weights_bytes, account.slot_bytes, account.reserve_bytes, least)
    return sum(part or 0 for part in parts)


def host_memory(view: PlacementView) -> Iterator[Violation]:
    """Find hosts whose servers may list more than the memory that they declare for it."""
    taken: dict[str, dict[str, int]] = defaultdict(dict)
    hosts = view.fleet.hosts
    for name, server in view.servers.items():
        limited = server.host in hosts and hosts[server.host].memory_bytes is not None
        if limited and server.flags is not None and server.devices:
            held = {*(item.adapter for item in view.accounts[name].residents)}
            held |= view.foreign.get(name, frozenset())
            known = [found.bytes for one in held if (found := view.fleet.versions.get(one))]
            copies = server.flags.max_cpu_loras * server.flags.tensor_parallel
            taken[server.host][name] = copies * max(known, default=0)
    for host, needs in sorted(taken.items()):
        declared = view.fleet.hosts.get(host)
        total = sum(needs.values())
        if declared and declared.memory_bytes is not None and total > declared.memory_bytes:
            listed = ", ".join(f"`{name}` {_gib(need)}" for name, need in sorted(needs.items()))
            text = (
                f"host `{host}` declares {_gib(declared.memory_bytes)} for listed adapters, and "
                f"its servers may list {_gib(total)}: {listed}"
            )
            limit = declared.memory_bytes
            yield Violation(Constraint.HOST_MEMORY, host, "", total, limit, text)


def ports(view: PlacementView) -> Iterator[Violation]:
    """Find servers of one host on one port."""
    taken: dict[tuple[str, int], str] = {}
    for name, server in sorted(view.servers.items()):
        if server.devices:
            other = taken.setdefault((server.host, server.port), name)
            if other != name:
                text = f"`{other}` and `{name}` are both on port {server.port} of `{server.host}`"
                yield Violation(Constraint.PORT, name, "", 2, 1, text)


def loads(view: PlacementView) -> Iterator[Violation]:
    """Find hours in which a server is asked for more than it may carry."""
    for name, account in view.accounts.items():
        over: dict[int, float] = defaultdict(float)
        for hour in range(HOURS):
            if account.load[hour] > account.limit[hour] * (1 + SLACK):
                over[hour] = account.load[hour]
        for hour, load in over.items():
            limit = account.limit[hour]
            text = (
                f"`{name}` is asked for {load:.0f} tokens/s at {hour:02d}:00 UTC, and may carry "
                f"{limit:.0f} with {account.active[hour]:.1f} adapters active"
            )
            yield Violation(Constraint.LOAD, name, "", load, limit, text, hour)


def _gib(amount: int) -> str:
    return f"{amount / (1 << 30):.1f} GiB"
