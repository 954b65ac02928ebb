"""Gathers the facts for the decision about an alias: candidate, stable version, stage, blocks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from fleet.capacity import hourly_rpm
from fleet.history import (
    Block,
    BlockKind,
    GateEvidence,
    History,
    MarkKind,
    RolloutMark,
    RolloutStage,
    accepted,
    blocks_on,
    is_way_back,
    rejection,
)
from fleet.names import AdapterName, version_of
from fleet.policies import RolloutPolicy
from fleet.resources import FULL, Route
from fleet.rollouts.evidence import Comparison, gates_of
from fleet.rollouts.targets import GateResult
from fleet.spec import AdapterSpec, FleetSpec

RECOMMENDED = 500
"""Requests of the new version that a stage needs to tell a few points' rise."""


@dataclass(frozen=True)
class Situation:
    """An alias that has a route."""

    fleet: FleetSpec
    adapter: AdapterSpec
    route: Route
    history: History
    now: datetime
    altered: frozenset[str]
    """Versions of which a server holds other bytes than the lock pins."""
    base: str = ""
    """Stands for the engine that serves the target, its version and flags; empty: not known."""

    @property
    def alias(self) -> str:
        """Name that the client calls."""
        return self.adapter.alias

    @cached_property
    def target(self) -> str:
        """Full name of the declared version."""
        return str(self.adapter.name)

    @property
    def version(self) -> str:
        """The declared version, without its alias."""
        return version_of(self.target)

    @property
    def policy(self) -> RolloutPolicy:
        """The pace that is asked for."""
        return self.fleet.rollouts[self.adapter.rollout]

    @cached_property
    def shares(self) -> Mapping[str, int]:
        """Percent by full name, as the live route has them."""
        return {share.adapter: share.percent for share in self.route.shares}

    @property
    def percent(self) -> int:
        """The target's live share."""
        return self.shares.get(self.target, 0)

    @property
    def latest(self) -> RolloutStage | None:
        """The stage that the ledger knows, of whichever version."""
        return self.history.stages.get(self.alias)

    @property
    def stage(self) -> RolloutStage | None:
        """The target's stage; None: the ledger does not know one."""
        latest = self.latest
        return latest if latest is not None and latest.adapter == self.target else None

    def on_its_way(self, adapter: str) -> bool:
        """Say whether a version has the share of a stage that is not over."""
        latest = self.latest
        return latest is not None and latest.adapter == adapter and latest.is_half_way(self.shares)

    @property
    def digest(self) -> str:
        """Of the target's bytes, as the lock pins them; empty: not locked."""
        facts = self.fleet.versions.get(self.target)
        return facts.digest if facts else ""

    @cached_property
    def holds(self) -> Mapping[str, Block]:
        """Versions that stay out; without the target where its bytes are others or let in again.

        An override lets in a version that a gate has taken out.
        """
        holds_by_version = self.history.holds.get(self.alias, {})
        target_hold = holds_by_version.get(self.target)
        if target_hold is None or (target_hold in self._out and not self._lifted(target_hold)):
            return holds_by_version
        return {name: block for name, block in holds_by_version.items() if name != self.target}

    @cached_property
    def rejection(self) -> GateEvidence | None:
        """The evidence that keeps the target out."""
        return rejection(
            self.history, self.fleet.overrides, self.alias, self.target, self.digest, self.now
        )

    @cached_property
    def twin(self) -> Block | None:
        """The oldest block on the target's bytes under another name.

        A version that answers all requests was put there on purpose, and is no way past a hold.
        """
        if self.percent == FULL:
            return None
        equal_blocks = (block for block in self._out if block.adapter != self.target)
        return next((block for block in equal_blocks if not self._lifted(block)), None)

    @cached_property
    def _out(self) -> tuple[Block, ...]:
        return self._blocks(BlockKind.HELD, BlockKind.ABORTED)

    def _blocks(self, *kinds: BlockKind) -> tuple[Block, ...]:
        versions = self.fleet.versions
        return blocks_on(self.history, versions, self.alias, self.target, self.digest, kinds)

    def _lifted(self, block: Block) -> bool:
        """Say whether an override accepts the bytes that a gate blocked; never a person's block."""
        return bool(block.gate) and bool(self.accepts(block.gate))

    def accepts(self, gate: str) -> str:
        """Return the override that accepts the target in spite of a gate; empty: none."""
        return accepted(self.fleet.overrides, self.alias, self.digest, gate, self.now)

    def mark(self, word: MarkKind) -> RolloutMark | None:
        """Return a person's mark on the target's bytes.

        Holds and pauses are of the name: a change of bytes does not end them.
        """
        marks = self.history.marks.get(self.alias, ())
        newest = next((e for e in marks if (e.mark, e.adapter) == (word, self.target)), None)
        if newest is None or word in ("hold", "pause"):
            return newest
        other = newest.digest and self.digest and newest.digest != self.digest
        return None if other else newest

    @property
    def released(self) -> bool:
        """Whether the target's bytes were kept out, let in again, and have had no traffic since."""
        let_in, versions = self.history.released.get(self.alias, ()), self.fleet.versions
        same = (versions[name].digest == self.digest for name in let_in if name in versions)
        return self.target in let_in or (bool(self.digest) and any(same))

    @property
    def given_up(self) -> bool:
        """Whether gates could not tell in time, traffic was lost, and no override accepts this.

        Such bytes wait for `release`, whatever was declared since and under whichever name. An
        override answers for them where it accepts each gate that has not passed.
        """
        fell = {block.adapter for block in self._blocks(BlockKind.ROLLED_BACK)}
        if self.stage is not None and self.stage.percent:  # let in under this name
            fell &= {self.target}
        lifted = self.target in self.history.holds.get(self.alias, {})  # by its gate's override
        if self.policy.when_unsure != "roll_back" or lifted or not fell:
            return False
        answered = any(result.accepted for result in self.judged)
        return not (answered and all(result.passed for result in self.judged))

    @property
    def halt(self) -> RolloutMark | None:
        """The hold or the pause that keeps the target from more traffic now; a hold is longer."""
        said = (self.mark("hold"), self.mark("pause"))
        return next((mark for mark in said if mark is not None and mark.lasts(self.now)), None)

    def allowed(self, word: MarkKind) -> bool:
        """Say whether a person said this of the stage that the target is in now."""
        mark = self._of_stage(word)
        return mark is not None and mark.void is None

    @property
    def void(self) -> RolloutMark | None:
        """The approval or advance from before this stage began anew; a newer mark counts."""
        said = (self._of_stage("approve"), self._of_stage("advance"))
        return next((mark for mark in said if mark is not None and mark.void), None)

    def _of_stage(self, word: MarkKind) -> RolloutMark | None:
        mark, stage = self.mark(word), self.stage
        now = (stage.entered, stage.percent) if stage else (None, None)
        return mark if mark is not None and (mark.since, mark.percent) == now else None

    @cached_property
    def stable(self) -> str:
        """The version to fall back on: the oldest one that serves and is in no rollout.

        Where none serves beside the target, the newest resident one that has once answered all
        requests; empty when there is none.
        """
        other_shares = [share for share in self.route.shares if share.adapter != self.target]
        free = [share for share in other_shares if share.adapter not in self.holds] or other_shares
        serving = [other.adapter for other in free if other.percent > 0]
        staged = self.latest.adapter if self.latest else ""
        settled = [name for name in serving if name != staged]
        if settled or serving:
            return (settled or serving)[-1]
        versions = self.fleet.versions
        names = (share.adapter for share in other_shares)
        return next((e for e in names if is_way_back(self.history, versions, self.alias, e)), "")

    @cached_property
    def judged(self) -> tuple[GateResult, ...]:
        """The gates of the rollout, with the evidence that counts now.

        Without another version, the verdict of a golden set beside the last version stays.
        """
        evidence = {
            item.gate: item
            for item in self.history.evidence.get(self.alias, ())
            if self.altered.isdisjoint((self.target, self.stable))
        }
        results = []
        for gate in gates_of(self.fleet, self.adapter):
            last = evidence[gate.name].stable if gate.name in evidence else ""
            beside = self.stable or last
            comparison = Comparison(self.fleet, self.adapter, self.target, beside, self.base)
            result = comparison.judged(self.stage, evidence, gate)
            results.append(replace(result, accepted=self.accepts(gate.name)))
        return tuple(results)

    @property
    def first_weight(self) -> int:
        """The first share, larger where too few requests are declared for a verdict."""
        return first_weight_of(self.policy, self.adapter)

    def ordered(self, shares: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
        """Return the shares with the target first, then the others by version, newest first."""

        def rank(name: str) -> tuple[bool, object, str]:
            return name == self.target, AdapterName.parse(name).version, name

        return tuple((name, shares[name]) for name in sorted(shares, key=rank, reverse=True))


def first_weight_of(rollout: RolloutPolicy, adapter: AdapterSpec) -> int:
    """Return the first share of a rollout, larger where too few requests are declared."""
    weight, larger = rollout.weights[0], rollout.low_traffic
    if larger is None or adapter.demand is None:
        return weight
    days = rollout.longest_bake.total_seconds() / 86_400
    requests = 60 * sum(hourly_rpm(adapter.demand)) * days * weight / FULL
    return larger if requests < RECOMMENDED else weight
