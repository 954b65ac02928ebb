"""What the ledger says against versions that one might go back to."""

from dataclasses import replace

from fleet.gates.decide import Verdict
from fleet.history.blocks import ABORTED, FAILED, ROLLED_BACK, UNPROVEN, fallback_check
from fleet.history.blocks import rejected_by_gates as by_gates
from fleet.history.values import Block, BlockKind
from fleet.policies import OverrideSpec
from tests.fleet.planning.builders import NOON, digest_of, history
from tests.fleet.rollouts.gate_trials import ALIAS, NEW, OLD, evidence, mark

HALFWAY, COPY = f"{ALIAS}-tiny-v2.0.5", f"{ALIAS}-tiny-v2.0.6"


def test_held_aborted_failed_and_given_up_versions_are_nothing_to_fall_back_on() -> None:
    names = (NEW, OLD, HALFWAY, COPY)
    failed = evidence("errors", Verdict.FAIL)
    proven = replace(history(), answered_all=frozenset({OLD, NEW, COPY}))
    assert fallback_check(proven, ALIAS, {}, names).unfit == {HALFWAY: UNPROVEN}
    held = replace(proven, holds={ALIAS: {NEW: Block(BlockKind.HELD, NEW, NOON, "ana", "")}})
    found = fallback_check(held, ALIAS, {}, names)
    assert (found.held, found.unfit) == (frozenset({NEW}), {NEW: ROLLED_BACK, HALFWAY: UNPROVEN})
    aborted = replace(proven, marks={ALIAS: (mark("abort"), mark("hold", who=OLD))})
    assert fallback_check(aborted, ALIAS, {}, names).unfit == {NEW: ABORTED, HALFWAY: UNPROVEN}
    rejected = replace(proven, rejected={ALIAS: {digest_of(NEW): failed}})
    same = fallback_check(rejected, ALIAS, {COPY: digest_of(NEW)}, names)
    assert same.unfit == {NEW: FAILED, COPY: FAILED, HALFWAY: UNPROVEN}
    assert same.held == frozenset()
    digests = {COPY: digest_of(NEW), OLD: digest_of(OLD)}
    assert by_gates(rejected, (), ALIAS, digests, names, NOON) == {
        COPY: f"gate errors failed it (#{failed.seq}): {failed.finding.reason}"
    }
    day = NOON.date()
    accepts = OverrideSpec("o", digest_of(NEW), ALIAS, (), "it is wanted", "ana", day)
    assert by_gates(rejected, (accepts,), ALIAS, digests, names, NOON) == {}


def test_a_ledger_that_began_after_all_versions_says_nothing_against_them() -> None:
    other = replace(history(), answered_all=frozenset({"globex-dates-tiny-v1.0.0"}))
    assert fallback_check(other, ALIAS, {}, (NEW, OLD)).unfit == {}
    held = replace(other, holds={ALIAS: {NEW: Block(BlockKind.HELD, NEW, NOON, "ana", "")}})
    assert fallback_check(held, ALIAS, {}, (NEW, OLD)).unfit == {NEW: ROLLED_BACK}
