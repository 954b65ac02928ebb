"""First fit: keep what is valid, then put each version on the first server with room.

Versions are taken by rank, largest first, so that a server's rank is settled by its first one.
Servers with room come first, then free devices by price, then spare slots, then a restart with
more slots. Work grows with the number of versions plus servers, not with their product.
"""

from collections import defaultdict
from collections.abc import Callable

from fleet.budget import rank_rung
from fleet.declared import Device, Fleet, Host
from fleet.errors import PlacementError
from fleet.names import Address, adapter_address
from fleet.pace import Paced
from fleet.placement.bins import SPARE, Bin, Item, Memory
from fleet.placement.figures import device_use, is_tight, slot_warnings
from fleet.placement.flags import server_of
from fleet.placement.infeasible import diagnose, silent_servers
from fleet.placement.outcome import Placement
from fleet.placement.survey import items_of, open_live
from fleet.resources import Server, State

Pool = dict[str, Bin]
MORE_ROOM = "the server restarts with more room"


def place(fleet: Fleet, wanted: Paced, live: State) -> Placement:
    """Decide where every wanted version goes.

    Invariants: a version that is loaded in a valid place stays there; no server gets more
    versions than slots, nor a device more bytes than it has; replicas are on distinct devices;
    on servers that do not answer nothing changes. The order of declarations does not matter.

    Raises:
        PlacementError: FC2001 to FC2005, each naming the constraint that binds.
    """
    return _FirstFit(fleet, wanted, live).run()


