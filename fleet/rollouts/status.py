"""Rollouts as they stand, for people: target, live shares, stage, marks and evidence."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from fleet.history import GateEvidence, History, RolloutMark, RolloutStage, blocks_on, kept_out
from fleet.policies import RolloutPolicy
from fleet.resources import FULL, Route
from fleet.rollouts.stage_traffic import StageTraffic, stage_traffic
from fleet.rollouts.targets import AliasTarget, Phase
from fleet.spec import FleetSpec

ONWARD: Final = ("approve", "advance", "extend")
"""Marks that wait for the end of a hold or a pause, and for a loaded version."""


class MarkRefusal(Enum):
    """Why a mark of a person on a rollout is refused."""

    COMPLETE = auto()
    """The version answers all requests."""
    KEPT_OUT = auto()
    """The version, or its bytes under another name, wait for `release`."""


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """A rollout of an alias, as target, live route and ledger show the rollout."""

    target: AliasTarget
    policy: RolloutPolicy
    shares: Mapping[str, int]
    """Live percent by full adapter name."""
    stage: RolloutStage | None
    """The stage of the target's version; None: the ledger has no stage."""
    half_way: str
    """Full name of another version that is half-way; empty: there is none."""
    released: bool
    """Whether no block keeps the version out."""
    marks: Mapping[str, RolloutMark]
    """By word: marks on the target's version."""
    evidence: Mapping[str, GateEvidence]
    """By gate: the newest verdict for the alias."""
    traffic: StageTraffic | None = None
    """The expected traffic of the stage; None: unknown, or no gate asks for any."""

    @property
    def percent(self) -> int:
        """Live share of the target's version."""
        return self.shares.get(self.target.target, 0)

    def for_mark(self, word: str) -> "RolloutStatus":
        """Return the status of the version that a mark is for.

        An abort is for the version that is half-way, also where the file asks for another by now.
        """
        if word != "abort" or not self.half_way:
            return self
        target = replace(self.target, target=self.half_way, phase=Phase.WAITING)
        return replace(self, target=target, half_way="", released=True)

    def refusal(self, word: str) -> MarkRefusal | None:
        """Return why a mark on the version is refused; None: the mark may be written down."""
        soaks = word == "abort" and self.target.phase is Phase.SOAKING
        if self.percent == FULL and not soaks:
            return MarkRefusal.COMPLETE
        return None if self.released else MarkRefusal.KEPT_OUT


def rollout_statuses(
    fleet: FleetSpec,
    targets: Mapping[str, AliasTarget],
    history: History,
    routes: Mapping[str, Route],
) -> dict[str, RolloutStatus]:
    """Return the rollouts of all aliases; `targets` and the live `routes` are by alias."""
    return {
        alias: _status(fleet, target, history, routes.get(alias))
        for alias, target in sorted(targets.items())
    }


def _status(
    fleet: FleetSpec, target: AliasTarget, history: History, route: Route | None
) -> RolloutStatus:
    alias = target.alias
    shares = {share.adapter: share.percent for share in route.shares} if route else {}
    stage = history.stages.get(alias)
    target_stage = stage if stage is not None and stage.adapter == target.target else None
    percent = shares.get(target.target, 0) if target_stage else 0
    is_other = stage is not None and target_stage is None and stage.is_half_way(shares)
    return RolloutStatus(
        target=target,
        policy=fleet.rollouts[fleet.adapters[alias].rollout],
        shares=shares,
        stage=target_stage,
        half_way=stage.adapter if stage is not None and is_other else "",
        released=not _is_kept_out(fleet, target, history),
        marks={m.mark: m for m in history.marks.get(alias, ()) if m.adapter == target.target},
        evidence={judged.gate: judged for judged in history.evidence.get(alias, ())},
        traffic=stage_traffic(fleet, alias, history, percent),
    )


def _is_kept_out(fleet: FleetSpec, target: AliasTarget, history: History) -> bool:
    """Say whether the version, or its bytes under another name, wait for `release`."""
    facts = fleet.versions.get(target.target)
    digest = facts.digest if facts else ""
    # A version with all traffic was put there.
    stopped = target.phase in (Phase.HELD, Phase.ROLLED_BACK)
    named = stopped or target.target in kept_out(history, target.alias)
    return named and bool(blocks_on(history, fleet.versions, target.alias, target.target, digest))
