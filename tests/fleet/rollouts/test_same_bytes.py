"""Bytes that a person took out, and that are declared again under another version."""

from dataclasses import replace

import pytest

from fleet.history.blocks import kept_out, same_bytes
from fleet.history.values import Block, BlockKind, History
from fleet.rollouts.evidence import due_gates
from fleet.rollouts.targets import Phase
from fleet.spec import FleetSpec
from tests.fleet.planning.builders import DAY, NOON, digest_of, history, loaded, route, state
from tests.fleet.rollouts.gate_trials import (
    ALIAS,
    ALONE,
    NEW,
    NEXT,
    OLD,
    declared,
    evidence,
    mark,
    override,
    past,
    wanted,
)

BESIDE = route(ALIAS, (NEXT, 10, "s"), (OLD, 90, "s"))
ELSEWHERE = route("acme-faq", ("acme-faq-tiny-v1.0.0", 100, "s"))
TAKEN_BACK = ((NEXT, 0), (OLD, 100))


def renamed(*, pruned: bool = False, **fields: object) -> FleetSpec:
    """Return a fleet that asks for 2.3.0, which has the bytes of 2.2.0."""
    made = declared(NEXT, **fields)  # type: ignore[arg-type]
    versions = {**made.versions, NEXT: made.versions[NEW]}
    return replace(made, versions={k: v for k, v in versions.items() if k != NEW or not pruned})


def held(gate: str = "", digest: str = "", of: str = NEW) -> History:
    made = Block(BlockKind.HELD, of, NOON, "ana", "wrong dates", gate, digest)
    return past(None, holds={ALIAS: {of: made}})


def aborted(digest: str = "") -> History:
    return past(None, marks=[replace(mark("abort"), digest=digest)])


@pytest.mark.parametrize(
    ("before", "pruned", "out"),
    [
        (held(), False, True),
        (held(), True, False),  # nobody knows any more which bytes they were
        (held(digest=digest_of(NEW)), True, True),
        (held(digest=digest_of(OLD)), False, False),  # the lock was rewritten meanwhile
        (held(of=OLD), False, False),
        (aborted(), False, True),
        (aborted(digest_of(NEW)), True, True),
        (past(None, marks=[mark("hold")]), False, False),
    ],
)
def test_another_name_is_no_way_past_a_person(
    before: History,
    pruned: bool,  # noqa: FBT001
    out: bool,  # noqa: FBT001
) -> None:
    what = renamed(pruned=pruned)
    begun = wanted(BESIDE, before, what=what)
    assert (begun.phase is Phase.ROLLED_BACK, begun.shares == TAKEN_BACK) == (out, out)
    early = wanted(ALONE, before, what=what)
    assert (early.phase is Phase.HELD, early.shares == ((OLD, 100),)) == (out, out)
    there = state(BESIDE, loaded(NEXT, "s"), loaded(OLD, "s"))
    there = replace(there, resources={
        key: replace(each, digest=digest_of(NEW)) if each == loaded(NEXT, "s") else each
        for key, each in there.resources.items()
    })  # fmt: skip
    assert (due_gates(what, there, before, NOON) == ()) == out


def test_it_is_said_whose_bytes_they_are_and_who_took_them_out() -> None:
    assert wanted(ALONE, held(), what=renamed()).held == (
        "2.3.0 has the bytes of 2.2.0, which was rolled back by ana at 2026-03-02 "
        "12:00 UTC (wrong dates), and gets no traffic. To roll it out again: fleetctl release "
        "acme-support"
    )
    assert "2.2.0, which was aborted by ana at" in wanted(ALONE, aborted(), what=renamed()).held
    bare = wanted(ELSEWHERE, held(), what=renamed())
    assert (bare.phase, bare.shares) == (Phase.HELD, ())
    assert "NOT SERVED, for no other version is there: 2.3.0 has the bytes of 2.2.0" in bare.held
    proven = replace(held(), answered_all=frozenset({OLD, NEW}))
    assert "To serve it, declare 2.1.0 (it is in the lock)" in (
        wanted(ELSEWHERE, proven, what=renamed()).held
    )
    all_the_same = {OLD: renamed().versions[NEW], NEXT: renamed().versions[NEW]}
    nothing = wanted(ELSEWHERE, proven, what=replace(renamed(), versions=all_the_same))
    assert nothing.phase is Phase.FIRST  # which bytes 2.2.0 had nobody knows
    known = replace(proven, holds=held(digest=digest_of(NEW)).holds)
    out = wanted(ELSEWHERE, known, what=replace(renamed(), versions=all_the_same))
    assert "To serve it, declare another version" in out.held


def test_an_override_accepts_what_a_gate_took_out_and_never_what_a_person_did() -> None:
    what = renamed(overrides=(override(),))
    assert wanted(ALONE, held("errors"), what=what).phase is Phase.STARTED
    assert wanted(ALONE, held("errors"), what=renamed()).phase is Phase.HELD
    assert wanted(ALONE, held(), what=what).phase is Phase.HELD


def test_what_answers_all_requests_is_left_there_whatever_else_has_its_bytes() -> None:
    whole = route(ALIAS, (NEXT, 100, "s"), (OLD, 0, "s"))
    assert wanted(whole, held(), what=renamed()).phase is Phase.SOAKING
    assert wanted(whole, held(of=NEXT), what=renamed()).phase is Phase.ROLLED_BACK


def test_releasing_one_of_them_releases_all() -> None:
    versions = renamed().versions
    both = frozenset({NEW, NEXT})
    assert same_bytes(held(), versions, ALIAS, NEW) == {NEW}  # nothing else keeps 2.3.0 out
    assert same_bytes(held(), versions, ALIAS, NEXT) == both
    twice = replace(held(), marks={ALIAS: (mark("abort", who=NEXT),)})
    assert same_bytes(twice, versions, ALIAS, NEW) == both
    assert same_bytes(held(), versions, ALIAS, OLD) == frozenset()
    pruned = held(digest=digest_of(NEW))
    assert same_bytes(pruned, renamed(pruned=True).versions, ALIAS, NEXT) == both
    failed = evidence("errors")
    rejected = replace(history(), rejected={ALIAS: {digest_of(NEW): failed}})
    assert same_bytes(rejected, versions, ALIAS, NEXT) == both
    assert kept_out(rejected, ALIAS) == {NEW}


def test_a_release_asks_its_golden_sets_where_nothing_else_serves() -> None:
    let_in = past(None, released={ALIAS: frozenset({NEW})})
    assert wanted(ELSEWHERE, let_in, NOON + DAY, renamed()).phase is Phase.UNDECIDED
    assert wanted(ELSEWHERE, let_in, NOON + DAY, declared(NEXT)).phase is Phase.FIRST
