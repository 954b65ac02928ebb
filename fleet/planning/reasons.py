"""Give every change its reason: from a closed list, with a sentence and the declaring line."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from fleet.codes import diagnostic
from fleet.errors import Diagnostic
from fleet.history import MAY_ANSWER_OTHER_BYTES, History
from fleet.names import (
    AdapterName,
    adapter_address,
    alias_of,
    alias_parts,
    base_of,
    server_address,
    version_of,
)
from fleet.plan import Action, Change, Reason
from fleet.planning.desired import PlanInput
from fleet.resources import FULL, Key, LoadedAdapter, Resource, Route, Server, State
from fleet.rollouts import AliasTarget, Phase, UpgradeStage, applied_route
from fleet.spec import FleetSpec


@dataclass(frozen=True, slots=True)
class KnownBytes:
    """The bytes under the name of a version."""

    digests: AbstractSet[str]
    witness: str
    """Subject and verb of a sentence, such as `the ledger has`."""


def known_bytes(history: History, live: State) -> dict[str, KnownBytes]:
    """Return the bytes with which versions are loaded or have served, by full name.

    The ledger comes first: what servers list beside it may have been loaded by hand.
    """
    listed = _loaded(live.resources.values())
    recorded = _loaded(history.established.values())
    for name, digest in history.served.items():
        recorded[name].add(digest)
    return {
        **{name: KnownBytes(digests, "a server lists") for name, digests in listed.items()},
        **{name: KnownBytes(digests, "the ledger has") for name, digests in recorded.items()},
    }


def _loaded(resources: Iterable[Resource]) -> defaultdict[str, set[str]]:
    digests = defaultdict[str, set[str]](set)
    for loaded in resources:
        if isinstance(loaded, LoadedAdapter) and loaded.digest:
            digests[loaded.adapter].add(loaded.digest)
    return digests


def with_served_bytes(
    fleet: FleetSpec, history: History, live: State
) -> tuple[FleetSpec, Mapping[str, Diagnostic]]:
    """Return a fleet in which versions keep their bytes, and the problems by version."""
    served = known_bytes(history, live)
    changed = {
        name: served[name]
        for name in sorted({*_named(fleet, live)} & served.keys() & fleet.versions.keys())
        if fleet.versions[name].digest not in served[name].digests
    }
    problems = {
        name: changed_bytes(
            fleet, name, fleet.versions[name].digest, f"{was.witness} {min(was.digests)[:12]}"
        )
        for name, was in changed.items()
    }
    before = {
        name: replace(fleet.versions[name], digest=min(was.digests))
        for name, was in changed.items()
    }
    return replace(fleet, versions={**fleet.versions, **before}), problems


def _named(fleet: FleetSpec, live: State) -> Iterator[str]:
    """Yield the versions that are declared, or stand on the route of a declared alias.

    Without clients that are set aside, which keep the bytes that are live.
    """
    adapters = {
        alias: str(adapter.name)
        for alias, adapter in fleet.adapters.items()
        if adapter.name.client not in fleet.set_aside
    }
    yield from adapters.values()
    for alias, route in live.routes().items():
        if alias in adapters:
            yield from (share.adapter for share in route.shares)


def changed_bytes(fleet: FleetSpec, full_name: str, pinned: str, served: str) -> Diagnostic:
    """Return the problem of a version with other bytes; `served`: who knows which, as a clause."""
    name = AdapterName.parse(full_name)
    place = fleet.declared_at("clients", name.client, "adapters", name.task, "version")
    version = replace(name.version, patch=name.version.patch + 1)
    detail = (
        f"fleet.lock pins `{name}` to digest {pinned[:12]}, and {served}. The bytes of a version "
        "never change under its name: the old bytes would be no way back any more, and what gates "
        "found out about them would count for others."
    )
    hint = (
        "Take back its line in fleet.lock and its folder in the library. The new bytes are a "
        "version of their own:"
    )
    command = f"fleetctl adapter add PATH --as {replace(name, version=version)}"
    problem = diagnostic("FC1281", detail, place, hint=hint, command=command)
    return replace(problem, subjects=(name.client,))


def reasons_of(changes: Iterable[Change], plan_input: PlanInput) -> tuple[Change, ...]:
    """Add to every change its reason, a sentence and its origin."""
    reasons = _Reasons(plan_input)
    return tuple(reasons.explained(change) for change in changes)


class _Reasons:
    """Explain changes from the input and the first stages of the plan."""

    def __init__(self, plan_input: PlanInput) -> None:
        self.fleet, self.live, self.history = plan_input.fleet, plan_input.live, plan_input.history
        self.targets, self.placement = plan_input.targets, plan_input.placement
        self.upgraded = {
            name
            for upgrade in self.placement.upgrades
            for name in (*upgrade.hidden, *upgrade.old, upgrade.canary)
        }
        stages = {upgrade.base: upgrade.stage for upgrade in self.placement.upgrades}
        self.moving = {base for base, at in stages.items() if at is UpgradeStage.MOVING}
        self.beside = {
            name
            for adapter, servers in self.placement.beside.items()
            for server in servers
            for name in (server, adapter_address(adapter, server))
        }
        """Servers of upgrades without traffic, and the addresses of adapters there."""
        self.known_bytes = known_bytes(plan_input.history, plan_input.live)
        self.former = frozenset(plan_input.fleet.renames.values())
        self.resident = {
            version for target in plan_input.targets.wanted.values() for version, _ in target.shares
        }

    def explained(self, change: Change) -> Change:
        upgraded = self._upgraded(change)
        match change.after or change.before:
            case Server() as server:
                reason, why = upgraded or self._server(change, server)
                origin = self.fleet.origin("bases", server.base)
            case LoadedAdapter() as adapter:
                reason, why = upgraded or self._adapter(change, adapter)
                origin = self._origin(alias_of(adapter.adapter))
            case Route() as route:
                reason, why = self._route(change, route)
                origin = self._origin(route.alias)
            case Key() as key:
                reason, why = self._key(change, key)
                origin = self.fleet.origin("clients", key.client, "keys", key.name)
            case None:
                return change
        is_declared = reason is not Reason.REMOVED
        return replace(change, reason=reason, why=why, origin=origin if is_declared else "")

    def _upgraded(self, change: Change) -> tuple[Reason, str] | None:
        """Return the reason of a change on a server of an upgrade; None: the usual reasons hold."""
        is_removed, comes, why = change.action is Action.DELETE, change.action is Action.CREATE, ""
        match change.resources[-1]:
            case Server(name=name, base=base) if is_removed and name in self.upgraded:
                why = f"base `{base}` is served without the server now"
            case Server(name=name, base=base) if name in self.beside:
                why = f"canary of the upgrade of base `{base}`"
            case Server(base=base) if comes and base in self.moving:
                why = f"the next server of the upgrade of base `{base}`"
            case LoadedAdapter(server=server) if is_removed and server in self.upgraded:
                why = "its server is part of an upgrade"
            case LoadedAdapter() as adapter if adapter.address in self.beside:
                why = "it stands on the canary before any request goes there"
            case LoadedAdapter(adapter=adapter) if comes and base_of(adapter) in self.moving:
                why = "its old server is upgraded" if self.targets.loaded.get(adapter) else ""
        return (Reason.UPGRADE, why) if why else None

    def _origin(self, alias: str) -> str:
        if alias not in self.fleet.adapters:
            return ""
        client, task = alias_parts(alias)
        return self.fleet.origin("clients", client, "adapters", task, "version")

    def _server(self, change: Change, server: Server) -> tuple[Reason, str]:
        why = self.placement.server_why.get(server.name, "")
        match change.action:
            case Action.CREATE:
                if server.address in self.history.owned or server.name in self.history.boots:
                    return Reason.MISSING, "it was started before and is gone"
                return Reason.DECLARED, f"base `{server.base}` needs it: {why}"
            case Action.DELETE:
                if server.base not in self.fleet.bases:
                    return Reason.REMOVED, f"base `{server.base}` is no longer declared"
                declared = self.fleet.hosts.get(server.host)
                devices = {device.name for device in declared.devices} if declared else set()
                if server.host in self.fleet.removed or not devices.issuperset(server.devices):
                    part = "host" if server.host in self.fleet.removed else "device"
                    return Reason.REMOVED, f"its {part} is no longer declared"
                return Reason.SERVER_EMPTY, "no version is placed on it any more"
            case Action.REPLACE | Action.UPDATE | Action.MOVE:
                fields = ", ".join(name for name, _, _ in change.details)
                return Reason.FLAGS_CHANGED, why or f"flags differ: {fields}"

    def _adapter(self, change: Change, adapter: LoadedAdapter) -> tuple[Reason, str]:
        alias, version = alias_of(adapter.adapter), version_of(adapter.adapter)
        match change.action:
            case Action.CREATE:
                return self._created(adapter, alias, version)
            case Action.DELETE:
                return self._deleted(adapter, alias, version)
            case Action.MOVE:
                why = self.placement.why.get(adapter.address, "its old place is no longer valid")
                return Reason.REPLICA_MOVED, why
            case Action.UPDATE | Action.REPLACE:
                before = change.before
                if isinstance(before, LoadedAdapter) and before.unsure:
                    return Reason.WRONG_SOURCE, MAY_ANSWER_OTHER_BYTES
                if adapter.adapter not in self.known_bytes:
                    return Reason.UNKNOWN_BYTES, "nothing knows the bytes that it is loaded from"
                return Reason.WRONG_SOURCE, "it is loaded from other bytes than fleet.lock pins"

    def _created(self, adapter: LoadedAdapter, alias: str, version: str) -> tuple[Reason, str]:
        name, server = adapter.adapter, adapter.server
        routed = server in self.targets.routed.get(name, ())
        if adapter.address in self.history.owned or routed:
            is_missing = server_address(server) not in self.live.resources
            why = "its server is gone" if is_missing else "the server was restarted and has lost it"
            return Reason.MISSING, why
        where = self.placement.why.get(adapter.address, "")
        moved = self._moved(name)
        if moved and self.targets.loaded.get(name):
            return Reason.REPLICA_MOVED, f"{moved}; {where}" if where else moved
        if alias in self.fleet.renames:
            return Reason.RENAMED, f"`{self.fleet.renames[alias]}` is now called `{alias}`"
        target = self.targets.wanted[alias]
        if target.phase in _BEGUN and name == target.target:
            return Reason.ROLLOUT_STARTED, f"{version} is declared; {where}"
        return Reason.DECLARED, where

    def _moved(self, adapter: str) -> str:
        """Return why a version leaves a server for another; empty: it does not."""
        return self.placement.forced.get(adapter) or self.placement.optional.get(adapter) or ""

    def _deleted(  # noqa: PLR0911 (a line for every cause)
        self, adapter: LoadedAdapter, alias: str, version: str
    ) -> tuple[Reason, str]:
        if alias in self.former and alias not in self.fleet.adapters:
            return Reason.RENAMED, "its alias has a new name"
        if alias not in self.fleet.adapters:
            return Reason.REMOVED, f"`{alias}` is no longer declared"
        if adapter.adapter in self.resident:
            if moved := self._moved(adapter.adapter):
                return Reason.REPLICA_MOVED, moved
            return Reason.DECLARED, "it has more replicas than it needs"
        if adapter.adapter in self.history.holds.get(alias, {}):
            return Reason.RETENTION_ENDED, f"{version} was rolled back and its retention is over"
        if adapter.adapter in self.history.cutovers:
            return Reason.RETENTION_ENDED, f"{version} was replaced and its retention is over"
        return Reason.REMOVED, f"no route of `{alias}` names {version}"

    def _route(  # noqa: PLR0911 (a line for every cause)
        self, change: Change, route: Route
    ) -> tuple[Reason, str]:
        alias = route.alias
        target = self.targets.wanted.get(alias)
        match change.action:
            case Action.CREATE if former := self.fleet.renames.get(alias):
                return Reason.RENAMED, f"`{former}` is now called `{alias}`"
            case Action.CREATE if route.address in self.history.owned:
                return Reason.MISSING, "the gateways' table has lost it"
            case Action.CREATE:
                return Reason.DECLARED, target.why if target else ""
            case Action.DELETE if alias in self.former:
                return Reason.RENAMED, "the alias has a new name"
            case Action.DELETE:
                return Reason.REMOVED, f"`{alias}` is no longer declared"
            case Action.UPDATE | Action.REPLACE | Action.MOVE:
                if target is None:
                    return change.reason, ""
                before = change.before
                if isinstance(before, Route) and applied_route(self.history, before):
                    now = f"others made it {before.split}"
                    why = f"the live route is not the one that was applied: {now}"
                    return Reason.EDITED_LIVE, f"{why}; {target.why}".removesuffix("; ")
                return _shifted(change, target.phase, target.why + self._ungated(target))

    def _ungated(self, target: AliasTarget) -> str:
        """Return a remark where no gate judges a version that goes up by time."""
        rollout = self.fleet.rollouts[self.fleet.adapters[target.alias].rollout]
        staged = target.phase is Phase.STARTED and dict(target.shares)[target.target] < FULL
        return "; no gates: it goes up by time alone" if staged and not rollout.gates else ""

    def _key(self, change: Change, key: Key) -> tuple[Reason, str]:
        match change.action:
            case Action.CREATE if key.address in self.history.owned:
                return Reason.MISSING, "the gateways' table has lost it"
            case Action.CREATE:
                return Reason.DECLARED, f"`{key.client}` gets it"
            case Action.DELETE:
                return Reason.REMOVED, "it is no longer declared"
            case Action.UPDATE | Action.REPLACE | Action.MOVE:
                return Reason.ROTATED, "its secret or its reference changed"


def _shifted(change: Change, phase: Phase, why: str) -> tuple[Reason, str]:
    before, after = change.before, change.after
    if not isinstance(before, Route) or not isinstance(after, Route):
        return change.reason, why
    old = {share.adapter: share.percent for share in before.shares if share.percent}
    new = {share.adapter: share.percent for share in after.shares if share.percent}
    if old != new:
        return _PHASES.get(phase, Reason.DECLARED), why
    stay = {share.adapter for share in after.shares}
    lost = [version_of(share.adapter) for share in before.shares if share.adapter not in stay]
    if phase is Phase.EVALUATING and not stay <= {share.adapter for share in before.shares}:
        return Reason.ROLLOUT_STARTED, why
    if lost:
        return Reason.RETENTION_ENDED, f"{', '.join(lost)} is no longer kept loaded"
    if before.shares == after.shares and before.policy != after.policy:
        return Reason.DECLARED, "what is declared about its traffic changed"
    return Reason.REPLICA_MOVED, "the servers that hold its versions change"


_BEGUN = (Phase.STARTED, Phase.EVALUATING, Phase.UNDECIDED, Phase.PAUSED, Phase.DOUBTED)
_PHASES = {
    Phase.STARTED: Reason.ROLLOUT_STARTED,
    Phase.ADVANCED: Reason.ROLLOUT_ADVANCED,
    Phase.HELD: Reason.ROLLED_BACK,
    Phase.ROLLED_BACK: Reason.ROLLED_BACK,
}
