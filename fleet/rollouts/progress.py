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
from fleet.rollouts.guards import closed_until, doubt
from fleet.rollouts.situation import Situation
from fleet.rollouts.targets import AliasTarget, GateResult, Phase
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
    counted = [
        (float(sum(stage["requests"]) + sum(stage["requests_stable"])), float(stage["hourly"]))
        for stage in counts
        if "hourly" in stage and "requests_stable" in stage
    ]
    return max(counted, default=(0.0, 0.0))


def decide_first_version(
    rollout: Situation, stopped: str, unsure: Iterable[GateResult], doubt: str = ""
) -> AliasTarget:
    """Decide for an alias that has no route.

    Args:
        rollout: Of the alias.
        stopped: Why the declared version may not serve, in short; empty: it may.
        unsure: Gates on golden sets that would have to pass before it does.
        doubt: Why what a released version would begin by is not believed; empty: it is.
    """
    version, open_gates = rollout.version, tuple(unsure)
    due = tuple(result.due(rollout.alias) for result in open_gates)
    if stopped:
        text = guards.not_served("; ".join(_reasons(rollout)) or stopped, _declare(rollout))
        text += f", or let {version} begin: fleetctl release {rollout.alias}"
        if rollout.rejection:
            text += ". What a gate rejected an override accepts until a day"
        return AliasTarget(rollout.alias, rollout.target, (), "", Phase.HELD, stopped, text)
    if rollout.released and rollout.halt:
        text = guards.halted(f"{version} is not begun", rollout.halt)
        return AliasTarget(rollout.alias, rollout.target, (), "", Phase.PAUSED, "", text, due)
    if open_gates:
        why = (
            f"{version} was kept out and released, no version before it is loaded, and "
            f"{guards.open_gates(open_gates)}"
        )
        text = guards.not_served(why, _declare(rollout))
        text += f" and then this one. {guards.decide(rollout.alias, begun=False)}"
        return AliasTarget(rollout.alias, rollout.target, (), "", Phase.UNDECIDED, "", text, due)
    if doubt:
        text = f"{version} is not begun: {doubt}"
        return AliasTarget(rollout.alias, rollout.target, (), "", Phase.DOUBTED, "", text)
    why = f"{version} is the first version of `{rollout.alias}`"
    if rollout.released:
        why = f"{version} was released and begins as the only version of `{rollout.alias}`"
    shares = ((rollout.target, FULL),)
    return AliasTarget(rollout.alias, rollout.target, shares, rollout.target, Phase.FIRST, why)


def _reasons(rollout: Situation) -> Iterable[str]:
    """Yield the reasons that keep the version out, with their evidence."""
    version, hold, evidence = rollout.version, rollout.holds.get(rollout.target), rollout.rejection
    if hold is not None:
        reason = f" ({hold.reason})" if hold.reason and not (hold.gate and evidence) else ""
        yield f"{version} was rolled back by {hold.by} at {guards.time(hold.at)}{reason}"
    if evidence is not None:
        yield guards.by_evidence(evidence)
    if mark := rollout.mark("abort"):
        yield f"{version} was aborted {guards.decided(mark)}"
    if rollout.twin:
        yield f"{version} {guards.taken_out(rollout.twin)}"


