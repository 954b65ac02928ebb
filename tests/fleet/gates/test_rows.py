"""Usage rows have one digest, whatever they are read from and in which order."""

import json
from typing import Any

import msgspec
import pytest

from fleet.gates.rows import digest_of_rows, in_order, row_digest
from runtime.usage.row import UsageRow


def row(**changes: Any) -> dict[str, Any]:
    made = UsageRow(
        "2031-05-01T12:00:00.000+00:00", "a" * 32, "acme", "acme-support", "acme-v2",
        status=200, latency_s=0.25, output_tokens=7,
    )  # fmt: skip
    found: dict[str, Any] = msgspec.to_builtins(made)
    return found | changes


def test_missing_null_and_default_are_the_same() -> None:
    whole = row()
    bare = {name: value for name, value in whole.items() if value not in (None, "", False)}
    assert len(bare) < len(whole)
    null = {name: value or None for name, value in whole.items()}
    again = json.loads(json.dumps(whole))
    assert {row_digest(its) for its in (whole, bare, null, again)} == {row_digest(whole)}
    assert row_digest(row(latency_s=1)) == row_digest(row(latency_s=1.0))


@pytest.mark.parametrize("changes", [
    {"time": "2031-05-01T12:00:01.000+00:00"}, {"request_id": "b" * 32}, {"client": "globex"},
    {"alias": "acme-x"}, {"version": "acme-v1"}, {"server": "s2"}, {"status": 500},
    {"latency_s": 0.26}, {"first_byte_s": 0.0}, {"output_tokens": 0}, {"finish": "length"},
    {"format_ok": False}, {"stream": True}, {"purpose": "smoke"}, {"unit": "ann"},
    {"digest": "0" * 12},
])  # fmt: skip
def test_every_field_that_a_gate_reads_is_in_the_digest(changes: dict[str, Any]) -> None:
    assert row_digest(row(**changes)) != row_digest(row())


def test_an_unknown_form_is_not_a_broken_form() -> None:
    assert row_digest(row(format_ok=None)) != row_digest(row(format_ok=False))


def test_the_order_of_reading_and_twins_make_no_difference() -> None:
    rows = [row(request_id=f"{n:032x}", latency_s=n / 10) for n in range(20)]
    one, other = in_order(rows), in_order([*reversed(rows), rows[3]])
    assert one == other
    assert digest_of_rows(its.digest for its in one) == digest_of_rows(map(row_digest, rows[::-1]))
    assert digest_of_rows(its.digest for its in one[:19]) != digest_of_rows(map(row_digest, rows))


def test_rows_that_end_later_stand_behind() -> None:
    early, late = row(latency_s=1.0), row(request_id="b" * 32, latency_s=30.0)
    between = row(request_id="c" * 32, time="2031-05-01T12:00:20.000+00:00")
    assert [its.row for its in in_order([late, between, early])] == [early, between, late]
