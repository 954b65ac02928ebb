"""Lists the stages that a rollout has ahead once a plan is applied."""

from operator import itemgetter

from fleet.gates import Verdict, percent_text
from fleet.history import History
from fleet.names import version_of
from fleet.plan import NO_EVIDENCE, Chances, GateDue, PlanNote, RolloutAhead
from fleet.rollouts.situation import first_weight_of
from fleet.rollouts.stage_traffic import stage_traffic
from fleet.rollouts.targets import AliasTarget, Phase
from fleet.spec import FleetSpec

_MOVES = (Phase.EVALUATING, Phase.STARTED, Phase.ADVANCED)


def outlook(wanted: AliasTarget, chances: Chances) -> PlanNote:
    """Return the likely ends of a rollout as a note."""
    text = (
        f"if {version_of(wanted.target)} is no worse, it is promoted by itself "
        f"with {percent_text(chances.promoted)}, held for people with {percent_text(chances.held)}"
        f", failed by mistake with {percent_text(chances.failed)}"
    )
    return PlanNote(text, wanted.alias)


def rollout_ahead(
    fleet: FleetSpec,
    wanted: AliasTarget,
    gates: tuple[GateDue, ...],
    chances: Chances | None,
    history: History | None,
) -> RolloutAhead | None:
    """Return the stages that follow the plan's own; None: the plan begins or moves no rollout.

    Chances are unknown where traffic is to decide and no demand is declared. Without `history`
    nothing is said of the traffic.
    """
    if wanted.phase not in _MOVES:
        return None
    adapter, now = fleet.adapters[wanted.alias], dict(wanted.shares).get(wanted.target, 0)
    rollout = fleet.rollouts[adapter.rollout]
    first = first_weight_of(rollout, adapter)
    later = [weight for weight in rollout.weights if weight > max(now, 0 if now else first)]
    weights = (*(() if now else (first,)), *later)
    if not weights:
        return None
    unsure = [gate for gate in gates if gate.status in (NO_EVIDENCE, Verdict.INCONCLUSIVE)]
    blind = adapter.demand is None and any(not fleet.gates[gate.gate].offline for gate in unsure)
    traffic = stage_traffic(fleet, wanted.alias, history, now or first) if history else None
    others = [share for share in wanted.shares if share[0] != wanted.target and share[1]]
    return RolloutAhead(
        wanted.target,
        max(others, key=itemgetter(1))[0] if others else "",
        now,
        weights,
        rollout.bake.total_seconds(),
        begins=wanted.phase is not Phase.ADVANCED,
        golden=tuple(gate.gate for gate in unsure if fleet.gates[gate.gate].offline),
        gated=bool(rollout.gates),
        closed=tuple(window.text for window in rollout.no_promote),
        chances=None if blind or chances is None else _rounded(chances),
        longest_s=rollout.longest_bake.total_seconds(),
        needed=traffic.needed if traffic else None,
        needed_s=traffic.needed_s if traffic else None,
    )


def _rounded(chances: Chances) -> Chances:
    """Return chances to a tenth of a percent, which are the same on every machine."""
    return Chances(*(round(part, 3) for part in (chances.promoted, chances.held, chances.failed)))
