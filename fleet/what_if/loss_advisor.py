"""Advises changes with which the loss of a device or host breaks no promise."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from fleet import placement
from fleet.errors import FleetError
from fleet.history import History
from fleet.placement import Loss, PlacementCause, SearchLimits
from fleet.planning import USUAL, desired_state_of, make_plan
from fleet.resources import State
from fleet.rollouts import decide_rollouts
from fleet.spec import FleetSpec
from fleet.vllm import with_engines
from fleet.what_if.advisor import advice_of, changed, cheapest_first
from fleet.what_if.candidates import Advice, Candidate, Candidates
from fleet.what_if.rule_candidates import candidates_of

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
    found = tuple(_losses(fleet, live, history, now, hosts, search))
    broken = [loss for loss in found if not loss.kept]
    if not broken or len(fleet.adapters) > MOST_VERSIONS:
        return LossDiagnosis(fleet.name, found, tried=None if broken else 0)
    before = make_plan(fleet, live, history, now, search).cost_after or 0.0
    remedies, tried = [], 0
    for candidates in _with_more_room(fleet, broken):
        for candidate in candidates:
            tried += 1
            try:
                other = changed(fleet, candidate)
                if not all(loss.kept for loss in _losses(other, live, history, now, hosts, search)):
                    continue
                plan = make_plan(other, live, history, now, search)
            except FleetError:  # the fleet does not fit, or cannot be
                continue
            advice = advice_of(fleet, candidate, plan, before)
            if candidate.devices:  # a spare device is paid for, used or not
                advice = replace(advice, added_per_hour=_prices(other) - _prices(fleet))
            remedies.append(advice)
            break
    found_remedies = tuple(sorted(remedies, key=cheapest_first))
    return LossDiagnosis(fleet.name, found, found_remedies, tried)


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
