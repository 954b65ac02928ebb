"""An alias whose version was kept out, that is removed, and that asks for the same bytes again."""

from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import pytest

from fleet.codec import plain
from fleet.gates.decide import Verdict
from fleet.history.events import Entry, event_of
from fleet.history.fold import fold_entries
from fleet.history.values import History
from fleet.policies import RolloutPolicy
from fleet.resources import LoadedAdapter
from fleet.rollouts.decide import decide_rollouts
from fleet.rollouts.targets import AliasTarget, Phase
from fleet.spec import FleetSpec
from fleet.steps import DeleteRoute, SetRoute
from tests.fleet.planning.builders import DAY, NOON, digest_of, loaded, state
from tests.fleet.rollouts.gate_trials import (
    ALIAS,
    FAIL,
    GATED,
    NEW,
    NEXT,
    OLD,
    PASS,
    UNSURE,
    declared,
    finding,
    override,
    shared,
)

LIVE_ONLY = replace(GATED, gates=("errors",))


@dataclass
class Past:
    """A ledger: 2.2.0 had 10 % beside 2.1.0 and was rolled back; then the alias was removed."""

    entries: list[Entry] = field(default_factory=list)

    def write(self, kind: str, **data: Any) -> None:
        seq = len(self.entries) + 1
        self.entries.append(Entry(seq, NOON, event_of(kind, data), "run", "ana", 1, "", ""))

    def step(self, operation: Any) -> None:
        step = {"step": f"{len(self.entries)}", "address": f"route/{ALIAS}"}
        self.write("step_started", **step, operation=plain(operation))
        self.write("step_finished", **step, how="done")

    def judged(self, gate: str, verdict: Verdict, percent: int) -> None:
        self.write(
            "gate_judged", alias=ALIAS, adapter=NEW, stable=OLD, percent=percent, gate=gate,
            finding=finding(gate, verdict).plain(), since=NOON.isoformat(), fingerprint="",
            digests={"adapter": digest_of(NEW), "stable": digest_of(OLD), "golden": "9" * 64},
        )  # fmt: skip

    @property
    def history(self) -> History:
        return fold_entries(self.entries)


def removed(accuracy: Verdict | None = PASS, errors: Verdict | None = FAIL, gate: str = "") -> Past:
    past = Past()
    if accuracy:
        past.judged("accuracy", accuracy, 0)
    past.step(SetRoute(shared(10, 90)))
    if errors:
        past.judged("errors", errors, 10)
    past.write("rolled_back", alias=ALIAS, to=OLD, adapter=NEW, reason="too slow", gate=gate)
    past.step(DeleteRoute(shared(0, 100)))
    return past


def released(past: Past, adapter: str | None = None) -> Past:
    past.write("released", alias=ALIAS, adapter=adapter, route=None)
    return past


def asked(past: Past, *there: LoadedAdapter, what: FleetSpec | None = None) -> AliasTarget:
    return decide_rollouts(what or declared(), state(*there), past.history, NOON + DAY).wanted[
        ALIAS
    ]


def test_rejected_bytes_are_not_served_and_it_is_said_why_and_how_it_ends() -> None:
    made = asked(removed(gate="errors"))
    assert (made.phase, made.shares) == (Phase.HELD, ())
    assert made.held == (
        "NOT SERVED, for no other version is there: 2.2.0 was rolled back by ana "
        "at 2026-03-02 12:00 UTC; digest 61636d652d73 rejected by evidence #4, gate errors (FAIL "
        "said). To serve it, declare 2.1.0 (it is in the lock), or let 2.2.0 begin: fleetctl "
        "release acme-support. What a gate rejected an override accepts until a day"
    )
    by_hand = asked(removed(errors=None)).held
    assert "2.2.0 was rolled back by ana at 2026-03-02 12:00 UTC (too slow). To serve" in by_hand
    assert "override" not in by_hand
    aborted = Past()
    aborted.write("rollout_marked", alias=ALIAS, adapter=NEW, mark="abort", reason="not now")
    assert "2.2.0 was aborted by ana at 2026-03-02 12:00 UTC (not now)" in asked(aborted).held
    alone = replace(declared(), versions={NEW: declared().versions[NEW]})
    assert "To serve it, declare another version, or let" in asked(removed(), what=alone).held


