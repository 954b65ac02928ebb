"""The laws of a rollout: each looks at one tick, of whatever story led to it.

They are told in terms of bytes, engines and entries, and ask nothing of the code that they judge.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fleet.gates.decide import Verdict
from fleet.history.values import History
from fleet.rollouts.decide import decide_rollouts
from fleet.rollouts.targets import AliasTarget, Phase
from tests.fleet.planning.builders import DAY, NOON, digest_of
from tests.fleet.rollouts.gate_trials import ALIAS, GATED, NEW
from tests.fleet.rollouts.rollout_world import GATES, WEIGHTS, World, bytes_of


@dataclass(frozen=True)
class Tick:
    """What stood, what was asked, and what the pace said."""

    world: World
    shares: dict[str, int]
    history: History
    said: AliasTarget

    @property
    def target(self) -> str:
        return self.world.target

    @property
    def before(self) -> int:
        return self.shares.get(self.target, 0)

    @property
    def after(self) -> int:
        return dict(self.said.shares).get(self.target, 0)

    @property
    def staged(self) -> bool:
        """Whether the version goes up by its stages, and is not simply the one that stays."""
        return self.after > self.before and self.said.phase in (Phase.STARTED, Phase.ADVANCED)

    @property
    def accepted(self) -> bool:
        """Whether an override answers for the bytes, whatever a gate says."""
        return self.world.overridden and self.world.digest == digest_of(NEW)

    def said_of(self, *words: str) -> bool:
        """Say whether a person has said one of these of the bytes, in a stage that still counts."""
        return any(
            each.mark in words and each.adapter == self.target and each.void is None
            for each in self.history.marks.get(ALIAS, ())
        )

    def passed(self, gate: str) -> bool:
        """Say whether a gate has passed for what serves now, under the limit of now."""
        facts, margins = self.world.facts, {each.name: each.margin for each in self.world.gates}
        about = {"adapter": self.world.digest, **facts}
        return any(
            each.gate == gate and each.adapter == self.target
            and each.finding.verdict is Verdict.PASS
            and each.finding.parameters["margin"] == margins[gate]
            and all(each.digests.get(key, its) == its for key, its in about.items()
                    if gate == "accuracy" or key != "golden")
            for each in self.history.evidence.get(ALIAS, ())
        )  # fmt: skip

    def approved(self, gate: str) -> bool:
        """Say whether a person let it go on who knew what serves now, or nothing was measured."""
        facts, judged = self.world.facts, False
        for each in self.world.entries:
            if each.document().get("adapter") != self.target:
                continue
            if each.event.kind == "gate_judged" and each.document()["gate"] == gate:
                judged = True
            about = self.world.said_of.get(each.seq, {})
            known = all(about.get(key, its) == its for key, its in facts.items()
                        if gate == "accuracy" or key != "golden")  # fmt: skip
            if each.document().get("mark") == "approve" and (known or not judged):
                return True
        return False


def out_of(tick: Tick) -> set[str]:
    """Return the bytes that a gate or a person took out and nobody has released."""
    held = tick.history.holds.get(ALIAS, {})
    marks = tick.history.marks.get(ALIAS, ())
    aborted = {bytes_of(each.adapter) for each in marks if each.mark == "abort"}
    return {*tick.history.rejected.get(ALIAS, {}), *map(bytes_of, held), *aborted}


def weights_are_whole(tick: Tick) -> None:
    """I1: shares sum to 100 and name only versions that the lock knows."""
    assert sum(percent for _, percent in tick.said.shares) == 100
    assert {name for name, _ in tick.said.shares} <= {*tick.world.fleet.versions}


def no_rise_without_a_pass(tick: Tick) -> None:
    """I2: more traffic takes, of each gate, a PASS about these bytes on this engine, by this golden
    set and limit; or a person who answers for them."""
    if tick.staged and not (tick.accepted or tick.said_of("advance")):
        for gate in GATES if tick.before else GATES[:1]:
            assert tick.passed(gate) or tick.approved(gate), gate


def no_rise_while_it_is_kept(tick: Tick) -> None:
    """A hold keeps a version where it is until it is resumed, a pause until its time."""
    marks = tick.history.marks.get(ALIAS, ())
    its = {each.mark: each.until for each in marks if each.adapter == tick.target}
    kept = "hold" in its or tick.world.now < (its.get("pause") or tick.world.now)
    assert not (tick.staged and kept)


def a_way_back_stays(tick: Tick) -> None:
    """I3: the version before stays loaded through the rollout and its retention."""
    served = {name for name, percent in tick.shares.items() if percent}
    kept = {name for name, _ in tick.said.shares}
    for name in {*tick.shares} - kept:
        since = tick.history.cutovers.get(name)
        hold = tick.history.holds.get(ALIAS, {}).get(name)
        idle = since or (hold.at if hold else None)
        assert name not in served
        assert idle is not None
        assert tick.world.now - idle >= GATED.retain


def one_rollout_at_a_time(tick: Tick) -> None:
    """I4: at most one version is on its way beside the one that answers the rest."""
    assert sum(percent > 0 for _, percent in tick.said.shares) <= 2


def what_is_out_stays_out(tick: Tick) -> None:
    """I6: bytes that a gate or a person took out get nothing more, under any name."""
    for name, percent in tick.said.shares:
        before = tick.shares.get(name, 0)
        accepted = tick.world.overridden and bytes_of(name) == digest_of(NEW)
        if percent > before and bytes_of(name) in out_of(tick):
            assert accepted or (before and name != tick.target), name


def what_a_gate_rejected_keeps_nothing(tick: Tick) -> None:
    """I6: nor does it keep what it has, while there is a version to go back to."""
    rejected = tick.world.digest in tick.history.rejected.get(ALIAS, {})
    if rejected and not tick.accepted and ways_back(tick):
        assert tick.after == 0


def ways_back(tick: Tick) -> list[str]:
    """Return what could serve instead of the target: no canary, and nothing that is kept out."""
    out, proven = out_of(tick), tick.history.answered_all
    return [each for each in tick.shares
            if each != tick.target and each in proven and bytes_of(each) not in out]  # fmt: skip


def an_abort_lasts_until_it_is_released(tick: Tick) -> None:
    """I6: whatever is declared, said of other versions and found in between."""
    out: set[str] = set()
    for each in tick.world.entries:
        if each.event.kind == "released":
            out.clear()
        elif each.event.kind == "rollout_marked" and each.document()["mark"] == "abort":
            out.add(each.document()["digest"])
    assert tick.world.digest not in out or tick.after <= tick.before


def what_was_taken_back_waits_for_a_person(tick: Tick) -> None:
    """I6: by whatever it was taken back, and under whatever name it is declared again."""
    answered = tick.accepted or tick.said_of("approve", "advance")
    assert answered or not (tick.staged and tick.world.digest in tick.world.taken)


def no_stage_is_skipped(tick: Tick) -> None:
    """I7: shares rise by one declared stage at a time; they may fall at any time."""
    if tick.staged:
        assert tick.after == WEIGHTS[WEIGHTS.index(tick.before) + 1]


def a_stage_bakes(tick: Tick) -> None:
    """I7, I9: however often it is asked, a stage lasts its bake unless a person says otherwise."""
    if tick.staged and tick.before and not tick.said_of("advance"):
        stage = tick.history.stages[ALIAS]
        assert tick.world.now - stage.since >= tick.world.rollout.bake


def only_what_has_proven_itself_goes_up_besides(tick: Tick) -> None:
    """I3: nobody is sent to a version that is not declared and never answered all requests."""
    for name, percent in tick.said.shares:
        if name != tick.target and percent > tick.shares.get(name, 0):
            assert name in tick.history.answered_all


def only_a_failure_or_a_person_takes_away(tick: Tick) -> None:
    """I5: silence takes nothing back, unless it is declared so."""
    if tick.before > tick.after:
        ends = tick.world.rollout.when_unsure == "roll_back"
        assert ends or tick.world.digest in out_of(tick)


def the_same_question_has_the_same_answer(tick: Tick) -> None:
    """I9: the pace is a function of its arguments, and asking again at once changes nothing."""
    assert tick.world.wanted() == tick.said
    earlier = decide_rollouts(
        tick.world.fleet, tick.world.state, tick.history, NOON - 99 * DAY
    ).wanted[ALIAS]
    if not tick.said_of("advance", "approve") and earlier.phase is not Phase.RETURNED:
        assert dict(earlier.shares).get(tick.target, 0) <= max(tick.before, tick.after)


LAWS: tuple[Callable[[Tick], None], ...] = (
    weights_are_whole,
    no_rise_without_a_pass,
    no_rise_while_it_is_kept,
    a_way_back_stays,
    one_rollout_at_a_time,
    what_is_out_stays_out,
    what_a_gate_rejected_keeps_nothing,
    an_abort_lasts_until_it_is_released,
    what_was_taken_back_waits_for_a_person,
    no_stage_is_skipped,
    a_stage_bakes,
    only_what_has_proven_itself_goes_up_besides,
    only_a_failure_or_a_person_takes_away,
    the_same_question_has_the_same_answer,
)
