"""Word the upgrades of a plan, stage by stage; select the part that carries an upgrade on."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, cast, get_args

from fleet.codec import plan_id
from fleet.errors import FleetError, did_you_mean
from fleet.names import Address, step_parts
from fleet.plan import Action, Change, DeviceUse, Plan, PlanNote, Reason
from fleet.planning.desired import PlanInput
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, client_in, servers_in
from fleet.rollouts import Upgrade, UpgradeStage
from fleet.spec import FleetSpec
from fleet.steps import Step, resource_of

Field = Literal["client", "adapter", "server"]


@dataclass(frozen=True, slots=True, order=True)
class TargetPattern:
    """A `field=value`; a change that meets any of several criteria is selected."""

    field: Field
    value: str
    """A client; an alias or full adapter name; a server."""

    def __str__(self) -> str:
        return f"{self.field}={self.value}"


def parse_criteria(texts: Iterable[str]) -> tuple[TargetPattern, ...]:
    """Read `client=acme`, `adapter=acme-support`, `server=tiny-laptop-cpu0`.

    Raises:
        FleetError: FC5010, a text is of another form.
    """
    patterns = []
    for text in texts:
        field, separator, value = text.partition("=")
        if field not in get_args(Field) or not separator or not value:
            near = did_you_mean(field, get_args(Field))
            detail = f"`{text}` selects nothing; the fields are client, adapter and server."
            hint = near or "write client=NAME, adapter=ALIAS or server=NAME"
            raise FleetError.of(
                "FC5010", "Selection is not of the form field=value", detail, hint=hint
            )
        patterns.append(TargetPattern(cast("Field", field), value))
    return tuple(sorted(set(patterns)))


def require_known_targets(criteria: Sequence[TargetPattern], fleet: FleetSpec, plan: Plan) -> None:
    """Refuse criteria that name nothing in the fleet or the plan: a typing error is no empty plan.

    Raises:
        FleetError: FC5013, a criterion has an unknown name.
    """
    resources = [part for change in plan.changes for part in change.resources]
    values_by_field: dict[Field, set[str]] = {
        "client": {*fleet.clients},
        "adapter": {*fleet.adapters, *fleet.versions},
        "server": {use.server for use in plan.capacity},
    }
    for resource in resources:
        for field, values in _values(resource).items():
            values_by_field[field].update(values)
    for criterion in criteria:
        if criterion.value not in values_by_field[criterion.field]:
            detail = (
                f"There is no {criterion.field} `{criterion.value}` in fleet {fleet.name}, "
                "neither declared nor in the plan."
            )
            hint = did_you_mean(criterion.value, sorted(values_by_field[criterion.field]))
            raise FleetError.of("FC5013", "Selection names nothing", detail, hint=hint)


def select(plan: Plan, criteria: Sequence[TargetPattern]) -> Plan:
    """Return the part of a plan that meets any criterion, with an id of its own.

    Without criteria the plan itself. The changes left out are counted in `held`, and slots are
    counted anew; `cost_after` is None when a server's change was left out.
    """
    if not criteria:
        return plan
    selected_changes, steps = _closure(plan, _selected(plan, criteria))
    settings = tuple(setting for setting in plan.settings if _is_under(setting.path, criteria))
    changes = tuple(change for change in plan.changes if change.address in selected_changes)
    dropped = tuple(change for change in plan.changes if change.address not in selected_changes)
    unset = len(plan.settings) - len(settings)
    if not dropped and not unset:
        return plan
    subjects = [part for change in changes for part in change.resources]
    subjects += [resource_of(step.operation) for step in plan.steps if step.id in steps]
    aliases = {alias for resource in subjects for alias in _aliases(resource)}
    keyed = {resource.client for resource in subjects if isinstance(resource, Key)}
    impacts = tuple(
        impact for impact in plan.impacts if impact.alias in aliases or impact.client in keyed
    )
    values = {criterion.value for criterion in criteria}
    prospects = tuple(
        prospect
        for prospect in plan.prospects
        if prospect.alias in aliases or values & {prospect.client, prospect.alias}
    )
    touched = {impact.client for impact in impacts} | {*map(client_in, subjects)}
    touched |= {prospect.client for prospect in prospects}
    spared = {impact.client for impact in plan.impacts} - touched
    spared |= {prospect.client for prospect in plan.prospects} - touched
    selected = replace(
        plan,
        changes=changes,
        steps=tuple(step for step in plan.steps if step.id in steps),
        capacity=tuple(_recounted(use, changes, dropped) for use in plan.capacity),
        impacts=impacts,
        gates=tuple(gate for gate in plan.gates if gate.alias in aliases),
        prospects=prospects,
        outlook=tuple(note for note in plan.outlook if note.subject in aliases),
        held=(*plan.held, _left_out(criteria, dropped, unset)),
        settings=settings,
        translations=tuple(limits.only(aliases) for limits in plan.translations),
        cost_after=None if any(map(_is_server, dropped)) else plan.cost_after,
        untouched_clients=tuple(sorted({*plan.untouched_clients, *spared})),
    )
    return replace(selected, id=plan_id(selected))


def _is_under(path: str, criteria: Sequence[TargetPattern]) -> bool:
    """Say whether a setting is declared below a selected client or adapter."""
    section, client, _, task, *_ = (*path.split("."), "", "", "")
    names: dict[Field, str] = {"client": client, "adapter": f"{client}-{task}"}
    return section == "clients" and any(
        names.get(criterion.field) == criterion.value for criterion in criteria
    )


def _selected(plan: Plan, criteria: Sequence[TargetPattern]) -> set[Address]:
    """Return the changes that meet a criterion, or stop a server of a resource that does."""
    lanes: dict[str, list[Resource]] = defaultdict(list)
    for step in plan.steps:
        lanes[step.lane].append(resource_of(step.operation))
    addresses = set()
    for change in plan.changes:
        subjects = list(change.resources)
        if _is_server(change) and change.action is not Action.CREATE:
            subjects += [resource for name in servers_in(subjects[0]) for resource in lanes[name]]
        if any(_meets(affected, criterion) for affected in subjects for criterion in criteria):
            addresses.add(change.address)
    return addresses


def _meets(resource: Resource, criterion: TargetPattern) -> bool:
    return criterion.value in _values(resource)[criterion.field]


def _values(resource: Resource) -> dict[Field, tuple[str, ...]]:
    """Return the values of all fields by which a resource can be selected."""
    adapters: tuple[str, ...] = ()
    if isinstance(resource, Route):
        adapters = tuple(share.adapter for share in resource.shares)
    elif isinstance(resource, LoadedAdapter):
        adapters = (resource.adapter,)
    return {
        "client": (client_in(resource),),
        "adapter": (*_aliases(resource), *adapters),
        "server": tuple(servers_in(resource)),
    }


def _closure(plan: Plan, selected: set[Address]) -> tuple[set[Address], set[str]]:
    """Return addresses of changes and ids of steps, grown until neither needs anything outside."""
    steps = {step.id: step for step in plan.steps}
    changes = {change.address: change for change in plan.changes}
    owners = {change.address: change.address for change in plan.changes}
    for change in plan.changes:
        for resource in change.resources:
            owners.setdefault(resource.address, change.address)
    owned: dict[Address | None, list[str]] = defaultdict(list)
    for step in plan.steps:
        owned[owners.get(step.address)].append(step.id)
    closed: set[Address] = set()
    chosen: set[str] = set()
    pending = sorted(selected)
    while pending:
        address = pending.pop()
        if address in closed:
            continue
        closed.add(address)
        needed = _with_needs(owned[address], steps, chosen)
        chosen.update(needed)
        pending += [owners[steps[name].address] for name in needed if steps[name].address in owners]
        pending += _shaken(changes[address], plan)
    for name in owned[None]:  # such as a smoke test: with the steps that it needs
        takes = step_parts(name)[0] == "divert"  # for a restart that was not selected
        if not takes and steps[name].needs and chosen.issuperset(steps[name].needs):
            chosen.add(name)
    return closed, chosen


def _shaken(change: Change, plan: Plan) -> list[Address]:
    """Return the changes that cannot be left out when `change` stops a server."""
    if not _is_server(change) or change.action is Action.CREATE:
        return []
    stopped = {name for part in change.resources for name in servers_in(part)}
    return [
        change.address
        for change in plan.changes
        if any(stopped.intersection(servers_in(part)) for part in change.resources)
    ]


def _with_needs(names: Iterable[str], steps: dict[str, Step], visited: set[str]) -> list[str]:
    """Return the steps and all that they need, directly or not, without those `visited`."""
    ordered: dict[str, None] = {}
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in ordered and name not in visited and name in steps:
            ordered[name] = None
            pending += steps[name].needs
    return list(ordered)


def _recounted(use: DeviceUse, remaining: Sequence[Change], dropped: Sequence[Change]) -> DeviceUse:
    gone_in, gone_out = _traffic(use.server, dropped)
    if not gone_in and not gone_out:
        return use
    arriving, _ = _traffic(use.server, remaining)
    after = use.slots_after - gone_in + gone_out
    during = min(use.slots_during, use.slots_before + arriving)
    return replace(use, slots_after=after, slots_during=max(during, use.slots_before, after))


def _traffic(server: str, changes: Iterable[Change]) -> tuple[int, int]:
    """Return the numbers of adapters that arrive on a server and that leave the server."""
    arriving = leaving = 0
    for change in changes:
        before, after = _held_on(change.before), _held_on(change.after)
        if before != after:
            arriving += after == server
            leaving += before == server
    return arriving, leaving


def _held_on(resource: Resource | None) -> str | None:
    return resource.server if isinstance(resource, LoadedAdapter) else None


def _is_server(change: Change) -> bool:
    return isinstance(change.after or change.before, Server)


def _left_out(
    criteria: Sequence[TargetPattern], dropped: Sequence[Change], settings: int
) -> PlanNote:
    counts = Counter(client_in(change.resources[-1]) or "no client" for change in dropped)
    clients = ", ".join(f"{client} ({counts[client]})" for client in sorted(counts))
    noun = "change" if len(dropped) == 1 else "changes"
    parts = [f"{len(dropped)} {noun} left out, of {clients}"] if dropped else []
    if settings:
        parts.append(f"{settings} {'setting' if settings == 1 else 'settings'} left out")
    return PlanNote(f"Only {' or '.join(map(str, criteria))} was selected: {'; '.join(parts)}.")


def _aliases(resource: Resource) -> tuple[str, ...]:
    if isinstance(resource, Route):
        return (resource.alias,)
    parts = resource.parts if isinstance(resource, LoadedAdapter) else None
    return (parts.alias,) if parts else ()


SHOWN = 5
"""Upper bound of the aliases that a note names."""


def upgrade_notes(plan_input: PlanInput) -> Iterator[PlanNote]:
    """Yield the upgrades of a plan, stage by stage."""
    for upgrade in plan_input.placement.upgrades:
        for text in _texts(plan_input, upgrade):
            yield PlanNote(text, upgrade.base)


def upgrade_part(plan: Plan, servers: Collection[str]) -> Plan | None:
    """Return the part of a plan that carries an upgrade on; None: other changes belong to it.

    Those were never applied, and a person applies them.
    """
    chosen = tuple(TargetPattern("server", name) for name in sorted(servers))
    part = select(plan, chosen) if chosen else replace(plan, changes=(), steps=())
    is_asked = all(change.reason in _OF_UPGRADES for change in part.changes)
    return replace(part, settings=()) if is_asked else None


_OF_UPGRADES = (Reason.UPGRADE, Reason.REPLICA_MOVED)


def _texts(plan_input: PlanInput, upgrade: Upgrade) -> Iterator[str]:
    canary, first, later = _canary(plan_input, upgrade), upgrade.old[0], upgrade.old[1:]
    yield ", ".join(upgrade.changed)
    match upgrade.stage:
        case UpgradeStage.CANARY | UpgradeStage.JUDGING:
            ready = "runs" if upgrade.stage is UpgradeStage.JUDGING else "starts"
            yield f"canary {canary} {ready} beside {first}; no client's request goes there"
            if upgrade.reason:
                yield (
                    f"{upgrade.reason}, and another version is declared, so nothing is judged: see "
                    f"`python` or `image` of its host, then: fleetctl server stop {canary}"
                )
            if upgrade.results:
                yield f"golden sets on both, by `reconcile`: {'; '.join(map(str, upgrade.results))}"
            yield from _unguarded(upgrade)
            then = f"then {first}'s clients move to {canary}, and {first} is kept as the way back"
            yield then + (f"; then {_listed(later)}, one after another" if later else "")
            if waits := awaited_person(upgrade):
                yield waits
        case UpgradeStage.MOVING:
            yield f"approved: {upgrade.reason or 'clients were served so before'}"
            leaving = min(upgrade.hidden)
            if upgrade.kept and upgrade.until:
                yield (
                    f"{leaving} is kept loaded until {_time(upgrade.until)}; the way back: "
                    f"fleetctl upgrade stop {upgrade.base} --reason TEXT, and apply"
                )
            else:
                yield f"clients leave {leaving}, which then stops"
            if waiting := [name for name in upgrade.old if name != leaving]:
                yield f"then {_listed(waiting)}, one after another"
        case UpgradeStage.STOPPED:
            yield f"stopped for all clients: {upgrade.reason}"
            yield (
                f"{_listed(upgrade.old)} as before. Declare other settings, or have these judged "
                f"anew: fleetctl upgrade release {upgrade.base} --reason TEXT"
            )
        case UpgradeStage.NO_ROOM:
            yield from _without_room(upgrade)


def awaited_person(upgrade: Upgrade) -> str:
    """Return the aliases that keep an upgrade waiting for a person, as a sentence; empty: none."""
    if upgrade.stage is not UpgradeStage.JUDGING or upgrade.awaited or upgrade.passed:
        return ""
    undecided = [result.alias for result in upgrade.results if not result.passed]
    waits = [f"{undecided[0]} is undecided"] if undecided else []
    waits += [f"nothing judges {upgrade.unguarded[0]}"] if upgrade.unguarded else []
    return (
        f"{' and '.join(waits)}, and the upgrade waits: fleetctl upgrade approve {upgrade.base} "
        "--reason TEXT, or stop"
    )


def _without_room(upgrade: Upgrade) -> Iterator[str]:
    engine_alone = all(text.startswith(("vllm:", "python:")) for text in upgrade.changed)
    stay = "servers go on as they are"
    if not upgrade.held:
        then = stay if engine_alone else "servers restart in their place"
        why = upgrade.reason or ("clients were served so before" if upgrade.results else "")
        yield f"no free device, so {then}{f': {why}' * bool(why)}"
        yield from _unguarded(upgrade)
        return
    yield (
        f"no free device for a canary, so nothing is judged and {stay}. What helps: a further "
        f"device like {upgrade.old[0]}'s for the time of the upgrade, with room for all versions"
    )
    if not engine_alone:
        yield (
            "to restart servers in their place, which nothing judges: fleetctl upgrade advance "
            f"{upgrade.base} --reason TEXT, and apply"
        )


def _canary(plan_input: PlanInput, upgrade: Upgrade) -> str:
    """Return the canary of a plan: the one that runs, or the one that starts."""
    adapters = (name for names in plan_input.placement.beside.values() for name in names)
    servers = plan_input.placement.servers
    neighbours = (name for name in adapters if servers[name].base == upgrade.base)
    return upgrade.canary or next(neighbours, "a further server")


def _unguarded(upgrade: Upgrade) -> Iterator[str]:
    if not upgrade.unguarded:
        return
    lacks = f"nothing judges {_listed(upgrade.unguarded)}: no golden set is a gate there"
    declare = "declare `golden` for their adapters, and a gate on it for their rollouts"
    match upgrade.stage, upgrade.results:
        case UpgradeStage.NO_ROOM, _:
            yield f"{lacks}. What helps: a further device, and to have them judged {declare}"
        case _, ():
            yield f"{lacks}, so the upgrade waits for a person. To have them judged, {declare}"
        case _:
            yield f"{lacks}. Once the others are judged, the upgrade waits for a person"


def _listed(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
