"""What findings counted is counted again from answers and rows; other counts and rows show."""

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.gates import Verdict
from fleet.history import Entry, GateJudged
from fleet.policies import GateSpec
from runtime.gates.evidence import JudgedGate
from runtime.gates.live import judge_traffic
from runtime.gates.recount import Recount, RecountState, recounted
from runtime.usage.parquet import KEEP_LOGS, compact
from runtime.usage.read import UsageReader
from tests.fleet.planning.builders import loaded, state
from tests.runtime.gates.test_evidence import (
    ERRORS,
    NOON,
    PACE,
    golden_set,
    judged,
    logged,
    row,
    trial,
)
from tests.runtime.gateway.stage import NEW, OLD, replica

SLOW = GateSpec("slow", "p95_ratio", 1.5, "x", min_requests=5)
SHARES = (50, 100)
END = NOON + timedelta(minutes=5)
LIVE = state(loaded(NEW, "s1"), loaded(OLD, "s1"))


def entry(event: GateJudged) -> Entry:
    return Entry(7, END, event, "run", "ann", 0, "", "")


def compact_line(its: dict[str, Any]) -> str:
    return json.dumps(its, separators=(",", ":"))


def numbered(*lines: str) -> list[str]:
    rows = map(json.loads, lines)
    return [compact_line({**its, "request_id": f"{n:x}"}) for n, its in enumerate(rows)]


def usual() -> list[str]:
    """Return rows of the week before, and of a stage in which 12 requests of the new one fail."""
    before = [row(-60 - n, OLD) for n in range(40)]
    bad = [row(1 + n / 30, NEW, 500) for n in range(12)]
    return numbered(*before, *bad, *(row(1 + n / 30, OLD) for n in range(30)))


def event_of(judged: JudgedGate) -> GateJudged:
    event = judged.event(NOON)
    assert isinstance(event, GateJudged)
    return event


def found(state_dir: Path, percent: int = 50, gate: GateSpec = ERRORS) -> GateJudged:
    asked = trial(percent, "s1", live=(gate,))
    (one,) = judge_traffic(asked, PACE, LIVE, (), UsageReader(state_dir), END)
    return event_of(one)


def again(event: GateJudged, state_dir: Path, now: datetime = END) -> tuple[RecountState, str]:
    (one,) = recounted([entry(event)], state_dir, now)
    return one.state, one.why


def rewritten(state_dir: Path, change: Callable[[list[str]], Sequence[str]]) -> None:
    log = state_dir / "gateways/main/usage.jsonl"
    lines = log.read_text("utf-8").splitlines()
    log.write_text("".join(f"{line}\n" for line in change(lines)), "utf-8")
    os.utime(log, (NOON.timestamp(), NOON.timestamp()))


@pytest.mark.parametrize("gate", [ERRORS, SLOW])
@pytest.mark.parametrize("percent", SHARES)
def test_rows_that_are_as_they_were_give_the_same_counts(
    tmp_path: Path, percent: int, gate: GateSpec
) -> None:
    logged(tmp_path, *usual())
    event = found(tmp_path, percent, gate)
    assert event.rows is not None
    assert event.rows.rows == 82
    assert again(event, tmp_path) == (RecountState.SAME, "")


def test_a_request_that_ended_after_the_tick_makes_no_difference(tmp_path: Path) -> None:
    logged(tmp_path, *usual())
    event = found(tmp_path)
    late = json.loads(row(4.9, NEW, 500)) | {"request_id": "late", "latency_s": 40.0}
    rewritten(tmp_path, lambda lines: [*lines, compact_line(late)])
    assert again(event, tmp_path) == (RecountState.SAME, "")


def test_a_request_that_ends_while_gates_are_judged_is_left_to_the_next_look(
    tmp_path: Path,
) -> None:
    logged(tmp_path, *usual())
    late = json.loads(row(4.9, NEW, 500)) | {"request_id": "late", "latency_s": 40.0}

    def written_meanwhile(_: JudgedGate) -> bool:
        rewritten(tmp_path, lambda lines: [*lines, compact_line(late)])
        return True

    asked, usage = trial(50, "s1", live=(ERRORS,)), UsageReader(tmp_path)
    (one,) = judge_traffic(asked, PACE, LIVE, (), usage, END, written_meanwhile)
    assert one.finding.counts["requests"] == (12.0,)
    assert again(event_of(one), tmp_path) == (RecountState.SAME, "")
    (next_one,) = judge_traffic(asked, PACE, LIVE, (), usage, END + timedelta(minutes=1))
    assert next_one.finding.counts["requests"] == (12.0, 1.0)