class _FirstFit:
    """One search."""

    def __init__(self, fleet: Fleet, wanted: Paced, live: State) -> None:
        self.fleet, self.wanted, self.live = fleet, wanted, live
        self.memory = Memory()
        self.devices = sorted(
            ((host, device) for host in fleet.hosts.values() for device in host.devices),
            key=lambda each: (each[1].price_per_hour, each[0].name, each[1].name),
        )
        self.places = {
            f"{base}-{host.name}-{device.name}": (base, host, device)
            for base in sorted(fleet.bases)
            for host, device in self.devices
        }
        self.bins = open_live(fleet, wanted, live, self.places, self.memory)
        self.bound: dict[str, list[str]] = defaultdict(list)
        self.why: dict[Address, str] = {}
        self.opened: dict[str, str] = {}
        self.unplaced: dict[str, str] = {}
        self.pools: dict[tuple[str, str, int], Pool] = {}
        """What a stage of the search may still try, by stage, base and rank."""
        self.untried: dict[tuple[str, int], dict[int, None]] = {}
        """Devices that may still take a new server, by base and rank."""

    def run(self) -> Placement:
        items = sorted(items_of(self.fleet, self.wanted, self.unplaced), key=_by_name)
        for item in items:
            self._keep(item)
        missing = [each for each in items if len(self.bound[each.adapter]) < each.replicas]
        self._close_empty({each.base for each in missing})
        failed = [each for each in sorted(missing, key=_by_rank) if not self._complete(each)]
        hopeless = []
        for item in failed:
            silent = silent_servers(self.fleet, self.live, item)
            if silent:
                self.unplaced[item.adapter] = (
                    f"{', '.join(silent)} does not answer, and no other server of `{item.base}` "
                    "has room"
                )
            else:
                hopeless.append(item)
        if hopeless:
            raise PlacementError(*diagnose(hopeless, self.fleet, self.bins, self.memory))
        return self._outcome()

    def _keep(self, item: Item) -> None:
        """Bind a version where it is, as far as that is still valid."""
        for name in item.prior:
            if len(self.bound[item.adapter]) >= item.replicas:
                return
            if name in self.live.unknown_servers:
                self.bound[item.adapter].append(name)
                continue
            bin_ = self.bins.get(name) or self._reopen(name, item)
            if bin_ is None or bin_.base.name != item.base or not self._admits(bin_, item):
                continue
            fits = item.adapter in bin_.names or (item.rank <= bin_.rank and bin_.has_room())
            if fits or (not bin_.fixed and self.memory.grow(bin_, item.rank, SPARE)):
                self._bind(item, bin_, "")

    def _reopen(self, name: str, item: Item) -> Bin | None:
        """Put back a server that is gone, where its device still takes it."""
        base, host, device = self.places.get(name, ("", None, None))
        if host is None or device is None or base != item.base:
            return None
        if item.pin not in (None, name, host.name):
            return None
        bin_ = self._open(host, device, item)
        if bin_ is not None:
            self.opened[name] = "it is gone, and its adapters belong on it"
        return bin_

    def _close_empty(self, needed: set[str]) -> None:
        """Give back the devices of servers that hold nothing and whose base needs no room."""
        for name, bin_ in list(self.bins.items()):
            idle = not bin_.held and not bin_.names
            if bin_.live and bin_.device and idle and bin_.base.name not in needed:
                self.memory.drop(bin_)
                del self.bins[name]

    def _complete(self, item: Item) -> bool:
        """Bind the replicas that a version still lacks; say whether all found a place.

        While a server of its base is silent, nothing is bought or restarted for a version: it
        may be back in a minute, with room.
        """
        waits = bool(self.live.unknown_servers and silent_servers(self.fleet, self.live, item))
        attempt = self._try
        while len(self.bound[item.adapter]) < item.replicas:
            placed = (
                attempt("room", item, self._has_room, "first server with a free slot")
                or (not waits and self._new_server(item))
                or attempt("spare", item, self._spare, "takes a slot kept spare for canaries")
                or (not waits and attempt("restart", item, self._restart, MORE_ROOM))
            )
            if not placed:
                return False
        return True

    def _try(self, stage: str, item: Item, works: Callable[[Bin, Item], bool], why: str) -> bool:
        """Bind to the first server where `works`; those where it does not are not tried again."""
        key = (stage, item.base, item.rank)
        if item.pin is not None:
            pool = self._ours(item)
        elif key in self.pools:
            pool = self.pools[key]
        else:
            pool = self.pools[key] = self._ours(item)
        useless, found = [], None
        for name, bin_ in pool.items():
            if not self._admits(bin_, item):
                continue
            if works(bin_, item):
                found = bin_
                break
            useless.append(name)
        for name in useless:
            del pool[name]
        if found is not None:
            self._bind(item, found, why)
        return found is not None

    def _ours(self, item: Item) -> Pool:
        """Return the servers of an item's base, those of the lowest sufficient rank first."""
        bins = [self.bins[item.pin]] if item.pin in self.bins else self.bins.values()
        ours = [each for each in bins if each.base.name == item.base]
        ranked = sorted(ours, key=lambda each: (each.rank < item.rank, each.rank, each.name))
        return {each.name: each for each in ranked}

    def _has_room(self, bin_: Bin, item: Item) -> bool:
        if item.rank > bin_.rank:
            return False
        if bin_.fixed:
            return bin_.has_room()
        return bin_.has_room(SPARE) or self.memory.grow(bin_, item.rank, SPARE)

    def _spare(self, bin_: Bin, item: Item) -> bool:
        return not bin_.fixed and self.memory.grow(bin_, item.rank, 0)

    def _restart(self, bin_: Bin, item: Item) -> bool:
        """Let a running server have more slots or rank, if its device has the memory."""
        had = f"{bin_.slots} slots of rank {bin_.rank}"
        if not any(self.memory.grow(bin_, item.rank, spare) for spare in (SPARE, 0)):
            return False
        if bin_.fixed:
            bin_.fixed = False
            bin_.names = set(bin_.residents)
            bin_.changed = (
                f"`{item.adapter}` of rank {item.rank} finds no room, and the server has {had}"
            )
            self._offer(bin_)
        return True

    def _new_server(self, item: Item) -> bool:
        """Open a server of the item's base on the cheapest device that takes it."""
        key = (item.base, rank_rung(item.rank) or 0)
        untried = self.untried.setdefault(key, dict.fromkeys(range(len(self.devices))))
        used = self._spots(item)
        for index in list(untried):
            host, device = self.devices[index]
            name = f"{item.base}-{host.name}-{device.name}"
            if name in self.bins or name in self.live.unknown_servers:
                del untried[index]
            elif (host.name, device.name) in used or item.pin not in (None, host.name, name):
                continue
            else:
                del untried[index]
                bin_ = self._open(host, device, item)
                if bin_ is not None:
                    spot = f"`{host.name}/{device.name}`"
                    self.opened[name] = f"{spot} is the cheapest free device that holds it"
                    self._bind(item, bin_, f"new server on {spot}, the cheapest that holds it")
                    self._offer(bin_)
                    return True
        return False

    def _open(self, host: Host, device: Device, item: Item) -> Bin | None:
        base = self.fleet.bases[item.base]
        name = f"{base.name}-{host.name}-{device.name}"
        bin_ = Bin(name, base, host.name, device, self.memory.port(host, device))
        if not any(self.memory.grow(bin_, item.rank, spare) for spare in (SPARE, 0)):
            return None
        self.bins[name] = bin_
        self.memory.put(bin_)
        return bin_

    def _offer(self, bin_: Bin) -> None:
        """Let later versions try a server that has just got room."""
        for (_, base, _), pool in self.pools.items():
            if base == bin_.base.name:
                pool[bin_.name] = bin_

    def _admits(self, bin_: Bin, item: Item) -> bool:
        """Say whether pin and distinct devices let a version onto a server."""
        if item.pin not in (None, bin_.name, bin_.host):
            return False
        return bin_.spot not in self._spots(item)

    def _spots(self, item: Item) -> set[tuple[str, str]]:
        """Return the devices that hold a replica already."""
        spots = set()
        for name in self.bound[item.adapter]:
            if name in self.bins:
                spots.add(self.bins[name].spot)
            elif name in self.places:
                _, host, device = self.places[name]
                spots.add((host.name, device.name))
        return spots

    def _bind(self, item: Item, bin_: Bin, why: str) -> None:
        bin_.add(item.adapter)
        self.bound[item.adapter].append(bin_.name)
        if why:
            pinned = f"pinned to `{item.pin}`; " if item.pin else ""
            self.why[adapter_address(item.adapter, bin_.name)] = pinned + why

    def _outcome(self) -> Placement:
        servers: dict[str, Server] = {}
        for name, bin_ in sorted(self.bins.items()):
            if bin_.residents or bin_.device is None:
                servers[name] = server_of(bin_)
                if bin_.live is not None and bin_.changed:
                    self.opened[name] = bin_.changed
            elif self._foreign(name) and bin_.live is not None:
                servers[name] = bin_.live
        listed: dict[str, set[str]] = defaultdict(set)
        for adapter, names in self.wanted.loaded.items():
            for each in names:
                listed[each].add(adapter)
        uses = tuple(
            device_use(self.bins[each], frozenset(listed[each]), self._foreign(each))
            for each in servers
        )
        return Placement(
            servers=servers,
            bindings={name: tuple(sorted(each)) for name, each in sorted(self.bound.items())},
            why=dict(sorted(self.why.items())),
            server_why=dict(sorted(self.opened.items())),
            capacity=uses,
            tight=frozenset(
                each for each in servers if is_tight(self.bins[each], frozenset(listed[each]))
            ),
            unplaced=dict(sorted(self.unplaced.items())),
            warnings=tuple(slot_warnings(uses)),
        )

    def _foreign(self, server: str) -> frozenset[str]:
        """Return what a server lists that is neither ours nor wanted."""
        names = self.bins[server].names - self.bins[server].residents
        ours = self.wanted.owned
        return frozenset(each for each in names if adapter_address(each, server) not in ours)


def _by_name(item: Item) -> str:
    return item.adapter


def _by_rank(item: Item) -> tuple[bool, int, str]:
    return (item.pin is None, -item.rank, item.adapter)
