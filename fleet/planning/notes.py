"""Collect the notes of a plan: parts held back, not observed, runs that died, warnings."""

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from datetime import UTC

from fleet.capacity import USER_DAYS
from fleet.codec import operation_result, plain
from fleet.gates import percent_text
from fleet.history import Adopted, History, LedgerEvent, Noted, StepFinished, settled
from fleet.names import (
    Address,
    adapter_address,
    adapter_of_address,
    alias_of,
    key_address,
    server_address,
    version_of,
)
from fleet.placement import ServerAccount, late
from fleet.plan import Change, PlanNote, Reason, RolloutAhead
from fleet.planning.desired import PlanInput, unmanaged, waits
from fleet.resources import FULL, Key, LoadedAdapter, Route, Server, State, outdated
from fleet.rollouts import RolloutTargets, is_diverted, may_be_rollback, stage_traffic
from fleet.spec import AdapterSpec, FleetSpec
from fleet.steps import LoadAdapter, SmokeTest, Step
from fleet.traffic import Sticky
from fleet.vllm import attached_faults, attached_unknowns, disagreements


def recovered(history: History, live: State) -> list[tuple[str, str, LedgerEvent]]:
    """Return the unfinished steps that can be decided: id, how each ended, and its event.

    `done`: the effect is there, so the step counts as finished. `undone`: the effect is not there,
    so the step never happened, and the plan brings it again if it is still wanted.
    """
    undecided = settled(history, live).unfinished
    recoveries: list[tuple[str, str, LedgerEvent]] = []
    for step, begun in history.unfinished.items():
        if step in undecided:
            continue
        changes, after = operation_result(begun.operation)
        if changes and live.resources.get(begun.address) == after:
            server = begun.address.removeprefix("server/")
            boot = live.boots.get(server, "") if after is not None else ""
            recoveries.append((step, "done", StepFinished(step, begun.address, "recovered", boot)))
        else:
            text = "begun by an earlier run, without effect"
            recoveries.append((step, "undone", Noted(text, step)))
    return recoveries


def forgotten(history: History, live: State) -> tuple[Address, ...]:
    """Return the addresses once established that are not live, where planning again finds nothing.

    No plan asks for these resources any more.
    """
    return tuple(sorted(filter(live.knows, history.established.keys() - live.resources.keys())))


def changed_by_others(
    changes: Iterable[Change], held_notes: Iterable[PlanNote], history: History, live: State
) -> tuple[Adopted, ...]:
    """Return the routes and keys that others made as they are declared now, to be written down.

    `changes` and `held_notes` are those of the whole plan of the live state: a part that is
    changed or held back is not as declared.
    """
    noted = {change.address for change in changes} | {note.subject for note in held_notes}
    notes = []
    for address, now in live.resources.items():
        before = history.established.get(address)
        if before is None or before == now or not isinstance(now, Route | Key) or address in noted:
            continue
        if isinstance(now, Route) and isinstance(before, Route):
            undone = may_be_rollback(before, now, history) or is_diverted(before, now)
            if undone or now.alias in noted:
                continue
        notes.append(Adopted(address, plain(now), ""))
    return tuple(notes)


SHOWN = 20
"""Upper bound of the aliases, or versions, that a warning names."""
FEW_USERS = 8
"""Lower bound of the expected users of a new version; below, a plan warns."""
LARGER = 25
"""First share that is proposed where traffic is little. Unit: percent."""
UNLIKELY = 0.5
"""Chance of a verdict in time below which a larger first share is proposed."""
GAIN = 0.05
"""Lower bound of the rise of that chance by the larger share."""


def rollout_warnings(
    fleet: FleetSpec,
    history: History,
    changes: Iterable[Change],
    rollouts: Mapping[str, RolloutAhead],
) -> Iterator[PlanNote]:
    """Yield the obstacles to judging the versions of a plan; `rollouts` by alias."""
    new = sorted(_new_aliases(changes) & fleet.adapters.keys())
    yield from _without_smoke(fleet, new)
    yield from _by_time_alone(fleet, new)
    for alias, ahead in rollouts.items():
        if ahead.begins:
            yield from _few_users(fleet.adapters[alias], ahead)
            yield from _too_little(fleet, history, alias, ahead)


