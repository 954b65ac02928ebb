"""Decides the next shares of an alias, from live routes, evidence and marks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from fleet.gates import HOUR, Verdict
from fleet.history import History, is_way_back
from fleet.names import AdapterName, alias_of, version_of
from fleet.plan import GateDue
from fleet.resources import FULL, Route
from fleet.rollouts import guards
from fleet.rollouts.evidence import GateResult
from fleet.rollouts.guards import closed_until, doubt
from fleet.rollouts.situation import Situation
from fleet.rollouts.targets import AliasTarget, Phase
from fleet.spec import AdapterSpec, FleetSpec

MOST = 4
"""Times `max_bake` after which a stage without a verdict ends, whatever its traffic."""


def is_over(longest: timedelta, waited: timedelta, requests: float, hourly: float) -> bool:
    """Say whether a stage has had its time.

    Args:
        longest: `max_bake`, in hours of usual traffic.
        waited: Time since the stage began.
        requests: Of both versions since then.
        hourly: Requests an hour in the weeks before, nights and weekends included; 0: not known,
            so that the clock alone counts.
    """
    if waited < longest or waited >= MOST * longest:
        return waited >= longest
    return not hourly or requests / hourly * HOUR >= longest


def traffic_of(counts: Iterable[Mapping[str, Any]]) -> tuple[float, float]:
    """Return the most requests that gates have counted, and the usual number an hour; 0: none."""
    found = [
        (float(sum(stage["requests"]) + sum(stage["requests_stable"])), float(stage["hourly"]))
        for stage in counts
        if "hourly" in stage and "requests_stable" in stage
    ]
    return max(found, default=(0.0, 0.0))


def decide_first_version(
    it: Situation, stopped: str, unsure: Iterable[GateResult], doubt: str = ""
) -> AliasTarget:
    """Decide for an alias that has no route.

    Args:
        it: The alias.
        stopped: Why the declared version may not serve, in short; empty: it may.
        unsure: Gates on golden sets that would have to pass before it does.
        doubt: Why what a released version would begin by is not believed; empty: it is.
    """
    version, open_gates = version_of(it.target), tuple(unsure)
    due = tuple(result.due(it.alias) for result in open_gates)
    if stopped:
        text = guards.not_served("; ".join(_reasons(it)) or stopped, _declare(it))
        text += f", or let {version} begin: fleetctl release {it.alias}"
        if it.rejection:
            text += ". What a gate rejected an override accepts until a day"
        return AliasTarget(it.alias, it.target, (), "", Phase.HELD, stopped, text)
    if it.released and it.halt:
        text = guards.halted(f"{version} is not begun", it.halt)
        return AliasTarget(it.alias, it.target, (), "", Phase.PAUSED, "", text, due)
    if open_gates:
        why = (
            f"{version} was kept out and released, no version before it is loaded, and "
            f"{guards.open_gates(open_gates)}"
        )
        text = guards.not_served(why, _declare(it))
        text += f" and then this one. {guards.decide(it.alias, begun=False)}"
        return AliasTarget(it.alias, it.target, (), "", Phase.UNDECIDED, "", text, due)
    if doubt:
        text = f"{version} is not begun: {doubt}"
        return AliasTarget(it.alias, it.target, (), "", Phase.DOUBTED, "", text)
    why = f"{version} is the first version of `{it.alias}`"
    if it.released:
        why = f"{version} was released and begins as the only version of `{it.alias}`"
    return AliasTarget(it.alias, it.target, ((it.target, FULL),), it.target, Phase.FIRST, why)


def _reasons(it: Situation) -> Iterable[str]:
    """Yield the reasons that keep the version out, with their evidence."""
    version, hold, evidence = version_of(it.target), it.holds.get(it.target), it.rejection
    if hold is not None:
        reason = f" ({hold.reason})" if hold.reason and not (hold.gate and evidence) else ""
        yield f"{version} was rolled back by {hold.by} at {guards.time(hold.at)}{reason}"
    if evidence is not None:
        yield guards.by_evidence(evidence)
    if mark := it.mark("abort"):
        yield f"{version} was aborted {guards.decided(mark)}"
    if it.twin:
        yield f"{version} {guards.taken_out(it.twin)}"


def _declare(it: Situation) -> str:
    """Say which version to declare: the newest earlier version that once had all traffic."""
    known = it.fleet.versions
    good = [
        parsed.version
        for name in it.history.answered_all & known.keys()
        if alias_of(name) == it.alias and is_way_back(it.history, known, it.alias, name)
        if (parsed := AdapterName.parse(name)).version < it.adapter.name.version
    ]
    return f"declare {max(good)} (it is in the lock)" if good else "declare another version"


_GATED = (
    Phase.EVALUATING,
    Phase.STARTED,
    Phase.ADVANCED,
    Phase.WAITING,
    Phase.EXTENDED,
    Phase.UNDECIDED,
    Phase.PAUSED,
    Phase.DOUBTED,
    Phase.ROLLED_BACK,
)
"""Phases in which a plan shows the gates."""


def decide_rollout(
    fleet: FleetSpec,
    adapter: AdapterSpec,
    route: Route | None,
    history: History,
    now: datetime,
    *,
    altered: frozenset[str] = frozenset(),
    base: str = "",
) -> AliasTarget:
    """Decide the versions and shares of an alias at `now`.

    `altered`: versions of which a server holds other bytes than the locked ones, about which
    evidence says nothing. `base`: the engine that serves the target; empty: not known.
    """
    if route is None:
        nothing = Route(adapter.alias, (), "")
        bare = Situation(fleet, adapter, nothing, history, now, altered, base)
        why, _ = _stopped(bare) or ("", "")
        asked = bare.released and not bare.allowed("advance")
        offline = [result for result in bare.judged if result.gate.offline and asked]
        unsure = [e for e in offline if not e.passed and not _approved(bare, e)]
        return decide_first_version(
            bare, why, unsure, _doubt(bare, offline) if bare.released else ""
        )
    it = Situation(fleet, adapter, route, history, now, altered, base)
    stopped = _stopped(it)
    wanted = _taken_back(it, *stopped) if stopped else _going(it)
    kept = _without_retired(it, wanted, stopped=bool(stopped))
    return replace(kept, gates=_gates(it, kept))


def _stopped(it: Situation) -> tuple[str, str] | None:
    """Return why the target may not have any traffic, in short and for the reader."""
    version = version_of(it.target)
    if hold := it.holds.get(it.target):
        return f"{version} was rolled back", guards.stays_out(
            it.alias, it.target, f"was rolled back {guards.decided(hold)}"
        )
    if evidence := it.rejection:
        why = f"gate {evidence.gate} failed: {evidence.finding.reason}"
        return why, guards.rejected(it.alias, it.target, evidence)
    if mark := it.mark("abort"):
        return f"{version} was aborted by {mark.by}", guards.stays_out(
            it.alias, it.target, f"was aborted {guards.decided(mark)}"
        )
    if it.twin:
        why = f"{version} has the bytes of {version_of(it.twin.adapter)}, which was taken out"
        return why, guards.stays_out(it.alias, it.target, f"{guards.taken_out(it.twin)},")
    if it.given_up and not (it.allowed("approve") or it.allowed("advance")):
        return f"{version} could not be judged", guards.given_up(it.alias, it.target)
    return None


def _taken_back(it: Situation, why: str, text: str) -> AliasTarget:
    """Keep the live route, with the target's share given to the stable version."""
    taken = dict(it.shares)
    had, stable = taken.get(it.target, 0), it.stable
    if it.on_its_way(stable):  # a rollout is no way back for what it is judged by
        stable = ""
    if had and stable:
        taken |= {it.target: 0, stable: taken[stable] + had}
    elif had:
        version = version_of(it.target)
        why_not = "for none to go back to is loaded"
        text = f"{version} is out, and keeps its traffic, {why_not}"
    phase = Phase.ROLLED_BACK if had and stable else Phase.HELD
    return _wanted(it, taken, phase, why, text)


