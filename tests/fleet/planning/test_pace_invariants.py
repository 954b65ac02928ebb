"""What holds of every rollout, whatever is found, said and declared, and whenever it is asked."""

from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.canonical import plain
from fleet.conditions import Rollout
from fleet.declared import Fleet
from fleet.gates import Verdict
from fleet.history import Entry, History, fold, kept_out
from fleet.pace import Phase, Wanted, pace
from fleet.plan import SetRoute
from fleet.resources import Route, Share, State
from tests.fleet.planning.builders import DAY, NOON, digest_of, route, state
from tests.fleet.planning.trials import (
    ALIAS,
    GATED,
    NEW,
    NEXT,
    OLD,
    declared,
    finding,
    override,
)

HOUR = timedelta(hours=1)
WEIGHTS = (0, *GATED.weights)
RISES = (Phase.FIRST, Phase.STARTED, Phase.ADVANCED, Phase.RETURNED)
STAGES = (Phase.STARTED, Phase.ADVANCED)


@dataclass
class World:
    """A fleet that does what its plans say, and writes it down."""

    now: datetime = NOON
    target: str = OLD
    overridden: bool = False
    rollout: Rollout = GATED
    taken: set[str] = field(default_factory=set)
    """Versions that lost their traffic, until they are released or begin again."""
    live: Route = field(default_factory=lambda: route(ALIAS, (OLD, 100, "s")))
    entries: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.routed(self.live)

    @property
    def fleet(self) -> Fleet:
        given = (override(date(2030, 1, 1), accept=digest_of(NEW)),) if self.overridden else ()
        return declared(self.target, rollout=self.rollout, overrides=given)

    @property
    def history(self) -> History:
        return fold(self.entries)

    @property
    def state(self) -> State:
        return state(self.live)

    @property
    def shares(self) -> dict[str, int]:
        return {each.adapter: each.percent for each in self.live.shares}

    def write(self, kind: str, **data: Any) -> None:
        seq = len(self.entries) + 1
        self.entries.append(Entry(seq, self.now, kind, "run", "ana", 1, data, "", ""))

    def routed(self, made: Route) -> None:
        step = {"step": f"set {made.address}", "address": made.address}
        self.write("step_started", **step, operation=plain(SetRoute(made)))
        self.write("step_finished", **step, how="done")
        self.live = made

    def wanted(self) -> Wanted:
        return pace(self.fleet, self.state, self.history, self.now).wanted[ALIAS]

    def judge(self, gate: str, verdict: Verdict, digest: str = "") -> None:
        stage = self.history.stages.get(ALIAS)
        since = stage.since if stage and stage.adapter == self.target else self.now
        bytes_of = digest or digest_of(self.target)
        stable = OLD if self.target != OLD else NEW
        self.write(
            "gate_judged", alias=ALIAS, adapter=self.target, stable=stable,
            percent=self.shares.get(self.target, 0), gate=gate,
            finding=finding(gate, verdict).plain(), since=since.isoformat(), fingerprint="vllm",
            digests={"adapter": bytes_of, "stable": digest_of(stable), "golden": "9" * 64},
        )  # fmt: skip

    def tick(self) -> None:
        """Plan, check what must hold, and do what the plan says."""
        before, history, made = self.shares, self.history, self.wanted()
        after = dict(made.shares)
        check(self, before, history, made)
        if made.phase is Phase.ROLLED_BACK:
            self.taken.add(self.target)
        elif after.get(self.target, 0) > before.get(self.target, 0):
            self.taken.discard(self.target)
        if made.shares != tuple(before.items()) or made.salt != self.live.salt:
            shares = tuple(Share(name, percent, ("s",)) for name, percent in made.shares)
            self.routed(Route(ALIAS, shares, made.salt))
        again = self.wanted()
        assert dict(again.shares) == after, "a second run at the same time changes nothing"


def check(world: World, before: dict[str, int], history: History, made: Wanted) -> None:
    after, target = dict(made.shares), world.target
    risen, last = after.get(target, 0), before.get(target, 0)
    assert sum(after.values()) == 100
    assert sum(share > 0 for share in after.values()) <= 2, "one rollout at a time"
    assert made == world.wanted(), "the same question has the same answer"
    back = pace(world.fleet, world.state, history, NOON - 99 * DAY).wanted[ALIAS]
    if risen > last:
        assert made.phase in RISES
        if made.phase in STAGES:
            assert WEIGHTS[WEIGHTS.index(last) + 1] == risen, "no stage is skipped"
            assert permitted(world, history), "nothing rises without a PASS or a person"
            assert not halted(world, history), "nothing rises while a person keeps it"
    for name, share in after.items():
        if name != target and share > before.get(name, 0):
            assert name in history.answered_all, "nothing that is not declared goes up unproven"
    if last and risen < last:
        stopped = any(each.mark == "abort" for each in history.marks.get(ALIAS, ()))
        held = target in history.holds.get(ALIAS, {})
        ends = world.rollout.when_unsure == "roll_back"
        stopped = stopped or held or ends
        assert stopped or history.rejected.get(ALIAS), "only a FAIL or a person takes away"
    said = {each.mark for each in history.marks.get(ALIAS, ()) if each.adapter == target}
    if not said & {"advance", "approve"}:
        assert dict(back.shares).get(target, 0) <= max(last, risen), "a clock that goes back"
    for gone in {*before} - {*after}:  # that had its time as a way back when it left
        idle = history.cutovers.get(gone)
        assert idle is not None, "a way back is kept"
        assert world.now - idle >= GATED.retain, "a way back is kept"
    answered = world.overridden and target == NEW
    if digest_of(target) in history.rejected.get(ALIAS, {}) and not answered:
        assert risen <= last
        assert risen == 0 or not ways_back(before, target, history), "rejected bytes stay out"