@pytest.mark.parametrize(("target", "phase"), [(OLD, Phase.FIRST), (NEXT, Phase.FIRST)])
def test_another_version_is_a_first_one(target: str, phase: Phase) -> None:
    made = asked(removed(), what=declared(target))
    assert (made.phase, made.shares) == (phase, ((target, 100),))


def test_an_override_lets_it_begin_for_a_person_answers_for_it() -> None:
    accepted = declared(overrides=(override(date(2026, 12, 1)),))
    assert asked(removed(gate="errors"), what=accepted).phase is Phase.FIRST
    assert asked(removed(), what=accepted).phase is Phase.HELD  # a person had rolled it back


@pytest.mark.parametrize(
    ("accuracy", "rollout", "phase"),
    [
        (PASS, GATED, Phase.FIRST),
        (UNSURE, GATED, Phase.UNDECIDED),
        (FAIL, GATED, Phase.UNDECIDED),
        (None, GATED, Phase.UNDECIDED),
        (None, LIVE_ONLY, Phase.FIRST),
    ],
)
def test_one_that_is_released_begins_where_its_golden_sets_have_passed(
    accuracy: Verdict | None, rollout: RolloutPolicy, phase: Phase
) -> None:
    made = asked(released(removed(accuracy)), what=declared(rollout=rollout))
    assert (made.phase, made.shares) == (phase, ((NEW, 100),) if phase is Phase.FIRST else ())


@pytest.mark.parametrize("word", ["approve", "advance"])
def test_a_person_lets_it_begin(word: str) -> None:
    past = released(removed(None), NEW)
    waits = asked(past)
    assert waits.held == (
        "NOT SERVED, for no other version is there: 2.2.0 was kept out and "
        "released, no version before it is loaded, and no evidence for gate accuracy. To serve "
        "it, declare 2.1.0 (it is in the lock) and then this one. "
        "Decide: fleetctl rollout approve|advance|abort acme-support"
    )
    assert [each.gate for each in waits.gates] == ["accuracy"]
    past.write("rollout_marked", alias=ALIAS, adapter=NEW, mark=word, reason="")
    begun = asked(past)
    assert (begun.phase, begun.shares) == (Phase.FIRST, ((NEW, 100),))
    past.write("rollout_marked", alias=ALIAS, adapter=NEW, mark="hold", reason="wait")
    held = asked(past)
    assert (held.phase, held.shares) == (Phase.PAUSED, ())
    past.write("rollout_marked", alias=ALIAS, adapter=NEW, mark="resume", reason="")
    past.step(SetRoute(replace(shared(100, 0), shares=shared(100, 0).shares[:1])))
    assert past.history.released == {}


def test_it_begins_by_stages_beside_the_one_before_where_that_is_loaded() -> None:
    past = released(removed(None))
    beside = asked(past, loaded(OLD, "s"), loaded(NEXT, "s"))
    assert (beside.phase, beside.shares) == (Phase.EVALUATING, ((NEW, 0), (OLD, 100)))
    ready = asked(past, loaded(OLD, "s"), what=declared(rollout=LIVE_ONLY))
    assert (ready.phase, ready.shares) == (Phase.STARTED, ((NEW, 10), (OLD, 90)))
    assert asked(removed(None), loaded(OLD, "s")).shares == ()  # not released
    past.write("rolled_back", alias=ALIAS, to="acme-support-tiny-v2.0.0", adapter=OLD, reason="")
    assert asked(past, loaded(OLD, "s")).shares == ()  # the one before is kept out, too