def _going(it: Situation) -> AliasTarget:
    """Decide for a target that may have traffic."""
    percent, stage, latest = it.percent, it.stage, it.latest
    if percent == FULL:
        soaking = any(not percent for percent in it.shares.values())
        return _wanted(it, it.shares, Phase.SOAKING if soaking else Phase.COMPLETE, "")
    if stage is not None and stage.percent > 0 and stage.percent != percent:
        why = f"the live route gives {version_of(it.target)} {percent} %, set by hand"
        text = (
            f"its route was changed by hand, {version_of(it.target)} has {percent} % "
            f"and not {stage.percent} %. It stays as it is; to go on from there: "
            f"fleetctl release {it.alias}"
        )
        return _wanted(it, it.shares, Phase.EDITED, why, text)
    if latest is not None and _declared_again(it):
        shares = {**dict.fromkeys(it.shares, 0), it.target: FULL}
        gone = version_of(latest.adapter)
        why = f"{version_of(it.target)} is declared again and takes over from {gone}"
        return _wanted(it, it.ordered(shares), Phase.RETURNED, why)
    return _staged(it) if percent else _beginning(it)


def _declared_again(it: Situation) -> bool:
    """Say whether the target serves beside a rollout that the ledger left half-way."""
    return it.percent > 0 and any(it.on_its_way(name) for name in it.shares if name != it.target)


