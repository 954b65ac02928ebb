"""Answers that are compared with, or that a verdict was computed from, are kept."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.history.events import Entry, event_of
from fleet.rules.retention import UNRECORDED, kept_answers

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)
KEEP = timedelta(days=90)
NAME = "acme-support-tiny-v2.1.0"


def entry(kind: str, ago: timedelta, **data: Any) -> Entry:
    return Entry(1, NOON - ago, event_of(kind, data), "r", "me", 0, "", "")


def run(name: str, purpose: str, ago: int = 100, adapter: str = NAME, **more: Any) -> Entry:
    told = {"valid": True, "golden_digest": "g"} | more
    return entry(
        "eval_finished", timedelta(days=ago), run=name, alias="acme-support", adapter=adapter,
        purpose=purpose, summary=told,
    )  # fmt: skip


def needed(entries: list[Entry], *stored: str, age: timedelta = KEEP * 2) -> set[str]:
    found = kept_answers(dict.fromkeys(stored, NOON - age), entries, {NAME}, NOON, KEEP)
    assert [each.name for each in found] == sorted(stored)
    assert all(each.why for each in found)
    return {each.name for each in found if each.needed}


@pytest.mark.parametrize(
    ("entries", "kept"),
    [
        ([run("a", "smoke", 89)], {"a"}),
        ([run("a", "smoke", 90)], set()),
        ([run("a", "gate"), run("b", "gate")], {"a"}),
        ([run("a", "gate", valid=False), run("b", "gate")], {"b"}),
        ([run("a", "gate"), run("b", "gate", golden_digest="h")], {"a", "b"}),
        ([run("a", "anchor"), run("b", "anchor"), run("c", "anchor")], {"a", "c"}),
        ([run("a", "gate", decoding={"samples": 3}), *(run(each, "anchor", decoding={"samples": 1})
          for each in "bcd")], {"a", "b", "d"}),
        ([run("a", "anchor"), run("b", "aa"), run("c", "rolling")], {"a"}),
        ([run("a", "anchor", adapter="acme-support-tiny-v1.0.0")], set()),
        ([run("a", "gate"), run("b", "gate"), entry("gate_judged", KEEP, adapter=NAME,
          runs=["b", "c"]), run("c", "gate")], {"a", "b", "c"}),
        ([entry("gate_judged", KEEP, adapter="gone", runs=["a"]), run("x", "gate"),
          run("a", "gate")], set()),
    ],
)  # fmt: skip
def test_what_stays(entries: list[Entry], kept: set[str]) -> None:
    names = {
        str(each.document()["run"]) for each in entries if each.event.kind == "eval_finished"
    } - {"x"}
    assert needed(entries, *names) == kept


@pytest.mark.parametrize(("age", "kept"), [(UNRECORDED / 2, {"a"}), (UNRECORDED, set())])
def test_what_no_entry_names_may_be_under_way(age: timedelta, kept: set[str]) -> None:
    assert needed([], "a", age=age) == kept
