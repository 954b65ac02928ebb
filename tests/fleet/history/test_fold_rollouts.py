"""What the ledger says of gates, marks, trainings and evaluations."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.codec import plain
from fleet.gates.decide import Finding, Verdict
from fleet.history.blocks import rejection
from fleet.history.events import Entry, event_of
from fleet.history.fold import fold_entries, settled
from fleet.history.values import Claim, History, MarkKind, RolloutStage
from fleet.steps import SetRoute
from tests.fleet.planning.builders import route, state

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ALIAS, OLD, NEW = "acme-support", "acme-support-tiny-v1.0.0", "acme-support-tiny-v1.1.0"
DIGESTS = {"adapter": "a" * 64, "stable": "b" * 64, "base": "c" * 8, "golden": "d" * 64}
PASS, FAIL = Verdict.PASS, Verdict.FAIL


class Tape:
    """Entries, one an hour."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, kind: str, **data: Any) -> "Tape":
        seq = len(self.entries) + 1
        time = NOON + (seq - 1) * HOUR
        self.entries.append(
            Entry(seq, time, event_of(kind, data), "run", "ana", 1, "", f"hash{seq}")
        )
        return self

    def routed(self, **shares: int) -> "Tape":
        found = [(f"acme-support-tiny-{v.replace('_', '.')}", p, "a") for v, p in shares.items()]
        made = route(ALIAS, *found)
        step = {"step": f"set {made.address}", "address": made.address}
        self.add("step_started", **step, operation=plain(SetRoute(made)))
        return self.add("step_finished", **step, how="done")

    def judged(
        self,
        gate: str = "errors",
        verdict: Verdict = PASS,
        adapter: str = NEW,
        fingerprint: str = "vllm-1",
        **digests: str,
    ) -> "Tape":
        found = Finding(gate, "m", verdict, "rule", 0.1, 0.0, 0.2, 3.0, {"bad": [1.0]}, {}, "said")
        return self.add(
            "gate_judged", alias=ALIAS, adapter=adapter, stable=OLD, percent=10, gate=gate,
            finding=found.plain(), digests=DIGESTS | digests, fingerprint=fingerprint,
            since=NOON.isoformat(),
        )  # fmt: skip

    def marked(self, word: MarkKind, adapter: str = NEW, **more: str) -> "Tape":
        said = {"alias": ALIAS, "adapter": adapter, "mark": word, "reason": "why"} | more
        return self.add("rollout_marked", **said)

    @property
    def past(self) -> History:
        return fold_entries(self.entries)


def begun() -> Tape:
    return Tape().routed(v1_0_0=100).routed(v1_1_0=10, v1_0_0=90)


def gates(past: History) -> Mapping[str, Verdict]:
    return {each.gate: each.finding.verdict for each in past.evidence.get(ALIAS, ())}


def fell(past: History) -> dict[str, dict[str, str]]:
    """Return the digests of the blocks of the kind `rolled back`."""
    return {
        alias: {name: block.digest for name, block in blocks.items()}
        for alias, blocks in past.fell.items()
    }


def test_the_latest_evidence_of_each_gate_is_kept() -> None:
    past = begun().judged("errors", FAIL).judged("accuracy").judged("errors").past
    assert gates(past) == {"accuracy": PASS, "errors": PASS}
    latest = past.evidence[ALIAS][1]
    assert (latest.seq, latest.at, latest.since, latest.stable) == (7, NOON + 6 * HOUR, NOON, OLD)
    assert latest.finding.counts == {"bad": (1.0,)}
    assert (latest.digests, latest.fingerprint, latest.percent) == (DIGESTS, "vllm-1", 10)


def test_evidence_of_another_version_leaves_what_traffic_showed_of_the_last() -> None:
    other = "acme-support-tiny-v1.2.0"
    past = begun().judged("errors").judged("accuracy", adapter=other).past
    assert gates(past) == {"accuracy": PASS, "errors": PASS}
    assert {each.gate: each.adapter for each in past.evidence[ALIAS]}["errors"] != other


@pytest.mark.parametrize(
    ("change", "restarted"),
    [
        ({}, False),
        ({"fingerprint": ""}, False),
        ({"fingerprint": "vllm-2"}, True),
        ({"base": "e" * 8}, True),
        ({"stable": "e" * 64}, True),
        ({"golden": "e" * 64}, False),  # of another gate
        ({"base": ""}, False),
    ],
)
def test_another_engine_or_base_begins_the_stage_anew(
    change: dict[str, str],
    restarted: bool,  # noqa: FBT001
) -> None:
    past = begun().judged("accuracy").judged("errors", **change).past  # type: ignore[arg-type]
    assert gates(past).keys() == ({"errors"} if restarted else {"accuracy", "errors"})
    stage = past.stages[ALIAS]
    assert stage.entered == NOON + 3 * HOUR
    assert stage.since == NOON + (5 * HOUR if restarted else 3 * HOUR)


