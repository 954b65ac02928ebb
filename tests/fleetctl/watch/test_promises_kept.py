"""Hours in which a promised p95 was kept, recounted from rows; on invoices and in reports."""

import json
from collections import defaultdict
from datetime import datetime, timedelta
from math import ceil
from pathlib import Path

from fleet.codec import plain
from fleet.costing import HOUR, PromisedSpan, Terms, promised_spans
from fleet.history import CostTermsChanged
from runtime.ledger import open_ledger
from runtime.operations.watch.costs import month_file
from runtime.usage.log import USAGE_FILE
from tests.fleet.costing.worlds import NOON, client, fleet
from tests.fleetctl.billed import BEGIN, HOURS, at, make_project, rows
from tests.fleetctl.in_process import call

CHANGED = 300
"""Hours after the begin of the month in which another time was promised."""


def recount(state: Path) -> tuple[int, int]:
    """Return the hours of `a-x` with answers, and those of a p95 within the promise."""
    found: dict[int, list[float]] = defaultdict(list)
    for line in (state / "gateways/first" / USAGE_FILE).read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["alias"] == "a-x" and row["purpose"] == "live":
            hour = (datetime.fromisoformat(row["time"]) - BEGIN) // HOUR
            found[hour].append(row["latency_s"])
    kept = 0
    for hour, seconds in found.items():
        p95 = sorted(seconds)[ceil(0.95 * len(seconds)) - 1]
        kept += p95 <= (1.0 if hour < CHANGED else 0.5)
    return len(found), kept


def promise(state: Path, time: datetime, limit_ms: int) -> None:
    """Record a promise for `a-x` at a time."""
    terms = plain(client(2000, promises={"a-x": limit_ms, "a-quiet": 700}))
    open_ledger(state, "run", "me", lambda: time).append([CostTermsChanged({"client/a": terms})])


def test_the_hours_of_a_promise_are_those_of_the_rows_and_unknown_without_one(
    tmp_path: Path,
) -> None:
    project, state = make_project(tmp_path), tmp_path / ".fleetctl"
    for hours, limit in ((0, 1000), (CHANGED, 500)):
        promise(state, BEGIN + timedelta(hours=hours), limit)
    judged, kept = recount(state)
    assert 0 < kept < judged
    done = call(project, "cost", "invoice", "a", "--month", "2026-10", "--format", "json")
    assert json.loads(done.stdout)["promises"] == [
        {"alias": "a-quiet", "promise_s": 0.7, "hours": 0, "hours_kept": 0},
        {"alias": "a-x", "promise_s": 0.5, "hours": judged, "hours_kept": kept},
    ]
    share = f"{100 * kept / judged:.1f} %"
    for words in (("invoice", "a"), ("report", "--client", "a")):
        shown = " ".join(call(project, "cost", *words, "--month", "2026-10").stdout.split())
        assert f"a-quiet 0.7 s - not known a-x 0.5 s {kept} of {judged} {share}" in shown
    other = call(project, "cost", "invoice", "b", "--month", "2026-10").stdout
    assert "b-x no promise - not known" in " ".join(other.split())

    path, _ = at(project, HOURS + 1).close("2026-10")
    rows(state, "late", range(3, 9000, 3))
    bills = at(project, HOURS + 100)
    assert bills.bill("2026-10").cost.clients["a"].promises["a-x"].kept == kept
    assert month_file(bills.bill("2026-10").cost) == path.read_bytes()


def test_a_span_of_a_promise_ends_where_another_time_is_promised() -> None:
    def promising(**promises: int) -> Terms:
        return Terms(fleet(), clients={"a": client(1, promises=promises)})

    first, second = promising(x=1), promising(x=2, y=3)
    hours = [(NOON + n * HOUR, terms) for n, terms in enumerate((first, first, second, first))]
    assert set(promised_spans(hours)) == {
        PromisedSpan("x", 1, NOON, NOON + 2 * HOUR),
        PromisedSpan("x", 2, NOON + 2 * HOUR, NOON + 3 * HOUR),
        PromisedSpan("y", 3, NOON + 2 * HOUR, NOON + 3 * HOUR),
        PromisedSpan("x", 1, NOON + 3 * HOUR, NOON + 4 * HOUR),
    }
    assert list(promised_spans([])) == []
