"""Advises changes with which a fleet fits, or a loss breaks no promise; each was planned with."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import inf

from fleet import placement
from fleet.advice.candidates import Advice, Candidate, Candidates, Diagnosis, Tightest
from fleet.advice.changes import what_if
from fleet.advice.remedies import candidates_of
from fleet.errors import FleetError, PlacementError
from fleet.history import History
from fleet.placement import Limit, Loss, PlacementCause, SearchLimits
from fleet.plan import Action, Plan
from fleet.planning import USUAL, desired_state_of, make_plan
from fleet.resources import Server, State
from fleet.rollouts import RolloutTargets, decide_rollouts
from fleet.spec import FleetSpec
from fleet.vllm import with_engines

MOST_BASES = 4
"""Upper bound of the bases that are placed anew on fewer devices: more would say the same."""
MOST_FAILED = 5
"""Upper bound of the versions of a base that are tried alone: more would say the same."""
MOST_VERSIONS = 2_000
"""Upper bound of the versions of a fleet for which changes are tried: each is a plan anew."""
MORE_ROOM = ("gpu", "base", "utilization")
"""First words of the changes that make room and take no promise back."""


@dataclass(frozen=True, slots=True)
class LossDiagnosis:
    """Devices and hosts that may be lost, and changes with which every promise is kept."""

    fleet: str
    losses: tuple[Loss, ...]
    """Devices by name, then hosts by name; places without versions are left out."""
    remedies: tuple[Advice, ...] = ()
    """Changes with which all of these losses keep every promise, the cheapest first."""
    tried: int | None = 0
    """Number of changes that were planned with; None: the fleet is too large for that."""

    @property
    def kept(self) -> bool:
        """Say whether every loss keeps every promise."""
        return all(loss.kept for loss in self.losses)


def diagnose(
    fleet: FleetSpec, live: State, history: History, now: datetime, *, search: SearchLimits = USUAL
) -> Diagnosis:
    """Return the causes for which a fleet does not fit, and advice tried with the real planner."""
    fleet = with_engines(fleet, live)
    targets = decide_rollouts(fleet, live, history, now)
    try:
        placed = placement.place(fleet, targets, live, search)
        return Diagnosis(fleet.name, fits=True, tightest=tightest(fleet, placed))
    except PlacementError:
        state, failed = placement.attempt(fleet, targets, live, search)
    causes = placement.causes_of(state, failed)
    causes = (*_causes_of_need(fleet, targets, search, state, causes), *causes)
    bases = sorted({item.base for item in failed})
    alone = []
    for base in bases:
        versions = [item for item in failed if item.base == base][:MOST_FAILED]
        alone += sorted(versions, key=lambda item: item.adapter)
    running = live.servers()
    before = placement.cost(state) + sum(
        server.price_per_hour
        for host in fleet.hosts.values()
        for server in host.attached
        if server.name in running
    )

    def advice(candidate: Candidate, changed_fleet: FleetSpec) -> Advice:
        plan = make_plan(changed_fleet, live, history, now, search)
        return _advice_of(fleet, candidate, plan, before)

    trial = _tried(fleet, candidates_of(fleet, causes), advice)
    return Diagnosis(
        fleet=fleet.name,
        fits=False,
        lacking=tuple(sorted(item.adapter for item in failed)),
        causes=causes,
        trials=placement.trials_of(state, alone),
        totals=placement.totals_of(state, bases),
        remedies=trial.remedies,
        tried=trial.tried,
    )


def diagnose_losses(
    fleet: FleetSpec,
    live: State,
    history: History,
    now: datetime,
    *,
    hosts: Sequence[bool],
    search: SearchLimits = USUAL,
) -> LossDiagnosis:
    """Return the losses of devices (False in `hosts`) and hosts (True), and changes that help.

    Raises:
        PlacementError: the fleet does not fit as it is.
    """
    losses = tuple(_losses(fleet, live, history, now, hosts, search))
    broken = [loss for loss in losses if not loss.kept]
    if not broken or len(fleet.adapters) > MOST_VERSIONS:
        return LossDiagnosis(fleet.name, losses, tried=None if broken else 0)
    before = make_plan(fleet, live, history, now, search).cost_after or 0.0

    def advice(candidate: Candidate, changed_fleet: FleetSpec) -> Advice | None:
        after = _losses(changed_fleet, live, history, now, hosts, search)
        if not all(loss.kept for loss in after):
            return None
        plan = make_plan(changed_fleet, live, history, now, search)
        found = _advice_of(fleet, candidate, plan, before)
        if not candidate.devices:
            return found
        # A spare device is paid for, used or not.
        return replace(found, added_per_hour=_prices(changed_fleet) - _prices(fleet))

    trial = _tried(fleet, _with_more_room(fleet, broken), advice)
    return LossDiagnosis(fleet.name, losses, trial.remedies, trial.tried)


@dataclass(frozen=True, slots=True)
class _Trial:
    """Candidates that were planned with."""

    remedies: tuple[Advice, ...]
    """Of every group the first candidate that helps, the cheapest first."""
    tried: int
    """Number of changes that were planned with."""


def _tried(
    fleet: FleetSpec,
    groups: Iterable[Candidates],
    advice_of: Callable[[Candidate, FleetSpec], Advice | None],
) -> _Trial:
    """Try the candidates of every group up to the first that helps.

    `advice_of` plans with a candidate and the changed fleet; None, or a `FleetError`, where the
    change does not help.
    """
    remedies, tried = [], 0
    for candidates in groups:
        for candidate in candidates:
            tried += 1
            try:
                advice = advice_of(candidate, changed(fleet, candidate))
            except FleetError:  # the fleet does not fit, or cannot be
                continue
            if advice is not None:
                remedies.append(advice)
                break
    return _Trial(tuple(sorted(remedies, key=_cheapest_first)), tried)


def changed(fleet: FleetSpec, candidate: Candidate) -> FleetSpec:
    """Return the fleet with a candidate's change made; errors as of `what_if`."""
    return candidate.change(fleet) if candidate.change else what_if(fleet, candidate.what_if)