def test_beliefs_by_other_clients_are_recorded_and_counted_with_again(tmp_path: Path) -> None:
    logged(tmp_path, *usual())
    earlier = found(tmp_path)
    seen = {**earlier.finding["counts"], "alike": 0.2, "dispersion": 2.5, "usual_requests": 900.0,
            "usual": 0.05}  # fmt: skip
    of_others = replace(earlier, alias="birch-faq", finding={**earlier.finding, "counts": seen})
    before = replace(entry(of_others), time=NOON - timedelta(days=1))
    asked = trial(50, "s1", live=(ERRORS,))
    events = []
    for told in (before, entry(of_others), replace(before, event=earlier)):
        (one,) = judge_traffic(asked, PACE, LIVE, (told,), UsageReader(tmp_path), END)
        events.append(event_of(one))
    believing, later, own = events
    assert believing.finding["counts"]["believed_alike"] == 0.2
    assert believing.finding["counts"]["dispersion"] == 2.5
    assert later.finding["counts"] == own.finding["counts"] == earlier.finding["counts"]
    assert again(believing, tmp_path) == (RecountState.SAME, "")
    forged = {**believing.finding["counts"], "believed_dispersion": 1.0}
    other = replace(believing, finding={**believing.finding, "counts": forged})
    assert again(other, tmp_path)[0] is RecountState.CHANGED


CHANGES: dict[str, tuple[Callable[[list[str]], Sequence[str]], str]] = {
    "deleted": (lambda lines: lines[:45] + lines[46:], "and 1 of them are gone"),
    "edited": (lambda lines: [line.replace("500", "200") for line in lines], "they are others now"),
    "added": (lambda lines: [*lines, row(1.5, NEW)], "they are others now"),
    "of another time": (
        lambda lines: [line.replace("T12:01", "T12:02") for line in lines], "they are others now",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_rows_that_were_changed_since_show(tmp_path: Path, case: str) -> None:
    logged(tmp_path, *usual())
    event = found(tmp_path)
    change, said = CHANGES[case]
    rewritten(tmp_path, change)
    changed, why = again(event, tmp_path)
    assert (changed, said in why) == (RecountState.CHANGED, True), why


def test_counts_that_were_made_up_show(tmp_path: Path) -> None:
    logged(tmp_path, *usual())
    event = found(tmp_path)
    kind = {**event.finding["counts"], "bad": [0.0] * len(event.finding["counts"]["bad"])}
    forged = replace(event, finding={**event.finding, "counts": kind})
    assert again(forged, tmp_path) == (
        RecountState.CHANGED, "it says bad 0, and a recount gives 12",
    )  # fmt: skip


def test_rows_are_the_same_as_parquet_and_forgotten_when_their_time_is_over(tmp_path: Path) -> None:
    logged(tmp_path, *usual())
    event = found(tmp_path)
    compact(tmp_path, datetime.now(UTC))
    (tmp_path / "gateways/main/usage.jsonl").unlink()
    assert again(event, tmp_path) == (RecountState.SAME, "")
    for part in (tmp_path / "usage").glob("*.parquet"):
        part.unlink()
    assert again(event, tmp_path)[0] is RecountState.CHANGED
    assert again(event, tmp_path, END + KEEP_LOGS) == (
        RecountState.FORGOTTEN, "82 of its usage rows are no longer kept",
    )  # fmt: skip


def test_a_finding_of_an_earlier_release_is_not_checked(tmp_path: Path) -> None:
    logged(tmp_path, *usual())
    event = replace(found(tmp_path), rows=None)
    assert again(event, tmp_path)[0] is RecountState.UNCHECKED


def test_a_finding_by_a_rule_of_another_release_is_not_checked(tmp_path: Path) -> None:
    logged(tmp_path, *usual())
    event = found(tmp_path)
    other = replace(event, finding={**event.finding, "rule": "of_old"})
    assert again(other, tmp_path)[0] is RecountState.UNCHECKED


def test_a_repeated_verdict_names_no_rows(tmp_path: Path) -> None:
    logged(tmp_path, *usual())
    asked, usage = trial(50, "s1", live=(ERRORS,)), UsageReader(tmp_path)
    (one,) = judge_traffic(asked, PACE, LIVE, (), usage, END, lambda _: False)
    assert one.rows is None


def answered(root: Path) -> JudgedGate:
    async def scenario() -> JudgedGate:
        async with replica(OLD, NEW) as ours:
            (one,) = (await judged(root, ours.url)).judged
            return one

    return asyncio.run(scenario())


def test_stored_answers_are_counted_again(tmp_path: Path) -> None:
    golden_set(tmp_path, {"regex": {}})
    made = answered(tmp_path)
    event = event_of(made)
    assert (made.finding.verdict, event.rows) == (Verdict.PASS, None)
    assert again(event, tmp_path) == (RecountState.SAME, "")
    counts = {**event.finding["counts"], "worse": 9.0}
    forged = replace(event, finding={**event.finding, "counts": counts})
    assert again(forged, tmp_path) == (
        RecountState.CHANGED, "it says worse 9, and a recount gives 0",
    )  # fmt: skip
    (tmp_path / "evals" / f"{event.runs[0]}.jsonl").unlink()
    assert again(event, tmp_path) == (
        RecountState.FORGOTTEN, "its answers are no longer kept",
    )  # fmt: skip


def test_a_finding_without_counts_has_nothing_to_count(tmp_path: Path) -> None:
    event = found(tmp_path)
    bare = replace(event, rows=None, finding={**event.finding, "counts": {}})
    assert list[Recount](recounted([entry(bare)], tmp_path, END)) == []