BOTH = "s1=aa s2=bb"


@pytest.mark.parametrize(
    ("found", "restarted"),
    [
        ((BOTH, "s1=aa", BOTH), False),  # a replica died, and is back as it was
        (("s1=aa", BOTH), False),  # one more
        ((BOTH, "s1=aa", "s1=aa s2=cc"), True),  # it is back as another
        ((BOTH, "s1=cc s2=bb"), True),
        ((BOTH, "s3=aa"), False),  # moved to a server of the same kind
        ((BOTH, "s3=cc"), True),
        ((BOTH, ""), False),  # nobody knows
    ],
)
def test_a_server_outdates_evidence_by_what_it_was_itself(
    found: tuple[str, ...],
    restarted: bool,  # noqa: FBT001
) -> None:
    tape = begun()
    for each in found:
        tape.judged("errors", base=each)
    stage = tape.past.stages[ALIAS]
    assert (stage.since != stage.entered) is restarted


def test_another_golden_set_begins_the_stage_anew() -> None:
    past = begun().judged("accuracy").judged("accuracy", golden="e" * 64).past
    assert past.stages[ALIAS] == RolloutStage(NEW, 10, NOON + 3 * HOUR, restarted=NOON + 5 * HOUR)


def test_failed_bytes_are_remembered_until_released() -> None:
    tape = begun().judged("errors", FAIL)
    assert tape.past.rejected[ALIAS]["a" * 64].gate == "errors"
    tape.judged("errors", PASS)
    assert "a" * 64 in tape.past.rejected[ALIAS]
    tape.judged("errors", FAIL).marked("hold")
    tape.add("released", alias=ALIAS, adapter=OLD, route=None)
    assert "a" * 64 in tape.past.rejected[ALIAS]
    assert gates(tape.past) == {"errors": FAIL}
    assert [each.mark for each in tape.past.marks[ALIAS]] == ["hold"]
    tape.add("released", alias=ALIAS, adapter=NEW, route=None)
    assert (tape.past.rejected, tape.past.evidence, tape.past.marks) == ({}, {}, {})


def test_a_release_asks_failed_gates_again_and_keeps_what_passed() -> None:
    tape = begun().judged("errors", FAIL).judged("accuracy").marked("abort")
    tape.add("released", alias=ALIAS, adapter=None, route=None)
    assert gates(tape.past) == {"accuracy": PASS}
    assert tape.past.marks == {}


def test_a_fallen_version_begins_anew_when_released() -> None:
    tape = begun().routed(v1_1_0=0, v1_0_0=100)
    assert fell(tape.past) == {ALIAS: {NEW: ""}}
    tape.add("released", alias=ALIAS, adapter=None, route=None)
    assert tape.past.fell == {}
    assert tape.past.released == {ALIAS: {NEW}}
    assert begun().past.fell == {}


def test_that_a_version_fell_is_remembered_whatever_is_rolled_out_in_between() -> None:
    other = "acme-support-tiny-v1.2.0"
    tape = begun().routed(v1_1_0=0, v1_0_0=100).routed(v1_2_0=10, v1_1_0=0, v1_0_0=90)
    assert fell(tape.past) == {ALIAS: {NEW: ""}}
    tape.routed(v1_2_0=0, v1_0_0=100)
    assert fell(tape.past) == {ALIAS: {NEW: "", other: ""}}
    assert settled(tape.past, state()) == tape.past
    assert fell(tape.routed(v1_1_0=10, v1_0_0=90).past) == {ALIAS: {other: ""}}
    tape.add("released", alias=ALIAS, adapter=other, route=None)
    assert tape.past.fell == {}


def test_a_mark_that_is_not_known_changes_nothing() -> None:
    tape = begun().judged("errors", FAIL)
    before = tape.past
    after = tape.add(
        "rollout_marked", alias=ALIAS, adapter=NEW, mark="override", reason="of an older form"
    ).past
    assert after == replace(before, seq=before.seq + 1, as_of=after.as_of)


def test_rejected_bytes_are_so_under_every_name_and_for_one_alias_alone() -> None:
    past = begun().judged("errors", FAIL).past
    assert rejection(past, (), ALIAS, "acme-support-tiny-v9.0.0", "a" * 64, NOON) is not None
    assert rejection(past, (), ALIAS, NEW, "f" * 64, NOON) is None
    assert rejection(past, (), "acme-faq", NEW, "a" * 64, NOON) is None