def _advice_of(fleet: FleetSpec, candidate: Candidate, plan: Plan, before: float) -> Advice:
    """Return a candidate with the price, restarts and moves of the plan with its change."""
    after = plan.cost_after if candidate.priced else None
    return Advice(
        text=candidate.text,
        what_if=candidate.what_if,
        edit=candidate.edit,
        place=fleet.origin(*candidate.path),
        added_per_hour=None if after is None else round(after - before, 6),
        restarts=sum(
            change.action is Action.REPLACE and isinstance(change.after, Server)
            for change in plan.changes
        ),
        moves=len(plan.moves),
        devices=candidate.devices,
    )


def _cheapest_first(advice: Advice) -> tuple[float, int, int, int, str]:
    """Order by price; at equal prices, those first that buy, restart and move the least."""
    added = inf if advice.added_per_hour is None else advice.added_per_hour
    return (added, advice.devices, advice.restarts, advice.moves, advice.text)


def _causes_of_need(
    fleet: FleetSpec,
    targets: RolloutTargets,
    search: SearchLimits,
    state: placement.PlacementState,
    causes: Sequence[PlacementCause],
) -> Iterator[PlacementCause]:
    """Yield why bases need all their devices, where other bases lack devices.

    A base with several devices is placed alone on all its devices but the last. The limit at which
    that fails is the cause; the versions without a device only suffer from it.
    """
    lacking = {cause.base for cause in causes if cause.primary and cause.limit is Limit.DEVICES}
    if not lacking:
        return
    devices: dict[str, set[placement.DeviceId]] = defaultdict(set)
    for draft in state.drafts.values():
        if draft.devices and draft.residents and draft.base.name not in lacking:
            devices[draft.base.name] |= draft.device_ids
    several = [base for base, own in devices.items() if len(own) > 1]
    for base in sorted(several, key=lambda base: -len(devices[base]))[:MOST_BASES]:
        fewer = frozenset(sorted(devices[base])[:-1])
        hosts = {
            name: replace(
                host,
                devices=tuple(device for device in host.devices if (name, device.name) in fewer),
            )
            for name, host in fleet.hosts.items()
        }
        own = {
            alias: target
            for alias, target in targets.wanted.items()
            if alias in fleet.adapters and fleet.adapters[alias].name.base == base
        }
        alone = RolloutTargets(own, {}, {}, frozenset(), frozenset())  # as if no server ran
        found = placement.attempt(replace(fleet, hosts=hosts), alone, State(), search)
        for cause in placement.causes_of(*found):
            if cause.primary:
                text = f"it takes {len(devices[base])} devices, because on one less {cause.text}"
                yield replace(cause, text=text)


