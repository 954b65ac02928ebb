"""Closed months: a row that comes late changes cost and overage in the open month, once."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fleet.codec import plain
from fleet.history import CostTermsChanged
from fleet.policies import MICRO
from runtime.ledger import open_ledger
from runtime.operations.watch.costs import month_file
from runtime.usage.log import USAGE_FILE
from tests.fleet.costing.worlds import client
from tests.fleetctl.billed import BEGIN, HOURS, at, make_project, rows
from tests.fleetctl.in_process import call

INCLUDED, PRICE = 200_000, 7_777_777


def tokens(state: Path, gateways: Iterable[str]) -> int:
    """Return the tokens of the live requests of client a."""
    found = 0
    for gateway in gateways:
        text = (state / "gateways" / gateway / USAGE_FILE).read_text("utf-8")
        for row in map(json.loads, text.splitlines()):
            if row["client"] == "a" and row["purpose"] == "live":
                found += row["input_tokens"] + row["output_tokens"]
    return found


def test_overage_of_late_rows_is_due_in_the_open_month_to_the_millionth(tmp_path: Path) -> None:
    project, state = make_project(tmp_path), tmp_path / ".fleetctl"
    terms = plain(client(2000 * MICRO, included=INCLUDED, overage=PRICE))
    ledger = open_ledger(state, "run", "me", lambda: BEGIN)
    ledger.append([CostTermsChanged({"client/a": terms})])
    path, _ = at(project, HOURS + 1).close("2026-10")
    content = path.read_bytes()
    charged = (tokens(state, ["first"]) - INCLUDED) * PRICE // MICRO
    assert at(project, HOURS + 2).bill("2026-10").cost.clients["a"].overage == charged > 0
    assert at(project, HOURS + 2).bill("2026-11").cost.clients["a"].corrections == {}

    rows(state, "late", range(3, 9000, 3))  # all of a
    whole = (tokens(state, ["first", "late"]) - INCLUDED) * PRICE // MICRO
    november = at(project, HOURS + 100).bill("2026-11").cost
    assert november.clients["a"].corrections == {"2026-10": whole - charged}
    assert november.clients["b"].corrections == {}
    assert at(project, HOURS + 100).close("2026-10")[0].read_bytes() == content

    done = call(project, "cost", "invoice", "a", "--month", "2026-11", "--format", "json")
    found: dict[str, Any] = json.loads(done.stdout)
    (correction,) = found["corrections"]
    assert correction == {"month": "2026-10", "cents": (whole - charged + 5_000) // 10_000}
    assert found["amount_cents"] == found["fee_cents"] + correction["cents"]
    shown = call(project, "cost", "invoice", "a", "--month", "2026-11").stdout
    assert "correction of 2026-10: further tokens, counted late" in shown
    told = call(project, "cost", "report", "--month", "2026-11").stdout
    assert f"a owes {correction['cents'] / 100:.2f} more for further tokens of 2026-10" in told

    closed = at(project, 2 * HOURS).close("2026-11")[0].read_bytes()
    assert month_file(at(project, 2 * HOURS).bill("2026-11").cost) == closed
    assert at(project, 2 * HOURS + 50).bill("2026-12").cost.clients["a"].corrections == {}
    rows(state, "later", range(3, 3000, 3))
    again = at(project, 2 * HOURS + 50).bill("2026-12").cost.clients["a"].corrections
    last = (tokens(state, ["first", "late", "later"]) - INCLUDED) * PRICE // MICRO
    assert again == {"2026-10": last - whole}


def test_a_client_that_has_left_still_owes_what_was_counted_late(tmp_path: Path) -> None:
    project, state = make_project(tmp_path), tmp_path / ".fleetctl"
    terms = plain(client(2000 * MICRO, overage=PRICE))
    open_ledger(state, "run", "me", lambda: BEGIN).append([CostTermsChanged({"client/a": terms})])
    gone = at(project, HOURS - 10).now
    open_ledger(state, "run", "me", lambda: gone).append([CostTermsChanged({"client/a": None})])
    at(project, HOURS + 1).close("2026-10")
    rows(state, "late", range(3, 9000, 3))
    its = at(project, HOURS + 100).bill("2026-11").cost.clients["a"]
    assert its.fee is None
    assert its.corrections.keys() == {"2026-10"}
    assert its.due_cents > 0
