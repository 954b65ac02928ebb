"""What is being tried, and which evidence is lacking or has become void."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from fleet.gates.decide import Finding, Verdict
from fleet.gates.offline import judge_paired
from fleet.history.values import Block, BlockKind, GateEvidence, History, RolloutMark
from fleet.policies import GateSpec, GoldenFacts, OverrideSpec, RolloutPolicy
from fleet.resources import Server, State
from fleet.rollouts.evidence import GateTrial, due_gates, engine_of
from fleet.spec import FleetSpec
from tests.fleet.planning.builders import (
    DAY,
    NOON,
    adapter,
    digest_of,
    fleet,
    history,
    loaded,
    route,
    state,
)

OLD, NEW = "acme-support-tiny-v1.0.0", "acme-support-tiny-v1.1.0"
ANSWERS = GateSpec("answers", "accuracy_drop", 5, "pp")
ERRORS = GateSpec("errors", "error_rate_rise", 2, "pp")
PACE = RolloutPolicy("standard", (10, 100), DAY, 7 * DAY, ("answers", "errors"))
SERVER = Server("s1", "tiny", "laptop", ("cpu0",), 8100, "ab12")


def declared(**changes: Any) -> FleetSpec:
    made = fleet(
        adapter(NEW, golden="g.jsonl"), known=[OLD], rollouts=[PACE], gates=[ANSWERS, ERRORS]
    )
    return replace(made, golden={"g.jsonl": GoldenFacts("d" * 64, 200)}, **changes)


def live(percent: int = 0, **fields: Any) -> State:
    shares = ((NEW, percent, "s1"), (OLD, 100 - percent, "s1"))
    there = state(route("acme-support", *shares), loaded(NEW, "s1"), loaded(OLD, "s1"), SERVER)
    return replace(there, versions={"s1": "0.32.0"}, **fields)


def one(
    now: State, past: History | None = None, given: FleetSpec | None = None
) -> GateTrial | None:
    found = due_gates(given or declared(), now, past or history(), NOON)
    assert len(found) <= 1
    return found[0] if found else None


def evidence(finding: Finding, **changes: Any) -> GateEvidence:
    known = {
        "adapter": digest_of(NEW),
        "stable": digest_of(OLD),
        "golden": "d" * 64,
        "base": engine_of(live(), ("s1",), ()),
        "terms": ANSWERS.terms,
    }
    made = GateEvidence(
        "acme-support", NEW, finding.gate, finding, known, NOON, 1,
        stable=OLD, percent=0, fingerprint="f", since=NOON,
    )  # fmt: skip
    return replace(made, **changes)


def judged(verdict: Verdict) -> Finding:
    worse, better = {
        Verdict.PASS: (0, 0), Verdict.INCONCLUSIVE: (14, 8), Verdict.FAIL: (40, 0)
    }[verdict]  # fmt: skip
    same = [1.0] * (200 - worse - better)
    stable = [1.0] * worse + [0.0] * better + same
    made = judge_paired(ANSWERS, stable, [0.0] * worse + [1.0] * better + same)
    assert made.verdict is verdict
    return made


def past(*known: GateEvidence, **more: Any) -> History:
    return replace(history(), evidence={"acme-support": known}, **more)


def test_a_version_without_traffic_lacks_its_golden_set_and_no_live_gate() -> None:
    trial = one(live())
    assert trial is not None
    assert (trial.adapter, trial.stable, trial.percent) == (NEW, OLD, 0)
    assert [each.name for each in trial.offline] == ["answers"]
    assert (trial.live, trial.since) == ((), None)
    assert trial.digests["adapter"] == digest_of(NEW)


def test_a_version_with_traffic_is_asked_its_live_gates_since_its_stage() -> None:
    stages = [(NEW, 10, NOON - timedelta(hours=3))]
    trial = one(live(10), history(stages=stages))
    assert trial is not None
    assert [each.name for each in trial.live] == ["errors"]
    assert trial.since == NOON - timedelta(hours=3)
    by_hand = one(live(20), history(stages=stages))
    assert by_hand is not None
    assert by_hand.since is None  # nobody wrote down when it got 20 %


@pytest.mark.parametrize("percent", [100, 0])
def test_what_serves_alone_or_has_nothing_beside_it_is_no_trial(percent: int) -> None:
    alone = state(route("acme-support", (NEW, 100, "s1")), loaded(NEW, "s1"), SERVER)
    assert one(live(percent) if percent else alone) is None


def test_a_version_in_its_soak_is_asked_its_live_gates_and_no_golden_set() -> None:
    there, stages = live(100), [(NEW, 100, NOON - DAY)]
    replaced = history(stages=stages, cutovers={OLD: NOON - DAY})
    trial = one(there, replaced)
    assert trial is not None
    assert (trial.percent, trial.stable, trial.since) == (100, OLD, NOON - DAY)
    assert ([each.name for each in trial.live], trial.offline) == (["errors"], ())
    gone = state(route("acme-support", (NEW, 100, "s1")), loaded(NEW, "s1"), SERVER)
    assert one(gone, replaced) is None  # its retention is over: there is nothing to go back to
    assert one(there, history(stages=stages)) is None  # it has never served: it gets copies
    given_up = replace(replaced, answered_all=frozenset({NEW}))
    assert one(there, given_up) is None  # a rollout given up half-way is nothing to go back to


@pytest.mark.parametrize("declared_now", [OLD, "acme-support-tiny-v1.2.0"])
def test_a_version_half_way_up_is_watched_though_the_file_asks_for_another(
    declared_now: str,
) -> None:
    asked = fleet(
        adapter(declared_now, golden="g.jsonl"), known=[OLD, NEW],
        rollouts=[PACE], gates=[ANSWERS, ERRORS],
    )  # fmt: skip
    trial = one(live(10), history(stages=[(NEW, 10, NOON)]), asked)
    assert trial is not None
    assert (trial.adapter, trial.stable, trial.percent) == (NEW, OLD, 10)
    assert ([each.name for each in trial.live], trial.offline) == (["errors"], ())


HOLDS = {
    "digest": {"adapter": "0" * 64},
    "golden": {"golden": "0" * 64},
    "engine": {"base": "0"},
    "samples": {"terms": replace(ANSWERS, samples=5).terms},
    "limit": {"terms": replace(ANSWERS, threshold=3).terms},
}


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.INCONCLUSIVE])
def test_evidence_that_holds_is_not_asked_for_again(verdict: Verdict) -> None:
    trial = one(live(), past(evidence(judged(verdict))))
    assert trial is not None
    assert trial.offline == ()


def test_evidence_holds_whichever_of_its_servers_is_away() -> None:
    known = evidence(judged(Verdict.PASS))
    both = f"{known.digests['base']} s2=0123456789abcdef"
    trial = one(live(), past(replace(known, digests={**known.digests, "base": both})))
    assert trial is not None
    assert trial.offline == ()


@pytest.mark.parametrize("change", [{"versions": {"s1": "0.99.0"}}, {"bases": {"s1": "another"}}])
def test_evidence_of_another_engine_or_other_files_of_the_base_is_void(
    change: dict[str, Any],
) -> None:
    trial = one(replace(live(), **change), past(evidence(judged(Verdict.PASS))))
    assert trial is not None
    assert [each.name for each in trial.offline] == ["answers"]


@pytest.mark.parametrize("case", HOLDS)
def test_evidence_about_something_else_is_void(case: str) -> None:
    known = evidence(judged(Verdict.PASS))
    changed: Mapping[str, str] = {**known.digests, **HOLDS[case]}
    trial = one(live(), past(replace(known, digests=changed)))
    assert trial is not None
    assert [each.name for each in trial.offline] == ["answers"]


def test_an_evaluation_that_could_not_be_made_is_tried_again() -> None:
    nothing = replace(judge_paired(ANSWERS, (), ()), reason="the judge is away")
    trial = one(live(), past(evidence(nothing)))
    assert trial is not None
    assert [each.name for each in trial.offline] == ["answers"]


def test_bytes_that_failed_are_asked_nothing_until_somebody_accepts_them() -> None:
    failed = evidence(judged(Verdict.FAIL))
    rejected = past(failed, rejected={"acme-support": {digest_of(NEW): failed}})
    trial = one(live(10), rejected)
    assert trial is not None
    assert (trial.rejected, trial.offline, trial.live) == (failed, (), ())
    override = OverrideSpec(
        "o", digest_of(NEW), "acme-support", (), "agreed", "eve", date(2026, 3, 2)
    )
    accepted = one(live(10), rejected, declared(overrides=(override,)))
    assert accepted is not None
    assert accepted.rejected is None
    assert accepted.accepted == {"answers", "errors"}


def test_what_a_person_took_out_is_not_tried() -> None:
    held = history(holds=[Block(BlockKind.HELD, NEW, NOON, "eve", "bad")])
    assert one(live(), held) is None
    mark = RolloutMark("abort", NEW, None, "", "eve", NOON)
    assert one(live(), replace(history(), marks={"acme-support": (mark,)})) is None


def test_other_bytes_under_the_name_are_not_tried() -> None:
    strange = replace(loaded(NEW, "s1"), digest="0" * 64)
    there = live()
    shown = replace(there, resources={**there.resources, strange.address: strange})
    assert one(shown) is None
    assert one(live(routes_unknown="no gateway")) is None


def test_beside_altered_bytes_what_traffic_shows_is_not_about_the_locked_ones() -> None:
    strange = replace(loaded(OLD, "s1"), digest=None)
    there = live(10)
    trial = one(replace(there, resources={**there.resources, strange.address: strange}))
    assert trial is not None
    assert (trial.offline, [each.name for each in trial.live]) == ((), ["errors"])
    assert trial.digests["stable"] == "altered"
    whole = one(there)
    assert whole is not None
    assert whole.digests["stable"] == digest_of(OLD)


def test_a_version_that_no_server_lists_is_not_evaluated() -> None:
    there = live()
    gone = {key: each for key, each in there.resources.items() if key != loaded(NEW, "s1").address}
    trial = one(replace(there, resources=gone))
    assert trial is not None
    assert (trial.servers, trial.offline) == ((), ())
