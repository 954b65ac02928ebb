"""Nothing passes by a clock that is behind, or by requests that cannot be read."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.gates.decide import Verdict
from fleet.history.doubts import clock_behind
from fleet.history.events import Entry, event_of
from runtime.gates.evidence import JudgedGate
from runtime.gates.live import judge_traffic
from runtime.usage.log import UsageLog
from runtime.usage.read import UsageReader
from tests.fleet.planning.builders import loaded, state
from tests.runtime.gates.test_evidence import PACE, logged, row, trial
from tests.runtime.gateway.stage import NEW, OLD

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)
LAST = Entry(7, NOON, event_of("apply_finished", {}), "r", "ci", 1, "", "")


@pytest.mark.parametrize("ahead", [-30, 0, 3600])
def test_clocks_of_two_machines_may_differ_a_little(ahead: int) -> None:
    assert clock_behind([LAST], NOON + timedelta(seconds=ahead)) is None
    assert clock_behind([], NOON) is None


def test_a_clock_that_is_far_behind_is_refused_with_both_times() -> None:
    error = clock_behind([LAST], NOON - timedelta(hours=1))
    assert error is not None
    (shown,) = error.diagnostics
    assert shown.summary == "The clock is behind the ledger"
    assert "It is 2031-05-01 11:00:00 UTC here" in shown.detail
    assert "entry 7 by ci is of 2031-05-01 12:00:00, 3,600 s later" in shown.detail


@pytest.mark.parametrize(
    ("kind", "hours"), [("step_finished", 1), ("gate_judged", 1), ("released", 0), ("adopted", 0)]
)
def test_what_is_written_by_a_clock_that_is_behind_does_not_set_it(kind: str, hours: int) -> None:
    early = NOON - timedelta(hours=1)
    data = {"alias": "a", "address": "key/a/b", "resource": {"kind": "key"}}
    later = [
        Entry(8, early, event_of(kind, data), "r", "me", 1, "", ""),
        replace(LAST, seq=9, time=early),
    ]
    error = clock_behind([LAST, *later], early)
    assert (error is not None) == bool(hours)
    assert error is None or "entry 7 by ci" in error.diagnostics[0].detail


def judged(folder: Path, entries: list[Entry], now: datetime, began: datetime) -> JudgedGate:
    live = state(loaded(NEW, "s1"), loaded(OLD, "s1"))
    tried = replace(trial(50, "s1"), since=began)
    (one,) = judge_traffic(tried, PACE, live, entries, UsageReader(folder), now)
    return one


def test_a_stage_that_begins_in_the_future_may_fail_and_may_not_pass(tmp_path: Path) -> None:
    began, now = NOON + timedelta(hours=5), NOON + timedelta(minutes=5)
    ahead = replace(LAST, seq=8, time=began)
    logged(
        tmp_path / "bad",
        *(row(1, NEW, 500) for _ in range(12)),
        *(row(1, OLD) for _ in range(12)),
        *(row(9, NEW, 500) for _ in range(50)),  # of the future: no clock to rely on
    )
    logged(
        tmp_path / "good", *(row(1, NEW) for _ in range(500)), *(row(1, OLD) for _ in range(500))
    )
    bad = judged(tmp_path / "bad", [LAST, ahead], now, began)
    assert bad.finding.verdict is Verdict.FAIL
    assert sum(bad.finding.counts["bad"]) == 12  # type: ignore[arg-type]
    assert judged(tmp_path / "good", [LAST], now, NOON).finding.verdict is Verdict.PASS
    good = judged(tmp_path / "good", [LAST, ahead], now, began)
    assert good.finding.verdict is Verdict.INCONCLUSIVE
    assert "its stage begins in the future, at 2031-05-01 17:00 UTC" in good.problem
    early = judged(tmp_path / "bad", [ahead], now, began)  # since when, nobody knows
    assert early.finding.verdict is Verdict.INCONCLUSIVE


def test_a_usage_log_that_cannot_be_read_passes_nothing_and_saves_nobody(tmp_path: Path) -> None:
    end = NOON + timedelta(minutes=5)
    for name, status in (("bad", 500), ("good", 200)):
        rows = [row(1, OLD), row(1, NEW, status)] * 500
        logged(tmp_path / name, *rows)
        away = tmp_path / name / "gateways/main/usage-1.jsonl"
        away.mkdir()
        os.utime(away, (end.timestamp(), end.timestamp()))
    good = judged(tmp_path / "good", [LAST], end, NOON)
    assert good.finding.verdict is Verdict.INCONCLUSIVE
    assert "usage-1.jsonl are lacking: Is a directory" in good.finding.reason
    assert judged(tmp_path / "bad", [LAST], end, NOON).finding.verdict is Verdict.FAIL


def test_a_file_that_is_put_aside_while_rows_are_read_is_read_whole_and_once(
    tmp_path: Path,
) -> None:
    logged(tmp_path, row(1, NEW))
    with UsageLog(tmp_path / "gateways/main/usage.jsonl", rotate_bytes=1) as log:
        log.append(row(2, NEW).encode())  # the first file is put aside
        usage = UsageReader(tmp_path)
        found = usage.rows(datetime(2020, 1, 1, tzinfo=UTC))
        seen = [next(found)["time"]]
        log.append(row(3, NEW).encode())  # so is the second, which was seen and not opened yet
        seen += [each["time"] for each in found]
    assert sorted(seen) == [json.loads(row(n, NEW))["time"] for n in (1, 2, 3)]
    assert usage.missing == ()


@pytest.mark.parametrize(
    "odd",
    [
        {"time": "2031-05-01T12:02:00"},
        {"latency_s": None},
        {"latency_s": "1"},
        {"latency_s": 10**400},
        {"status": "200"},
        {"status": None},
        {"output_tokens": "7", "first_token_s": 0.1},
    ],
)
def test_a_row_that_is_none_counts_as_damaged_and_stops_no_gate(
    tmp_path: Path, odd: dict[str, Any]
) -> None:
    whole = [row(1, OLD), row(1, NEW)] * 500
    logged(tmp_path, *whole, json.dumps({**json.loads(row(2, NEW)), **odd}, separators=(",", ":")))
    assert judged(tmp_path, [], NOON + timedelta(minutes=5), NOON).finding.verdict is Verdict.PASS
    usage = UsageReader(tmp_path)
    assert len(list(usage.rows(NOON))) == 1000
    assert usage.damaged == 2  # one is the torn line at the end