def _beginning(it: Situation) -> AliasTarget:
    """Give the target its first weight, or load the target and name the obstacle."""
    version, stable = version_of(it.target), it.stable
    weight = it.first_weight if stable else FULL
    others = dict.fromkeys(it.shares, 0)
    offline = [result for result in it.judged if result.gate.offline] if stable else []
    phase, text = _obstacle(it, offline, f"{version} waits at 0 %{_void(it)}")
    if stable and phase is None and stable not in it.fleet.versions:
        text = (
            f"{version} is not begun: {version_of(stable)} is not in the lock, so it "
            "could not be loaded again to go back to"
        )
        return _wanted(it, it.shares, Phase.WAITING, "", text)
    if phase is not None:
        shares = it.ordered({**others, stable: FULL, it.target: 0} if stable else it.shares)
        why = f"{version} is declared and judged before it gets traffic"
        return _wanted(it, shares, phase, why, text)
    rest = {stable: FULL - weight} if stable else {}
    shares = it.ordered({**others, **rest, it.target: weight})
    waited = it.stage is not None and it.target in it.shares
    why = f"{version} is declared and begins at {weight} %"
    if waited and offline:
        said = it.mark("advance") or it.mark("approve")
        why = guards.begins(version, weight, offline, said)
    begun = waited and (offline or it.rollout.no_promote)  # an earlier plan asked for it
    phase = Phase.ADVANCED if begun else Phase.STARTED
    return replace(_wanted(it, shares, phase, why), salt=it.target)


def _staged(it: Situation) -> AliasTarget:
    """Move the target to the next weight, or name the obstacle."""
    stage, percent, version = it.stage, it.percent, version_of(it.target)
    at = f"{version} stays at {percent} %{_void(it)}"
    if stage is None:
        text = f"{at}: the ledger does not say since when. To start its bake: fleetctl adopt"
        return _wanted(it, it.shares, Phase.WAITING, "", text)
    ready = stage.since + it.rollout.bake
    phase, text = _obstacle(it, it.judged, at, ready)
    if phase is Phase.UNDECIDED and it.rollout.when_unsure == "roll_back" and it.stable:
        return _taken_back(
            it, f"{version} could not be judged", guards.given_up(it.alias, it.target)
        )
    if phase is not None:
        return _wanted(it, it.shares, phase, "", text)
    weight = min((later for later in it.rollout.weights if later > percent), default=FULL)
    rest = {it.stable: FULL - weight} if it.stable else {}
    shares = {**dict.fromkeys(it.shares, 0), **rest, it.target: weight}
    why = f"{version} has baked at {percent} % and goes to {weight} %"
    if it.allowed("advance"):
        mark = it.mark("advance")
        why = f"{version} goes to {weight} %: {mark.by} said so" if mark else why
    return _wanted(it, it.ordered(shares), Phase.ADVANCED, why)