def asked_first(steps: Iterable[Step]) -> Iterator[PlanNote]:
    """Yield a note on the versions that a plan asks again, although no step loads them."""
    listed = tuple(steps)
    loads = {step.address for step in listed if isinstance(step.operation, LoadAdapter)}
    tested = (step.address for step in listed if isinstance(step.operation, SmokeTest))
    if names := sorted({adapter_of_address(address) for address in tested if address not in loads}):
        yield PlanNote(
            f"no smoke test is recorded of {_named(names)}, as loaded now: it failed, was "
            "not reached, or an earlier release of fleetctl did the load. It is asked first, and "
            "its route stays as it is unless it passes"
        )


def _new_aliases(changes: Iterable[Change]) -> set[str]:
    """Return the aliases of which a version is loaded that was not asked for before."""
    return {
        alias_of(change.after.adapter)
        for change in changes
        if isinstance(change.after, LoadedAdapter)
        and change.reason in {Reason.ROLLOUT_STARTED, Reason.DECLARED}
    }


def _without_smoke(fleet: FleetSpec, new: Iterable[str]) -> Iterator[PlanNote]:
    if untested := [alias for alias in new if not fleet.adapters[alias].smoke]:
        yield PlanNote(
            f"versions of {_named(untested)} get traffic after the built-in prompt alone: declare "
            "5 to 10 known inputs as `smoke`"
        )


def _by_time_alone(fleet: FleetSpec, new: Iterable[str]) -> Iterator[PlanNote]:
    by_rollout: defaultdict[str, list[str]] = defaultdict(list)
    for alias in new:
        if not fleet.rollouts[fleet.adapters[alias].rollout].gates:
            by_rollout[fleet.adapters[alias].rollout].append(alias)
    asks = ", ".join([*fleet.gates][:4]) or "errors"
    also = "" if fleet.gates else ", `gates: {errors: {metric: error_rate_rise, max: 2pp}}`"
    for rollout, aliases in sorted(by_rollout.items()):
        yield PlanNote(
            f"nothing judges new versions of {_named(aliases)}, which take over by time alone: "
            f"rollout `{rollout}` asks no gate. Declare "
            f"`rollouts: {{{rollout}: {{gates: [{asks}]}}}}`{also}"
        )


def _few_users(adapter: AdapterSpec, ahead: RolloutAhead) -> Iterator[PlanNote]:
    """Warn of a first stage with fewer than `FEW_USERS` people on the new version."""
    users = adapter.demand.users if adapter.demand else None
    share = ahead.percent or ahead.weights[0]
    by_user = adapter.sticky in (Sticky.SESSION, Sticky.USER)
    if users is None or not by_user or share == FULL or users * share >= FEW_USERS * FULL:
        return
    expected = users * share / FULL
    asks = "" if adapter.sticky is Sticky.SESSION else "declare `sticky: session`, and "
    yield PlanNote(
        f"{users} users were recorded in {USER_DAYS} days, so that about {expected:.1g} are on "
        f"{version_of(ahead.version)} at {share} %, and a fault that meets few people may meet "
        f"none of them: {asks}let the application send a session in the header `X-Session-Id`, "
        "by which requests are split then",
        adapter.alias,
    )


def _too_little(
    fleet: FleetSpec, history: History, alias: str, ahead: RolloutAhead
) -> Iterator[PlanNote]:
    """Warn of a first share whose traffic hardly decides in `max_bake`; a larger share would."""
    rollout = fleet.rollouts[fleet.adapters[alias].rollout]
    share = ahead.percent or ahead.weights[0]
    if rollout.low_traffic is not None or share >= LARGER:
        return
    now = stage_traffic(fleet, alias, history, share)
    then = stage_traffic(fleet, alias, history, LARGER)
    if now is None or then is None or now.chance >= UNLIKELY or then.chance < now.chance + GAIN:
        return
    yield PlanNote(
        f"at {share} % about {now.requests} requests are expected in {ahead.longest_s / 3600:g} h "
        f"(`max_bake`), with which a healthy version passes its gates with "
        f"{percent_text(now.chance)}; at {LARGER} % they are {then.requests}, and "
        f"{percent_text(then.chance)}. Declare `rollouts: {{{rollout.name}: {{low_traffic: "
        f"{LARGER}%}}}}`, by which aliases with little traffic go {LARGER} %, 50 %, 100 %",
        alias,
    )


def _named(names: Collection[str]) -> str:
    named = ", ".join(f"`{name}`" for name in [*names][:SHOWN])
    more = len(names) - SHOWN
    return f"{named} and {more} more" if more > 0 else named


