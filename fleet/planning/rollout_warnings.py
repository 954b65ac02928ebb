"""Warns of versions that get traffic untried or unjudged, and of stages with too few people."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

from fleet.capacity import USER_DAYS
from fleet.gates import percent_text
from fleet.history import History
from fleet.names import adapter_of_address, alias_of, version_of
from fleet.plan import Change, PlanNote, Reason, RolloutAhead
from fleet.resources import FULL, LoadedAdapter
from fleet.rollouts import stage_traffic
from fleet.spec import AdapterSpec, FleetSpec
from fleet.steps import LoadAdapter, SmokeTest, Step
from fleet.traffic import Sticky

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
    asked = (step.address for step in listed if isinstance(step.operation, SmokeTest))
    if names := sorted({adapter_of_address(address) for address in asked if address not in loads}):
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
