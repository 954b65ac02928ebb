"""Situation: one alias as it stands, with all that its pace is decided by."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from fleet.conditions import Rollout
from fleet.declared import Adapter, Fleet
from fleet.demand import hourly_rpm
from fleet.history import (
    Evidence,
    History,
    Hold,
    Mark,
    Stage,
    accepted,
    rejection,
    twins,
    ways_back,
)
from fleet.names import AdapterName
from fleet.pace.gating import Judged, current, gates_of
from fleet.resources import FULL, Route

RECOMMENDED = 500
"""Requests of the new version that a stage needs to tell a few points' rise."""


@dataclass(frozen=True)
class Situation:
    """An alias that has a route."""

    fleet: Fleet
    adapter: Adapter
    route: Route
    history: History
    now: datetime
    other_bytes: bool
    """Whether a server holds other bytes under the target's name."""

    @property
    def alias(self) -> str:
        """What the client calls."""
        return self.adapter.alias

    @cached_property
    def target(self) -> str:
        """Full name of the declared version."""
        return str(self.adapter.name)

    @property
    def rollout(self) -> Rollout:
        """The pace that is asked for."""
        return self.fleet.rollouts[self.adapter.rollout]

    @cached_property
    def shares(self) -> Mapping[str, int]:
        """Percent by full name, as the live route has them."""
        return {each.adapter: each.percent for each in self.route.shares}

    @property
    def percent(self) -> int:
        """The target's live share."""
        return self.shares.get(self.target, 0)

    @property
    def latest(self) -> Stage | None:
        """The stage that the ledger knows, of whichever version."""
        return self.history.stages.get(self.alias)

    @property
    def stage(self) -> Stage | None:
        """The target's stage; None: the ledger does not know one."""
        latest = self.latest
        return latest if latest is not None and latest.adapter == self.target else None

    def on_its_way(self, adapter: str) -> bool:
        """Say whether a version has the share of a stage that it has not left."""
        latest = self.latest
        return latest is not None and latest.adapter == adapter and latest.is_half_way(self.shares)

    @property
    def digest(self) -> str:
        """Of the target's bytes, as the lock pins them; empty: not locked."""
        facts = self.fleet.versions.get(self.target)
        return facts.digest if facts else ""

    @cached_property
    def holds(self) -> Mapping[str, Hold]:
        """Versions that stay out; without the target where an override lifts its gate's hold."""
        found = self.history.holds.get(self.alias, {})
        own = found.get(self.target)
        if own is None or not self._lifted(own):
            return found
        return {name: each for name, each in found.items() if name != self.target}

    @cached_property
    def rejection(self) -> Evidence | None:
        """The evidence that keeps the target out."""
        return rejection(
            self.history, self.fleet.overrides, self.alias, self.target, self.digest, self.now
        )

    @cached_property
    def twin(self) -> Hold | Mark | None:
        """What keeps the target's bytes out under another name, of the version taken out first.

        A version that answers all requests was put there, and is nobody's way past a hold.
        """
        if self.percent == FULL:
            return None
        found = twins(self.history, self.fleet.versions, self.alias, self.target, self.digest)
        return next((each for each in found if not self._lifted(each)), None)

    def _lifted(self, out: Hold | Mark) -> bool:
        """Say whether an override accepts what a gate took out; a person's word it never lifts."""
        return isinstance(out, Hold) and bool(out.gate) and bool(self.accepts(out.gate))

    def accepts(self, gate: str) -> str:
        """Return who answers for the target whatever a gate says; empty: nobody."""
        return accepted(self.fleet.overrides, self.alias, self.digest, gate, self.now)

    def mark(self, word: str) -> Mark | None:
        """Return what a person said of the target, if it was this."""
        marks = self.history.marks.get(self.alias, ())
        return next((e for e in marks if (e.mark, e.adapter) == (word, self.target)), None)

    @property
    def released(self) -> bool:
        """Whether the target's bytes were kept out, let in again, and have had no traffic since."""
        let_in, versions = self.history.released.get(self.alias, ()), self.fleet.versions
        same = (versions[each].digest == self.digest for each in let_in if each in versions)
        return self.target in let_in or (bool(self.digest) and any(same))

    @property
    def given_up(self) -> bool:
        """Whether its gates could not tell in time, it lost its traffic, and nobody answers for it.

        Such a version waits for `release`, whatever was declared since. An override answers for
        it where it accepts each gate that has not passed.
        """
        fell = self.target in self.history.fell.get(self.alias, ())
        lifted = self.target in self.history.holds.get(self.alias, {})  # by its gate's override
        if self.rollout.when_unsure != "roll_back" or lifted or not fell:
            return False
        answered = any(each.accepted for each in self.judged)
        return not (answered and all(each.passed for each in self.judged))

    @property
    def halt(self) -> Mark | None:
        """The hold or the pause that keeps the target from more traffic now; a hold is longer."""
        said = (self.mark("hold"), self.mark("pause"))
        return next((each for each in said if each is not None and each.lasts(self.now)), None)

    def allowed(self, word: str) -> bool:
        """Say whether a person said this of the stage that the target is in now."""
        mark, stage = self.mark(word), self.stage
        now = (stage.entered, stage.percent) if stage else (None, None)
        return mark is not None and (mark.since, mark.percent) == now

    @cached_property
    def stable(self) -> str:
        """The version to fall back on: the oldest one that serves and is in no rollout.

        Where none serves beside the target, the newest resident one that has once answered all
        requests; empty when there is none.
        """
        rest = [each for each in self.route.shares if each.adapter != self.target]
        others = [each for each in rest if each.adapter not in self.holds] or rest
        serving = [each.adapter for each in others if each.percent > 0]
        staged = self.latest.adapter if self.latest else ""
        settled = [each for each in serving if each != staged]
        if settled or serving:
            return (settled or serving)[-1]
        back = ways_back(self.history, self.alias)
        return next((each.adapter for each in rest if each.adapter in back), "")

    @cached_property
    def judged(self) -> tuple[Judged, ...]:
        """The gates of the rollout, with what is known now.

        Where there is no other version, a golden set says what it said beside the last one.
        """
        evidence = {
            each.gate: each
            for each in self.history.evidence.get(self.alias, ())
            if not self.other_bytes
        }
        found = []
        for gate in gates_of(self.fleet, self.rollout):
            last = evidence[gate.name].stable if gate.name in evidence else ""
            beside = self.stable or last
            its = current(self.fleet, self.adapter, beside, self.stage, evidence, gate)
            found.append(Judged(gate, its, self.accepts(gate.name)))
        return tuple(found)

    @property
    def first_weight(self) -> int:
        """The share to begin with, larger where too few requests are declared to judge it by."""
        rollout = self.rollout
        weight, larger = rollout.weights[0], rollout.low_traffic
        if larger is None or self.adapter.demand is None:
            return weight
        days = rollout.longest_bake.total_seconds() / 86_400
        requests = 60 * sum(hourly_rpm(self.adapter.demand)) * days * weight / FULL
        return larger if requests < RECOMMENDED else weight

    def ordered(self, shares: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
        """Return the shares with the target first, then the others by version, newest first."""

        def rank(name: str) -> tuple[bool, object, str]:
            return name == self.target, AdapterName.parse(name).version, name

        return tuple((each, shares[each]) for each in sorted(shares, key=rank, reverse=True))