SOME_KEYS = 500
"""Lower bound of keys times percent from which on a share of the keys is about the share that is
asked for: five keys are expected on the new version, and none are with a chance below 1 %."""


def held_back(plan_input: PlanInput, changes: Iterable[Change]) -> Iterator[PlanNote]:
    """Yield the parts of the declarations that the plan does not carry out, with the reason."""
    live, placement = plan_input.live, plan_input.placement
    if live.routes_unknown:
        yield PlanNote(
            f"routes could not be read ({live.routes_unknown}): no version and no route moves"
        )
    for alias, target in plan_input.targets.wanted.items():
        if target.note:
            yield target.note
        waiting = waits(target, placement, plan_input.targets, live)
        for adapter, _ in target.shares:
            silent = "none of its servers answers" if adapter in waiting else ""
            if reason := placement.unplaced.get(adapter, silent):
                route = "; its route stays as it is" if adapter in waiting else ""
                has_some = placement.bindings.get(adapter)
                state = "lacks a further server" if has_some else "is not loaded"
                yield PlanNote(f"{adapter} {state}: {reason}{route}", alias)
    yield from _other_bytes(plan_input, {change.address for change in changes})


def _other_bytes(plan_input: PlanInput, changed: Container[Address]) -> Iterator[PlanNote]:
    """Yield the versions that go on answering with other bytes than the lock pins."""
    live, loaded_by_server = plan_input.live, plan_input.live.adapters()
    for alias, route in live.routes().items():
        for share in route.shares:
            pinned = plan_input.fleet.versions.get(share.adapter)
            for server in share.servers:
                loaded = loaded_by_server.get(adapter_address(share.adapter, server))
                if loaded is None or pinned is None or loaded.address in changed:
                    continue
                if loaded.digest != pinned.digest:
                    yield PlanNote(
                        f"{share.adapter} on {server} has other bytes than the lock pins, and "
                        f"{share.percent} % of the requests go there until it can be loaded again",
                        alias,
                    )


def not_observed(plan_input: PlanInput) -> Iterator[PlanNote]:
    """Yield the resources that could not be observed, with the reason."""
    live, fleet = plan_input.live, plan_input.fleet
    established = State(resources=plan_input.history.established).servers()
    for server, reason in sorted(live.unknown_servers.items()):
        was = established.get(server)
        removed = was.host if was and was.host in fleet.removed else ""
        removed = removed or (was.base if was and was.base not in fleet.bases else "")
        note = f" `{removed}` is no longer declared, and the server may still run there."
        yield PlanNote(reason + note * bool(removed), server_address(server))
    if live.routes_unknown:
        yield PlanNote(live.routes_unknown, "routes and keys")
    for client in plan_input.fleet.clients.values():
        for key in client.keys:
            if key.fingerprint is None:
                address = key_address(client.name, key.name)
                text = f"{key.reference} is not readable here"
                issued = live.resources.get(address)
                if not isinstance(issued, Key) or issued.reference != key.reference:
                    text += (
                        "; it must be where apply runs (fleetctl key create --all makes missing "
                        "key files)"
                    )
                yield PlanNote(text, address)


def warnings_of(
    plan_input: PlanInput,
    changes: Collection[Change],
    rollouts: Mapping[str, RolloutAhead],
    accounts: Iterable[ServerAccount],
) -> Iterator[PlanNote]:
    """Yield the warnings of a plan, in reading order; `rollouts` are those that it moves.

    `accounts` are those of the planned servers.
    """
    fleet, live = plan_input.fleet, plan_input.live
    for lines in (
        fleet.warnings,
        plan_input.placement.warnings,
        disagreements(fleet, live),
        outdated(_unchanged_servers(plan_input)),
    ):
        yield from map(PlanNote.of, lines)
    touched = {server for change in changes for server in _servers_of(change)}
    for address, fault in attached_faults(fleet, live, touched):
        yield PlanNote(f"an apply is refused: {fault.detail} {fault.hint}", address)
    for address, unknown in attached_unknowns(fleet, live, touched):
        yield PlanNote(unknown, address)
    yield from coarse_shares(fleet, plan_input.targets)
    yield from rollout_warnings(fleet, plan_input.history, changes, rollouts)
    for warnings in (
        _unmanaged(plan_input),
        _renamed_hosts(plan_input),
        _late(fleet, accounts),
        _ended_overrides(plan_input),
    ):
        yield from map(PlanNote, warnings)
    held_notes = held_back(plan_input, changes)
    for note in changed_by_others(changes, held_notes, plan_input.history, live):
        yield PlanNote(
            "was changed by others to what is declared; apply records that", note.address
        )


