"""A fleet in memory: carries out plans step by step and insists on the rules at each step."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

from fleet.codec import plain
from fleet.history.events import Entry, event_of
from fleet.history.fold import fold_entries
from fleet.history.values import History
from fleet.names import Address, adapter_address, alias_of, route_address, server_of_address
from fleet.plan import Plan
from fleet.planning.pipeline import make_plan
from fleet.resources import LoadedAdapter, Resource, Route, Server, State
from fleet.spec import FleetSpec
from fleet.steps import (
    DeleteKey,
    DeleteRoute,
    Drain,
    LoadAdapter,
    SetKey,
    SetRoute,
    SmokeTest,
    StartServer,
    Step,
    StopServer,
    UnloadAdapter,
)
from fleet.vllm.lora_slots import USABLE
from tests.fleet.planning.raised_pairs import raised_over


class World:
    """Live resources, the ledger and the clock."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.resources: dict[Address, Resource] = {}
        self.silent: dict[str, str] = {}
        self.entries: list[Entry] = []
        self.launches: Counter[str] = Counter()  # by server: starts by others
        self.routes_before: dict[str, Route] = {}  # as the apply met them
        self.passed: set[Address] = set()
        """Adapters that were asked since they were loaded, in the process that runs."""
        self.waiting: frozenset[str] = frozenset()
        """Aliases without slots of their own: their versions wait in host memory."""
        self.fleet: FleetSpec | None = None  # as planned for last
        self.largest: dict[str, int] = {}
        """By server: the bytes of the largest version that it has listed in an apply."""
        self.before: dict[str, int] = {}
        """By host that declares its memory: what its servers might list before an apply."""
        self.watch: Callable[[Step], None] = lambda _: None

    def live(self) -> State:
        """Return what can be observed: nothing of servers that are silent."""
        seen = {
            address: each
            for address, each in self.resources.items()
            if not (isinstance(each, Server) and each.name in self.silent)
            and not (isinstance(each, LoadedAdapter) and each.server in self.silent)
        }
        servers = [each for each in self.resources.values() if isinstance(each, Server)]
        ports = {each.name: each.port for each in servers if each.name in self.silent}
        launches = self._launches(seen)
        return State(seen, dict(self.silent), ports, launches=launches)

    def _launches(self, seen: Mapping[Address, Resource]) -> dict[str, str]:
        names = [each.name for each in seen.values() if isinstance(each, Server)]
        return {name: f"launch-{self.launches[name]}" for name in names}

    def relaunch(self, server: str) -> None:
        """Let others start a server anew, with all that it had."""
        self.launches[server] += 1
        self.passed = {each for each in self.passed if server_of_address(each) != server}

    def history(self) -> History:
        return fold_entries(self.entries)

    def plan(self, fleet: FleetSpec) -> Plan:
        cached = [each.alias for each in fleet.adapters.values() if each.residency == "cached"]
        self.waiting = frozenset(cached)
        self.fleet = fleet
        return make_plan(fleet, self.live(), self.history(), self.now)

    def apply(
        self,
        plan: Plan,
        *,
        backwards: bool = False,
        chance: Random | None = None,
        most: int | None = None,
    ) -> None:
        """Carry out the steps as listed, or each time the last one that may run, or any.

        Running backwards shows what `needs` leaves out and the listing happens to get right.
        `most`: of the steps, as if the apply was killed then. `watch` is called after each.
        """
        done: set[str] = set()
        drained: set[Address] = set()
        self.largest.clear()
        self.routes_before = self.live().routes()
        for each in self.live().adapters().values():
            self._keep(each)
        self.before = {name: self._listed_on(name) for name in self._memory()}
        assert len({each.id for each in plan.steps}) == len(plan.steps)
        left = list(plan.steps)
        while left and len(done) != most:
            step = left[0]
            if backwards:
                step = next(each for each in reversed(left) if done.issuperset(each.needs))
            if chance is not None:
                step = chance.choice([each for each in left if done.issuperset(each.needs)])
            left.remove(step)
            assert set(step.needs) <= done, step
            self._record("step_started", step)
            self._run(step, plan, drained)
            self._record("step_finished", step)
            done.add(step.id)
            self.watch(step)

    def lose(self, server: str, *, process: bool) -> None:
        """Take a server's adapters away, as a restart does, or the server too."""
        self.passed = {each for each in self.passed if server_of_address(each) != server}
        for address, each in list(self.resources.items()):
            gone = isinstance(each, LoadedAdapter) and each.server == server
            if gone or (process and isinstance(each, Server) and each.name == server):
                del self.resources[address]

    def roll_back(self, alias: str) -> bool:
        """Give all traffic to the next older resident version, as `fleetctl rollback` does."""
        route = self.resources.get(route_address(alias))
        if not isinstance(route, Route) or len(route.shares) == 1:
            return False
        newest = next(each for each in route.shares if each.percent)
        others = [each for each in route.shares if each is not newest]
        to = next((each for each in others if each.percent), others[0])
        shares = tuple(replace(each, percent=100 if each is to else 0) for each in route.shares)
        self.resources[route.address] = replace(route, shares=shares)
        data = {"alias": alias, "adapter": newest.adapter, "to": to.adapter, "reason": "test"}
        self._append("rolled_back", data)
        return True

    def release(self, alias: str) -> None:
        route = self.resources.get(route_address(alias))
        self._append("released", {"alias": alias, "route": plain(route) if route else None})

    def pass_time(self, span: timedelta) -> None:
        self.now += span

    def _append(self, kind: str, data: Mapping[str, object]) -> None:
        self.entries.append(
            Entry(len(self.entries) + 1, self.now, event_of(kind, data), "run", "test", 1, "", "")
        )

    def _record(self, kind: str, step: Step) -> None:
        operation = plain(step.operation)
        data = {"step": step.id, "address": step.address, "operation": operation, "how": "done"}
        if kind == "step_finished" and isinstance(step.operation, SmokeTest):
            data["launch"] = f"launch-{self.launches[step.lane]}"
        self._append(kind, data)

    def _run(self, step: Step, plan: Plan, drained: set[Address]) -> None:  # noqa: C901 (a case each)
        there = self.resources.get(step.address)
        assert there == step.before, f"{step.id}: {there} is not {step.before}"
        match step.operation:
            case StartServer(server):
                assert self._on_device(server) <= self._sharing(server)
                self.resources[server.address] = server
            case StopServer(server):
                self._check_stop(server, plan)
                self.lose(server.name, process=True)
                self.largest.pop(server.name, None)
            case LoadAdapter(adapter):
                server = self._server(adapter.server)
                assert adapter.adapter.split("-")[2] == server.base
                self.resources[adapter.address] = adapter
                self.passed.discard(adapter.address)
                self._check_slots(server)
                self._keep(adapter)
                self._check_memory(server.host, step)
            case SmokeTest(adapter, _):
                assert adapter.address in self.resources
                self.passed.add(adapter.address)
            case SetRoute(route):
                self._check_route(route, suspends=step.id.startswith("divert"))
                self.resources[route.address] = route
            case DeleteRoute(route):
                del self.resources[route.address]
            case SetKey(key):
                self.resources[key.address] = key
            case DeleteKey(key):
                del self.resources[key.address]
            case Drain(adapter, _):
                drained.add(adapter.address)
            case UnloadAdapter(adapter):
                assert adapter.address in drained
                assert not self._serves(adapter.adapter, adapter.server), step.id
                del self.resources[adapter.address]

    def _server(self, name: str) -> Server:
        server = self.resources[Address(f"server/{name}")]
        assert isinstance(server, Server)
        return server

    def _check_slots(self, server: Server) -> None:
        assert server.flags is not None
        held = [
            each
            for each in self.resources.values()
            if isinstance(each, LoadedAdapter) and each.server == server.name
        ]
        pinned = [each for each in held if alias_of(each.adapter) not in self.waiting]
        kept_empty = 1 if server.devices[0].startswith("cpu") else 0
        assert len(pinned) + kept_empty <= server.flags.max_loras
        assert len(held) <= server.flags.max_cpu_loras

    def _keep(self, adapter: LoadedAdapter) -> None:
        """Note that a server has a version's weights in its host's memory, until it stops."""
        facts = self.fleet.versions.get(adapter.adapter) if self.fleet else None
        known = self.largest.get(adapter.server, 0)
        self.largest[adapter.server] = max(known, facts.bytes if facts else 0)

    def _memory(self) -> dict[str, int]:
        hosts = self.fleet.hosts.values() if self.fleet else ()
        return {each.name: each.memory_bytes for each in hosts if each.memory_bytes is not None}

    def _listed_on(self, host: str) -> int:
        return sum(
            each.flags.max_cpu_loras * len(each.devices) * self.largest.get(each.name, 0)
            for each in self.resources.values()
            if isinstance(each, Server) and each.host == host and each.flags
            if each.name not in self.silent
        )

    def _check_memory(self, host: str, step: Step) -> None:
        """At every step, what servers may list fits in their host, or is no more than it was."""
        limit = self._memory().get(host)
        taken = self._listed_on(host)
        assert limit is None or taken <= max(limit, self.before[host]), (step.id, taken, limit)

    def _check_route(self, route: Route, *, suspends: bool) -> None:
        assert sum(each.percent for each in route.shares) == 100
        for pair in raised_over(route, self.live().routes(), self.routes_before):
            assert adapter_address(*pair) in self.passed, f"{pair} has passed no smoke test"
        for share in route.shares:
            assert suspends or share.servers
            for server in share.servers:
                known = server not in self.silent
                address = Address(f"adapter/{share.adapter}@{server}")
                assert not known or address in self.resources, (route, address)

    def _check_stop(self, server: Server, plan: Plan) -> None:
        restarts = any(
            isinstance(each.after, Server) and each.after.name == server.name
            for each in plan.changes
        )
        interrupted = {each.alias for each in plan.impacts if each.interrupted}
        for each in self.resources.values():
            if isinstance(each, LoadedAdapter) and each.server == server.name:
                assert restarts, f"{server.name} stops with {each.adapter} on it"
            if isinstance(each, Route) and each.alias not in interrupted:
                for share in each.shares:
                    there = Address(f"adapter/{share.adapter}@{server.name}") in self.resources
                    assert not (there and share.percent and server.name in share.servers), each

    def _serves(self, adapter: str, server: str) -> bool:
        return any(
            share.adapter == adapter and share.percent > 0 and server in share.servers
            for each in self.resources.values()
            if isinstance(each, Route)
            for share in each.shares
        )

    def _on_device(self, server: Server) -> set[str]:
        return {
            each.name
            for each in self.resources.values()
            if isinstance(each, Server)
            and (each.host, each.devices) == (server.host, server.devices)
        }

    def _sharing(self, server: Server) -> set[str]:
        """Return servers that may be on the same device: none beside one that takes it whole."""
        if _takes_all(server):
            return set()
        return {
            each.name
            for each in self.resources.values()
            if isinstance(each, Server)
            and each.name != server.name
            and each.port != server.port
            and not _takes_all(each)
        }


def _takes_all(server: Server) -> bool:
    """Say whether a server's KV cache takes all that a device has left."""
    assert server.flags is not None
    return server.flags.kv_cache_bytes is None and server.flags.memory_share == USABLE