def _declare(rollout: Situation) -> str:
    """Say which version to declare: the newest earlier version that once had all traffic."""
    versions = rollout.fleet.versions
    good = [
        parsed.version
        for name in rollout.history.answered_all & versions.keys()
        if alias_of(name) == rollout.alias
        and is_way_back(rollout.history, versions, rollout.alias, name)
        if (parsed := AdapterName.parse(name)).version < rollout.adapter.name.version
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
        must_pass = bare.released and not bare.allowed("advance")
        offline = [result for result in bare.judged if result.gate.offline and must_pass]
        unsure = [e for e in offline if not e.passed and not _approved(bare, e)]
        return decide_first_version(
            bare, why, unsure, _doubt(bare, offline) if bare.released else ""
        )
    rollout = Situation(fleet, adapter, route, history, now, altered, base)
    stopped = _stopped(rollout)
    decided = _taken_back(rollout, *stopped) if stopped else _going(rollout)
    retained = _without_retired(rollout, decided, stopped=bool(stopped))
    return replace(retained, gates=_gates(rollout, retained))


def _stopped(rollout: Situation) -> tuple[str, str] | None:
    """Return why the target may not have any traffic, in short and for the reader."""
    version = rollout.version
    if hold := rollout.holds.get(rollout.target):
        return f"{version} was rolled back", guards.stays_out(
            rollout.alias, rollout.target, f"was rolled back {guards.decided(hold)}"
        )
    if evidence := rollout.rejection:
        why = f"gate {evidence.gate} failed: {evidence.finding.reason}"
        return why, guards.rejected(rollout.alias, rollout.target, evidence)
    if mark := rollout.mark("abort"):
        return f"{version} was aborted by {mark.by}", guards.stays_out(
            rollout.alias, rollout.target, f"was aborted {guards.decided(mark)}"
        )
    if rollout.twin:
        why = f"{version} has the bytes of {version_of(rollout.twin.adapter)}, which was taken out"
        return why, guards.stays_out(
            rollout.alias, rollout.target, f"{guards.taken_out(rollout.twin)},"
        )
    if rollout.given_up and not (rollout.allowed("approve") or rollout.allowed("advance")):
        return f"{version} could not be judged", guards.given_up(rollout.alias, rollout.target)
    return None


def _taken_back(rollout: Situation, why: str, text: str) -> AliasTarget:
    """Keep the live route, with the target's share given to the stable version."""
    shares = dict(rollout.shares)
    had, stable = shares.get(rollout.target, 0), rollout.stable
    if rollout.on_its_way(stable):  # a rollout is no way back for what it is judged by
        stable = ""
    if had and stable:
        shares |= {rollout.target: 0, stable: shares[stable] + had}
    elif had:
        version = rollout.version
        why_not = "for none to go back to is loaded"
        text = f"{version} is out, and keeps its traffic, {why_not}"
    phase = Phase.ROLLED_BACK if had and stable else Phase.HELD
    return _target(rollout, shares, phase, why, text)


def _going(rollout: Situation) -> AliasTarget:
    """Decide for a target that may have traffic."""
    percent, stage, latest = rollout.percent, rollout.stage, rollout.latest
    if percent == FULL:
        soaking = any(not percent for percent in rollout.shares.values())
        return _target(rollout, rollout.shares, Phase.SOAKING if soaking else Phase.COMPLETE, "")
    if stage is not None and stage.percent > 0 and stage.percent != percent:
        why = f"the live route gives {rollout.version} {percent} %, set by hand"
        text = (
            f"its route was changed by hand, {rollout.version} has {percent} % "
            f"and not {stage.percent} %. It stays as it is; to go on from there: "
            f"fleetctl release {rollout.alias}"
        )
        return _target(rollout, rollout.shares, Phase.EDITED, why, text)
    if latest is not None and _declared_again(rollout):
        shares = {**dict.fromkeys(rollout.shares, 0), rollout.target: FULL}
        replaced = version_of(latest.adapter)
        why = f"{rollout.version} is declared again and takes over from {replaced}"
        return _target(rollout, rollout.ordered(shares), Phase.RETURNED, why)
    return _staged(rollout) if percent else _beginning(rollout)


def _declared_again(rollout: Situation) -> bool:
    """Say whether the target serves beside a rollout that the ledger left half-way."""
    return rollout.percent > 0 and any(
        rollout.on_its_way(name) for name in rollout.shares if name != rollout.target
    )


def _beginning(rollout: Situation) -> AliasTarget:
    """Give the target its first weight, or load the target and name the obstacle."""
    version, stable = rollout.version, rollout.stable
    weight = rollout.first_weight if stable else FULL
    other_shares = dict.fromkeys(rollout.shares, 0)
    offline = [result for result in rollout.judged if result.gate.offline] if stable else []
    phase, text = _obstacle(rollout, offline, f"{version} waits at 0 %{_void(rollout)}")
    if stable and phase is None and stable not in rollout.fleet.versions:
        text = (
            f"{version} is not begun: {version_of(stable)} is not in the lock, so it "
            "could not be loaded again to go back to"
        )
        return _target(rollout, rollout.shares, Phase.WAITING, "", text)
    if phase is not None:
        shares = rollout.ordered(
            {**other_shares, stable: FULL, rollout.target: 0} if stable else rollout.shares
        )
        why = f"{version} is declared and judged before it gets traffic"
        return _target(rollout, shares, phase, why, text)
    stable_share = {stable: FULL - weight} if stable else {}
    shares = rollout.ordered({**other_shares, **stable_share, rollout.target: weight})
    waited = rollout.stage is not None and rollout.target in rollout.shares
    why = f"{version} is declared and begins at {weight} %"
    if waited and offline:
        said = rollout.mark("advance") or rollout.mark("approve")
        why = guards.begins(version, weight, offline, said)
    begun = waited and (offline or rollout.policy.no_promote)  # an earlier plan asked for it
    phase = Phase.ADVANCED if begun else Phase.STARTED
    return replace(_target(rollout, shares, phase, why), salt=rollout.target)


def _staged(rollout: Situation) -> AliasTarget:
    """Move the target to the next weight, or name the obstacle."""
    stage, percent, version = rollout.stage, rollout.percent, rollout.version
    at = f"{version} stays at {percent} %{_void(rollout)}"
    if stage is None:
        text = f"{at}: the ledger does not say since when. To start its bake: fleetctl adopt"
        return _target(rollout, rollout.shares, Phase.WAITING, "", text)
    ready = stage.since + rollout.policy.bake
    phase, text = _obstacle(rollout, rollout.judged, at, ready)
    if phase is Phase.UNDECIDED and rollout.policy.when_unsure == "roll_back" and rollout.stable:
        why = f"{version} could not be judged"
        return _taken_back(rollout, why, guards.given_up(rollout.alias, rollout.target))
    if phase is not None:
        return _target(rollout, rollout.shares, phase, "", text)
    weight = min((later for later in rollout.policy.weights if later > percent), default=FULL)
    stable_share = {rollout.stable: FULL - weight} if rollout.stable else {}
    shares = {**dict.fromkeys(rollout.shares, 0), **stable_share, rollout.target: weight}
    why = f"{version} has baked at {percent} % and goes to {weight} %"
    if rollout.allowed("advance"):
        mark = rollout.mark("advance")
        why = f"{version} goes to {weight} %: {mark.by} said so" if mark else why
    return _target(rollout, rollout.ordered(shares), Phase.ADVANCED, why)


def _obstacle(
    rollout: Situation, judged: Sequence[GateResult], at: str, ready: datetime | None = None
) -> tuple[Phase | None, str]:
    """Return the phase that keeps a version from more traffic, and why; None: nothing does.

    A person, a bake, a gate or the hour may object. Evidence for a rise is checked last, once no
    other cause objects. `at`: beginning of the sentence. `ready`: when the version has baked;
    None: without traffic nothing bakes.
    """
    if rollout.halt:
        return Phase.PAUSED, guards.halted(at, rollout.halt)
    if not rollout.allowed("advance"):
        if ready is not None and rollout.now < ready:
            return Phase.WAITING, f"{at}, baking until {guards.time(ready)}"
        unsure = [
            result for result in judged if not result.passed and not _approved(rollout, result)
        ]
        if unsure:
            return _unsure(rollout, unsure, f"{at}: {guards.open_gates(unsure)}", ready)
        if until := closed_until(rollout.policy, rollout.now):
            text = f"{at}: no version gets more traffic until {guards.time(until)}"
            return Phase.WAITING if ready else Phase.EVALUATING, text
    if why := _doubt(rollout, judged):
        return Phase.DOUBTED, f"{at}: {why}"
    return None, ""


def _doubt(rollout: Situation, judged: Iterable[GateResult]) -> str:
    evidence = [result.evidence for result in judged if result.evidence is not None]
    said = (rollout.mark(word) for word in ("advance", "approve") if rollout.allowed(word))
    return doubt(rollout.history, evidence, rollout.now, filter(None, said))


def _unsure(
    rollout: Situation, unsure: list[GateResult], text: str, ready: datetime | None
) -> tuple[Phase, str]:
    """Decide whether undecided gates may still decide, or a person has to."""
    if ready is None:  # a golden set says the same tomorrow
        if all(result.status == Verdict.INCONCLUSIVE for result in unsure):
            return Phase.UNDECIDED, f"{text}. {guards.decide(rollout.alias, begun=False)}"
        return Phase.EVALUATING, text
    end = ready - rollout.policy.bake + rollout.policy.longest_bake
    extended = rollout.mark("extend") if rollout.allowed("extend") else None
    if extended is not None:  # as long again, from when it was said
        end = max(end, extended.at + rollout.policy.longest_bake)
    if rollout.now < end:
        return Phase.EXTENDED, f"{text}; goes on until {guards.time(end)}"
    counts = [result.evidence.finding.counts for result in rollout.judged if result.evidence]
    longest, begun = rollout.policy.longest_bake, end - rollout.policy.longest_bake
    if not is_over(longest, rollout.now - begun, *traffic_of(counts)):
        latest = guards.time(begun + MOST * longest)
        return Phase.EXTENDED, f"{text}; goes on, for there was little traffic: until {latest}"
    return Phase.UNDECIDED, f"{text}. {guards.decide(rollout.alias)}"


def _void(rollout: Situation) -> str:
    """Say which mark on this stage no longer counts; empty: none."""
    return guards.void(rollout.void) if rollout.void else ""


def _approved(rollout: Situation, judged: GateResult) -> bool:
    """Say whether a person let this stage go on, or all stages whatever a golden set said."""
    if rollout.allowed("approve") and not judged.void:  # no person has looked at the bytes of now
        return True
    marks = [mark for mark in (rollout.mark("approve"), rollout.mark("advance")) if mark]
    evidence = judged.evidence
    is_answered = evidence is not None and any(evidence.seq < mark.seq for mark in marks)
    return judged.gate.offline and is_answered


def _without_retired(rollout: Situation, target: AliasTarget, *, stopped: bool) -> AliasTarget:
    """Drop versions that have had no share for as long as they are retained."""

    def over(adapter: str, percent: int) -> bool:
        hold = rollout.holds.get(adapter)
        since = rollout.history.cutovers.get(adapter) or (hold.at if hold else None)
        is_target = adapter == target.target and not stopped
        if is_target or percent or rollout.shares.get(adapter) != 0 or since is None:
            return False
        return rollout.now - since >= rollout.policy.retain

    return replace(target, shares=tuple(share for share in target.shares if not over(*share)))


def _gates(rollout: Situation, target: AliasTarget) -> tuple[GateDue, ...]:
    if target.phase not in _GATED or dict(target.shares).get(target.target) == FULL:
        return ()
    return tuple(result.due(rollout.alias) for result in rollout.judged)


def _target(
    rollout: Situation,
    shares: Mapping[str, int] | tuple[tuple[str, int], ...],
    phase: Phase,
    why: str,
    reason: str = "",
) -> AliasTarget:
    listed = tuple(shares.items()) if isinstance(shares, Mapping) else shares
    return AliasTarget(
        rollout.alias, rollout.target, listed, rollout.route.salt, phase, why, reason
    )