def _losses(
    fleet: FleetSpec,
    live: State,
    history: History,
    now: datetime,
    hosts: Sequence[bool],
    search: SearchLimits,
) -> Iterator[Loss]:
    """Yield the losses in turn, so that a caller may stop at the first that matters."""
    fleet = with_engines(fleet, live)
    targets = decide_rollouts(fleet, live, history, now)
    placed = placement.place(fleet, targets, live, search)
    desired = desired_state_of(fleet, targets, placed, live)
    desired = replace(desired, unknown_servers=live.unknown_servers)
    state = placement.steady_state(fleet, targets, desired)
    for whole in hosts:
        yield from placement.losses_of(state, desired, hosts=whole)


def _with_more_room(fleet: FleetSpec, broken: Sequence[Loss]) -> Iterator[Candidates]:
    """Yield the candidates against the causes of all losses that take no promise back."""
    causes: dict[tuple[str, str], PlacementCause] = {}
    for loss in broken:
        for cause in loss.causes:
            causes.setdefault((cause.base, cause.limit), cause)
    for candidates in candidates_of(fleet, [*causes.values()]):
        if kept := tuple(filter(_makes_room, candidates)):
            yield kept


def _makes_room(candidate: Candidate) -> bool:
    return candidate.priced and any(text.split()[0] in MORE_ROOM for text in candidate.what_if)


def _prices(fleet: FleetSpec) -> float:
    """Return the price of all declared devices, an hour."""
    return sum(device.price_per_hour for host in fleet.hosts.values() for device in host.devices)


def tightest(fleet: FleetSpec, placed: placement.PlacementResult) -> tuple[Tightest, ...]:
    """Return by resource the server that has the least left."""
    found: list[Tightest] = []
    accounts = placement.placement_accounts(fleet, placed)
    if loaded := [account for account in accounts.values() if account.peak > 0]:
        most = max(loaded, key=lambda account: (account.peak, account.server))
        hour = most.worst_hour
        text = (
            f"{most.server} is asked for {most.load[hour]:.0f} of {most.limit[hour]:.0f} tokens/s "
            f"at {hour:02}:00 UTC"
        )
        found.append(Tightest(most.server, "throughput", most.peak, text))
    filled = [
        ((account.pinned + account.kept) / account.slots, name)
        for name, account in accounts.items()
        if account.slots
    ]
    if filled:
        part, name = max(filled)
        taken = accounts[name].pinned + accounts[name].kept
        text = f"{name} has {taken} of {accounts[name].slots} slots taken"
        found.append(Tightest(name, "slots", part, text))
    if worst := placement.slowest(fleet, accounts):
        text = (
            f"{worst.adapter} on {worst.server}: {worst.tokens} tokens take {worst.seconds:.2g} s "
            f"at {worst.hour:02}:00 UTC, and {worst.due} ({worst.basis})"
        )
        found.append(Tightest(worst.server, "latency", worst.seconds / worst.due_s, text))
    return tuple(sorted(found, key=lambda tightest: (-tightest.used, tightest.resource)))