def test_a_hold_lasts_until_resume() -> None:
    tape = begun().marked("hold").marked("pause").marked("approve")
    assert [each.mark for each in tape.past.marks[ALIAS]] == ["hold", "pause", "approve"]
    assert [each.mark for each in tape.marked("resume").past.marks[ALIAS]] == ["approve"]


def test_what_a_home_that_hung_wrote_a_second_time_counts_once() -> None:
    said = {"alias": ALIAS, "to": OLD, "adapter": NEW, "reason": "r", "entry_id": "one"}
    tape = begun().add("rolled_back", **said)
    tape.add("released", alias=ALIAS, adapter=None, route=None).add("rolled_back", **said)
    assert (tape.past.holds, tape.past.seq) == ({}, 7)
    assert tape.add("rolled_back", **said | {"entry_id": "two"}).past.holds[ALIAS].keys() == {NEW}


def test_the_last_pause_is_the_one_that_counts() -> None:
    first, last = (NOON + each * HOUR for each in (30, 20))
    tape = begun().marked("pause", until=first.isoformat()).marked("pause", until=last.isoformat())
    assert [each.until for each in tape.past.marks[ALIAS]] == [last]
    assert tape.past.marks[ALIAS][0].lasts(last - HOUR)
    assert not tape.past.marks[ALIAS][0].lasts(last)
    assert tape.marked("resume").past.marks == {}


def test_a_mark_is_of_the_stage_in_which_it_was_made() -> None:
    (mark,) = begun().marked("approve").past.marks[ALIAS]
    assert (mark.since, mark.percent, mark.by, mark.reason) == (NOON + 3 * HOUR, 10, "ana", "why")
    (early,) = Tape().routed(v1_0_0=100).marked("advance").past.marks[ALIAS]
    assert (early.since, early.percent) == (None, None)


@pytest.mark.parametrize("word", ["abort", "hold", "pause"])
def test_what_is_said_of_one_version_unsays_nothing_of_another(word: MarkKind) -> None:
    other = "acme-support-tiny-v1.2.0"
    tape = begun().marked(word).marked(word, other)
    assert [each.adapter for each in tape.past.marks[ALIAS]] == [NEW, other]
    assert [each.at for each in tape.marked(word).past.marks[ALIAS]] == [
        NOON + (len(tape.entries) - each) * HOUR for each in (2, 1)
    ]
    assert settled(tape.past, state()) == tape.past
    tape.marked("resume", other)
    left = [other, NEW] if word == "abort" else [NEW]
    assert [each.adapter for each in tape.past.marks[ALIAS]] == left
    tape.add("released", alias=ALIAS, adapter=NEW, route=None)
    assert [each.adapter for each in tape.past.marks.get(ALIAS, ())] == left[:-1]


def test_what_was_said_before_a_version_began_ends_with_it() -> None:
    other = "acme-support-tiny-v1.2.0"
    tape = begun().marked("approve", other).marked("approve").marked("advance", other)
    rolled = tape.routed(v1_3_0=10, v1_0_0=90).past
    assert rolled.marks == {}


def test_what_was_said_of_a_version_ends_when_another_is_rolled_out() -> None:
    tape = begun().marked("approve").marked("hold").routed(v1_2_0=10, v1_1_0=0, v1_0_0=90)
    assert [each.mark for each in tape.past.marks[ALIAS]] == ["hold"]


def test_claims() -> None:
    until = NOON + 48 * HOUR
    tape = Tape().add("retrain_claimed", alias=ALIAS, by="ben", until=until.isoformat(), reason="r")
    assert tape.past.claims == {ALIAS: Claim("ben", until, "r", NOON)}
    assert tape.add("retrain_released", alias=ALIAS).past.claims == {}


def test_a_gates_rollback_says_which_gate() -> None:
    tape = begun().add("rolled_back", alias=ALIAS, to=OLD, adapter=NEW, reason="r", gate="errors")
    assert tape.past.holds[ALIAS][NEW].gate == "errors"


def test_nothing_of_it_is_lost_when_unfinished_steps_are_settled() -> None:
    tape = begun().judged("errors", FAIL).marked("hold")
    tape.add("retrain_claimed", alias=ALIAS, by="ben", until=NOON.isoformat())
    tape.add("eval_finished", run="r", alias=ALIAS, adapter=NEW, purpose="gate", summary={},
             samples_sha256="0", path="p")  # fmt: skip
    assert settled(tape.past, state()) == tape.past