def ways_back(shares: dict[str, int], target: str, history: History) -> list[str]:
    """Return what could serve instead of the target: no canary, and nothing that is kept out."""
    proven = history.answered_all - kept_out(history, ALIAS)
    return [each for each in shares if each != target and each in proven]


def halted(world: World, history: History) -> bool:
    """Say whether a hold stands, or a pause that is not over."""
    found = history.marks.get(ALIAS, ())
    its = {each.mark: each.until for each in found if each.adapter == world.target}
    return "hold" in its or world.now < (its.get("pause") or world.now)


def permitted(world: World, history: History) -> bool:
    """Say whether each gate passed for these bytes, or a person answers for it."""
    marks = {each.mark for each in history.marks.get(ALIAS, ()) if each.adapter == world.target}
    if marks & {"approve", "advance"} or (world.overridden and world.target == NEW):
        return True
    offline_only = world.shares.get(world.target, 0) == 0
    passed = {
        each.gate
        for each in history.evidence.get(ALIAS, ())
        if each.finding.verdict is Verdict.PASS and each.adapter == world.target
        if each.digests["adapter"] == digest_of(world.target)
    }
    return passed >= ({"accuracy"} if offline_only else {"accuracy", "errors"})


verdicts = st.sampled_from(list(Verdict))
events = st.one_of(
    st.tuples(st.just("wait"), st.integers(-30, 60)),
    st.tuples(st.just("judge"), st.tuples(st.sampled_from(["accuracy", "errors"]), verdicts)),
    st.tuples(st.just("pass"), st.none()),
    st.tuples(st.just("mark"), st.sampled_from(
        ["hold", "resume", "approve", "advance", "extend", "abort"])),
    st.tuples(st.just("pause"), st.integers(1, 60)),
    st.tuples(st.just("declare"), st.sampled_from([OLD, NEW, NEXT])),
    st.tuples(st.just("release"), st.none()),
    st.tuples(st.just("override"), st.booleans()),
)  # fmt: skip


def happen(world: World, kind: str, what: Any) -> None:
    match kind:
        case "wait":
            world.now += what * HOUR
        case "judge":
            world.judge(*what)
        case "pass":
            for gate in ("accuracy", "errors"):
                world.judge(gate, Verdict.PASS)
        case "mark":
            world.write("rollout_marked", alias=ALIAS, adapter=world.target, mark=what, reason="")
        case "pause":
            until = (world.now + what * HOUR).isoformat()
            said = {"alias": ALIAS, "adapter": world.target, "mark": "pause", "reason": ""}
            world.write("rollout_marked", **said, until=until)
        case "declare":
            world.target = what
        case "release":
            world.taken.clear()
            world.write("released", alias=ALIAS, adapter=None, route=plain(world.live))
        case "override":
            world.overridden = what
        case _:
            raise AssertionError(kind)


@given(st.lists(events, min_size=4, max_size=24))
@settings(max_examples=80)
def test_no_rollout_ever_breaks_a_rule(story: list[tuple[str, Any]]) -> None:
    world = World()
    world.target = NEW
    for kind, what in story:
        happen(world, kind, what)
        world.tick()


@given(st.lists(st.integers(1, 40), min_size=12, max_size=40))
@settings(max_examples=30)
def test_a_healthy_version_is_through_in_time_however_irregular_the_ticks(
    waits: list[int],
) -> None:
    world = World()
    world.target = NEW
    world.tick()
    for hours in [*waits, *[25] * 12]:
        happen(world, "pass", None)
        world.tick()
        happen(world, "wait", hours)
    assert world.shares[NEW] == 100
    assert world.wanted().phase in (Phase.SOAKING, Phase.COMPLETE)


@given(st.lists(st.integers(1, 40), min_size=4, max_size=12), st.integers(1, 200))
@settings(max_examples=30)
def test_a_paused_version_goes_on_by_itself_when_its_time_is_over(
    waits: list[int], hours: int
) -> None:
    world = World()
    world.target = NEW
    for _ in range(2):  # loaded and judged, then at its first weight
        world.tick()
        happen(world, "pass", None)
    happen(world, "pause", hours)
    before, end = world.shares, world.now + hours * HOUR
    for wait in waits:
        happen(world, "pass", None)
        world.tick()
        assert world.now >= end or world.shares == before
        happen(world, "wait", wait)
    world.now = max(world.now, end)
    for _ in range(4):
        happen(world, "pass", None)
        world.tick()
        happen(world, "wait", 25)
    assert world.shares[NEW] == 100


@given(st.lists(st.integers(-40, 40), max_size=20))
@settings(max_examples=30)
def test_the_absence_of_data_moves_nothing(waits: list[int]) -> None:
    world = World()
    world.target = NEW
    for hours in waits:
        happen(world, "wait", hours)
        world.judge("errors", Verdict.INCONCLUSIVE)
        world.tick()
        assert world.shares[OLD] == 100


def test_ten_thousand_aliases_are_paced_by_the_rules_of_one() -> None:
    world = World()
    world.target = NEW
    one = declared()
    adapters = {ALIAS: one.adapters[ALIAS]}
    for number in range(3):
        name = replace(one.adapters[ALIAS].name, client=f"c{number}")
        adapters[name.alias] = replace(one.adapters[ALIAS], name=name)
    found = pace(replace(one, adapters=adapters), world.state, world.history, NOON)
    assert {each.phase for alias, each in found.wanted.items() if alias != ALIAS} == {Phase.FIRST}
    assert found.wanted[ALIAS].phase is Phase.EVALUATING
