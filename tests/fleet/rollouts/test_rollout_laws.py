"""The laws of a rollout, over stories of whatever may be found, said, changed and declared.

The invariants of a rollout and where each is tested; `I3` finds them all:

    I1   shares are whole, of versions of the lock: here; loaded and ready: `test_convergence`
    I2   nothing rises without a PASS about what serves now: here
    I3   a way back stays, in service: here, `test_convergence`; in the library: here
    I4   one rollout at a time: here; one writer: `tests/runtime/apply/test_ledger_laws`
    I5   the absence of data decides nothing: here, of the pace and of the gates
    I6   what is out stays out, by its bytes: here
    I7   shares rise by declared stages, and fall at any time: here
    I8   evidence cannot be altered: `tests/runtime/apply/test_ledger_laws`
    I9   a tick is a function, and may be asked at any time: here, `test_pace_invariants`
    I10  a rollback needs no planner, evaluation, database: `tests/fleetctl/test_rollback_laws`
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.gates.decide import Verdict
from fleet.gates.live import judge_live
from fleet.gates.rows import Tally, Window
from fleet.gates.soak import judge_soaking, soaking
from fleet.gates.windows import UNKNOWN
from fleet.history.values import Block, BlockKind
from fleet.policies import UNITS, GateSpec
from fleet.rollouts.targets import Phase
from fleet.rules.retention import retained
from tests.drawn import drawn, examples
from tests.fleet.planning.builders import DAY, NOON, adapter, fleet, history, route, state
from tests.fleet.rollouts.gate_trials import ALIAS, GATED, NEXT, OLD
from tests.fleet.rollouts.rollout_laws import LAWS, Tick, ways_back
from tests.fleet.rollouts.rollout_world import HOUR, World, happen, stories

WhenUnsure = Literal["hold", "roll_back"]


def play(
    story: list[tuple[str, Any]],
    laws: Iterable[Callable[[Tick], None]] = (),
    when_unsure: WhenUnsure = "hold",
) -> World:
    world = World(rollout=replace(GATED, when_unsure=when_unsure))
    world.target = NEXT
    for kind, what in story:
        happen(world, kind, what)
        tick = Tick(world, world.shares, world.history, world.wanted())
        for law in laws:
            law(tick)
        world.tick()
    return world


@drawn
@given(story=stories, when_unsure=st.sampled_from(["hold", "roll_back"]))
@settings(max_examples=examples(60, 120))
def test_every_law_holds_in_every_story(
    story: list[tuple[str, Any]], when_unsure: WhenUnsure
) -> None:
    play(story, LAWS, when_unsure)


def test_an_approval_of_a_version_is_over_once_another_is_judged() -> None:
    """The version got traffic on a new engine by an approval that was given on the one before."""
    judged = ("judge", ("accuracy", Verdict.PASS))
    story = [judged, ("wait", 23), ("wait", 25), ("pause", 1), ("mark", "approve")]
    story += [("declare", OLD), ("engine", None), judged, ("wait", 25), ("declare", NEXT)]
    play(story, LAWS, "roll_back")


@given(story=stories)
@settings(max_examples=40)
def test_a_failure_takes_the_traffic_back_from_every_state(story: list[tuple[str, Any]]) -> None:
    world = play(story)
    world.overridden = False
    back = ways_back(Tick(world, world.shares, world.history, world.wanted()))
    if not world.shares.get(world.target) or not back or world.target == OLD:
        return
    world.judge("errors", Verdict.FAIL)
    world.tick()
    assert world.shares[world.target] == 0
    assert world.wanted().phase is Phase.HELD


@given(story=stories, silence=st.integers(1, 9))
@settings(max_examples=40)
def test_the_absence_of_evidence_raises_nothing_from_any_state(
    story: list[tuple[str, Any]], silence: int
) -> None:
    """I5, of the pace: what was said and overridden ends, and time alone moves no stage up."""
    world = play(story)
    world.overridden = False
    world.write("released", alias=ALIAS, adapter=None, route=None)
    world.tick()
    for _ in range(silence):
        world.now += timedelta(hours=30)
        tick = Tick(world, world.shares, world.history, world.wanted())
        if tick.staged and tick.before:
            stage = world.history.stages[ALIAS]
            evidence = world.history.evidence.get(ALIAS, ())
            of_stage = {each.gate for each in evidence if each.since == stage.since}
            assert "errors" in of_stage
        world.tick()


@given(
    declared_minor=st.integers(0, 8),
    rolled_back=st.sets(st.integers(0, 8), max_size=3),
    replaced=st.dictionaries(st.integers(0, 8), st.integers(0, 400)),
    answered=st.sets(st.integers(0, 8)),
    serving=st.one_of(st.none(), st.integers(0, 8)),
    asked=st.sampled_from([0, 1, 3, 4]),
)
@settings(max_examples=80)
def test_three_earlier_versions_are_never_deleted(
    declared_minor: int,
    rolled_back: set[int],
    replaced: dict[int, int],
    answered: set[int],
    serving: int | None,
    asked: int,
) -> None:
    """I3, of the library: three earlier ones stay besides what answers, first those that may be
    gone back to; none counts that was rolled back or, as far as the ledger knows of any, never
    had all traffic."""
    names = [f"acme-support-tiny-v1.{minor}.0" for minor in range(9)]
    what = replace(fleet(adapter(names[declared_minor]), known=names), keep_versions=asked)
    answers = () if serving is None else (route(ALIAS, (names[serving], 100, "s")),)
    past = history(
        holds=[Block(BlockKind.HELD, names[each], NOON, "ana", "") for each in sorted(rolled_back)],
        cutovers={names[each]: NOON - hours * HOUR for each, hours in replaced.items()},
    )
    past = replace(past, answered_all=frozenset(names[each] for each in answered))
    found = retained(what, state(*answers), past, NOON, copies=(), busy={})
    kept = {each.name for each in found[0] if each.needed}
    earlier = {names[each] for each in range(declared_minor) if each != serving}
    good = earlier - {names[each] for each in rolled_back}
    for group in (earlier, good):
        assert len(kept & group) >= min(max(asked, 3), len(group))
    proven = good & past.answered_all
    assert kept & proven >= {*sorted(proven)[-max(asked, 3) :]}
    everything_counts = retained(what, state(), history(), NOON, copies=(), busy={})[0]
    assert {each.name for each in everything_counts if each.needed} <= kept
    assert {names[each] for each, hours in replaced.items() if hours < 7 * 24} <= kept
    assert names[declared_minor] in kept


@given(
    metric=st.sampled_from(sorted({*UNITS} - {"accuracy_drop", "hallucination_rise"})),
    windows=st.integers(0, 30),
    requests=st.integers(0, 3),
)
@settings(max_examples=80)
def test_the_absence_of_data_is_neither_pass_nor_fail(
    metric: str, windows: int, requests: int
) -> None:
    """I5, of the gates: few requests, or many of which nothing is known, tell nothing."""
    gate = GateSpec("g", metric, 2, UNITS[metric][0], min_requests=100)
    seen = [
        Window(NOON + at * DAY, NOON + (at + 1) * DAY, Tally(requests), Tally(requests * 9))
        for at in range(windows)
    ]
    assert judge_live(gate, seen).verdict is Verdict.INCONCLUSIVE
    if metric != "neighbour_ratio":
        assert judge_soaking(soaking(gate), seen, UNKNOWN).verdict is Verdict.INCONCLUSIVE
    unknown = [replace(each, canary=Tally(5000), stable=Tally(5000)) for each in seen]
    if metric not in ("error_rate", "error_rate_rise"):
        assert judge_live(gate, unknown).verdict is Verdict.INCONCLUSIVE
    away = judge_live(gate, unknown, missing=("a gateway",))
    assert away.verdict is Verdict.INCONCLUSIVE