def _servers_of(change: Change) -> Iterator[str]:
    """Yield the server on which an adapter is loaded or unloaded."""
    for resource in (change.before, change.after):
        if isinstance(resource, LoadedAdapter):
            yield resource.server


def _unchanged_servers(plan_input: PlanInput) -> dict[str, str | None]:
    """Return the digests of the servers that go on running as they are, by address."""
    live, servers = plan_input.live.servers(), plan_input.placement.servers
    return {s.address: s.digest for name, s in servers.items() if live.get(name) == s}


def coarse_shares(fleet: FleetSpec, targets: RolloutTargets) -> Iterator[PlanNote]:
    """Yield the shares that the keys of a client are too few to add up to."""
    for alias, target in targets.wanted.items():
        adapter, percent = fleet.adapters.get(alias), dict(target.shares).get(target.target, 0)
        if adapter is None or adapter.sticky is not Sticky.KEY or not 0 < percent < FULL:
            continue
        client = fleet.clients[adapter.name.client]
        keys = len(client.keys)
        if percent * keys < SOME_KEYS:
            none = round(100 * (1 - percent / FULL) ** keys)
            count = "1 key" if keys == 1 else f"{keys} keys"
            yield PlanNote(
                "`sticky: key` keeps all requests with one API key on one version, and "
                f"`{client.name}` has {count}: with a chance of {none} % none of them are answered "
                f"by {version_of(target.target)}, which is to have {percent} %",
                alias,
            )


def _unmanaged(plan_input: PlanInput) -> Iterator[str]:
    """Yield live resources that are neither declared nor ours, and stay."""
    fleet = plan_input.fleet
    aliases_by_name = {adapter.served_as: alias for alias, adapter in fleet.adapters.items()}
    for resource in unmanaged(fleet, plan_input.targets, plan_input.live):
        match resource:
            case LoadedAdapter(parts=name) if name and name.alias in fleet.adapters:
                yield (
                    f"{resource.address} is not in the ledger, and no route names it; it stays. "
                    "If it is ours: fleetctl adopt"
                )
            case LoadedAdapter() if alias := aliases_by_name.get(resource.adapter):
                yield (
                    f"{resource.address} is what clients of {alias} ask the server itself for; it "
                    "stays, until they ask a gateway and its operator unloads it"
                )
            case LoadedAdapter():
                yield f"{resource.address} was not loaded by fleetctl; it stays, and takes a slot"
            case Route() | Key():
                yield f"{resource.address} is neither declared nor in the ledger; it stays"
            case Server():
                pass


def _renamed_hosts(plan_input: PlanInput) -> Iterator[str]:
    """Yield the machines that have servers of a former name, whose ports and memory are taken."""
    hosts, removed = plan_input.fleet.hosts, plan_input.fleet.removed
    machines = {host.machine: name for name, host in hosts.items() if name not in removed}
    for former in sorted({server.host for server in plan_input.live.servers().values()} & removed):
        if name := machines.get(hosts[former].machine or ""):
            yield (
                f"`{name}` is the machine of `{former}`, which is no longer declared and whose "
                "servers still run: a start there finds port and memory taken. If it was renamed, "
                f"declare `formerly: {former}` for it, and nothing moves; else stop its servers "
                "first: fleetctl server stop"
            )


def _late(fleet: FleetSpec, accounts: Iterable[ServerAccount]) -> Iterator[str]:
    """Yield the aliases whose answers come later than promised, by the law of throughput."""
    if late_clients := late(fleet, accounts):
        text = f"{late_clients.code} {late_clients.summary}: {late_clients.detail}"
        yield f"{text}. To do: {late_clients.hint}: {late_clients.command}"


def _ended_overrides(plan_input: PlanInput) -> Iterator[str]:
    today = plan_input.now.astimezone(UTC).date()
    for override in plan_input.fleet.overrides:
        if today > override.until:
            yield (
                f"override `{override.name}` of {override.alias} ended on {override.until}: its "
                "gates count again. Delete it, or give it a new day"
            )