def _obstacle(
    it: Situation, judged: Sequence[GateResult], at: str, ready: datetime | None = None
) -> tuple[Phase | None, str]:
    """Return the phase that keeps a version from more traffic, and why; None: nothing does.

    A person, a bake, a gate or the hour may object. Evidence for a rise is checked last, once no
    other cause objects. `at`: beginning of the sentence. `ready`: when the version has baked;
    None: without traffic nothing bakes.
    """
    if it.halt:
        return Phase.PAUSED, guards.halted(at, it.halt)
    if not it.allowed("advance"):
        if ready is not None and it.now < ready:
            return Phase.WAITING, f"{at}, baking until {guards.time(ready)}"
        unsure = [result for result in judged if not result.passed and not _approved(it, result)]
        if unsure:
            return _unsure(it, unsure, f"{at}: {guards.open_gates(unsure)}", ready)
        if until := closed_until(it.rollout, it.now):
            text = f"{at}: no version gets more traffic until {guards.time(until)}"
            return Phase.WAITING if ready else Phase.EVALUATING, text
    if why := _doubt(it, judged):
        return Phase.DOUBTED, f"{at}: {why}"
    return None, ""


def _doubt(it: Situation, judged: Iterable[GateResult]) -> str:
    evidence = [result.evidence for result in judged if result.evidence is not None]
    said = (it.mark(word) for word in ("advance", "approve") if it.allowed(word))
    return doubt(it.history, evidence, it.now, filter(None, said))


def _unsure(
    it: Situation, unsure: list[GateResult], text: str, ready: datetime | None
) -> tuple[Phase, str]:
    """Decide whether undecided gates may still decide, or a person has to."""
    if ready is None:  # a golden set says the same tomorrow
        if all(result.status == Verdict.INCONCLUSIVE for result in unsure):
            return Phase.UNDECIDED, f"{text}. {guards.decide(it.alias, begun=False)}"
        return Phase.EVALUATING, text
    end = ready - it.rollout.bake + it.rollout.longest_bake
    extended = it.mark("extend") if it.allowed("extend") else None
    if extended is not None:  # as long again, from when it was said
        end = max(end, extended.at + it.rollout.longest_bake)
    if it.now < end:
        return Phase.EXTENDED, f"{text}; goes on until {guards.time(end)}"
    counts = [result.evidence.finding.counts for result in it.judged if result.evidence]
    longest, begun = it.rollout.longest_bake, end - it.rollout.longest_bake
    if not is_over(longest, it.now - begun, *traffic_of(counts)):
        latest = guards.time(begun + MOST * longest)
        return Phase.EXTENDED, f"{text}; goes on, for there was little traffic: until {latest}"
    return Phase.UNDECIDED, f"{text}. {guards.decide(it.alias)}"


def _void(it: Situation) -> str:
    """Say which mark on this stage no longer counts; empty: none."""
    return guards.void(it.void) if it.void else ""


def _approved(it: Situation, judged: GateResult) -> bool:
    """Say whether a person let this stage go on, or all stages whatever a golden set said."""
    if it.allowed("approve") and not judged.void:  # no person has looked at the bytes of now
        return True
    marks = [mark for mark in (it.mark("approve"), it.mark("advance")) if mark]
    known = judged.evidence
    asked = known is not None and any(known.seq < mark.seq for mark in marks)
    return judged.gate.offline and asked


def _without_retired(it: Situation, wanted: AliasTarget, *, stopped: bool) -> AliasTarget:
    """Drop versions that have had no share for as long as they are retained."""

    def over(adapter: str, percent: int) -> bool:
        hold = it.holds.get(adapter)
        since = it.history.cutovers.get(adapter) or (hold.at if hold else None)
        idle = percent == 0 and it.shares.get(adapter) == 0
        kept = adapter == wanted.target and not stopped
        return idle and not kept and since is not None and it.now - since >= it.rollout.retain

    return replace(wanted, shares=tuple(share for share in wanted.shares if not over(*share)))


def _gates(it: Situation, wanted: AliasTarget) -> tuple[GateDue, ...]:
    if wanted.phase not in _GATED or dict(wanted.shares).get(wanted.target) == FULL:
        return ()
    return tuple(result.due(it.alias) for result in it.judged)


def _wanted(
    it: Situation,
    shares: Mapping[str, int] | tuple[tuple[str, int], ...],
    phase: Phase,
    why: str,
    held: str = "",
) -> AliasTarget:
    listed = tuple(shares.items()) if isinstance(shares, Mapping) else shares
    return AliasTarget(it.alias, it.target, listed, it.route.salt, phase, why, held)
