"""A judge decides only where it agrees with people, and what cannot be read is no agreement."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fleet.errors import ConfigError
from fleet.evals.judging import agreement, in_pairs, objection, read_labels
from fleet.history.events import Entry, event_of
from fleet.spec import JudgeSpec

YES, NO, NEITHER = True, False, None


def pairs(*counts: tuple[bool, bool | None, int]) -> list[tuple[bool, bool | None]]:
    return [(label, said) for label, said, n in counts for _ in range(n)]


@pytest.mark.parametrize(
    ("given", "kappa", "says"),
    [
        # The example of Cohen's kappa in every textbook: 20, 5, 10, 15 give 0.4.
        (pairs((YES, YES, 20), (YES, NO, 5), (NO, YES, 10), (NO, NO, 15)), 0.4, "kappa is 0.40"),
        (pairs((YES, YES, 25), (NO, NO, 25)), 1.0, ""),
        (pairs((YES, YES, 20), (YES, NO, 5), (NO, YES, 5), (NO, NO, 20)), 0.6, ""),
        (pairs((YES, YES, 24), (NO, NO, 25)), 1.0, "49 labels, and 50"),
        (pairs((YES, YES, 25), (NO, YES, 25)), 0.0, "kappa is 0.00"),
        (pairs((YES, YES, 60)), None, "all labels"),
        (pairs((YES, NEITHER, 25), (NO, NEITHER, 25)), -1.0, "kappa is -1.00"),
        (pairs((YES, YES, 25), (NO, NO, 20), (NO, NEITHER, 5)), 0.8, ""),
        ([], None, "0 labels"),
    ],
)
def test_agreement_beyond_chance(
    given: list[tuple[bool, bool | None]], kappa: float | None, says: str
) -> None:
    found = agreement(given)
    assert found.kappa == (None if kappa is None else pytest.approx(kappa))
    assert says in found.objection
    assert bool(found.objection) is bool(says)
    assert found.unparsable == sum(said is None for _, said in given)


def compared(client: str = "acme", model: str = "critic", why: str = "") -> Entry:
    data: dict[str, Any] = {"client": client, "url": "http://j", "model": model, "objection": why}
    return Entry(
        1, datetime(2031, 5, 1, tzinfo=UTC), event_of("judge_compared", data), "r", "m", 0, "", ""
    )


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([], "never compared"),
        ([compared()], ""),
        ([compared(), compared(why="its kappa is 0.10")], "advisory for acme: its kappa is 0.10"),
        ([compared(why="its kappa is 0.10"), compared()], ""),
        ([compared("birch")], "never compared with people's labels for acme"),
        ([compared(model="other")], "never compared"),
    ],
)
def test_the_last_comparison_of_this_judge_for_this_client_counts(
    entries: list[Entry], says: str
) -> None:
    found = objection(entries, JudgeSpec("http://j", "critic", ""), "acme")
    assert says in found
    assert bool(found) is bool(says)


GOOD = '{"id": "a", "input": "q", "expected": "x", "answer": "y", "label": "no"}\n'


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ("", 1, "no labelled answer"),
        (GOOD + GOOD, 2, "`a` stands twice"),
        (GOOD + "{", 2, "Expecting property name"),
        (GOOD + "[]", 2, "a JSON object"),
        (GOOD.replace('"no"', '"maybe"'), 1, "`label` is `yes` or `no`"),
        (GOOD.replace('"no"', "1"), 1, "`label` is `yes` or `no`"),
        (GOOD.replace('"answer": "y", ', ""), 1, "`answer` is missing"),
        (GOOD.replace('"input": "q", ', ""), 1, "it needs one of `input`"),
        (GOOD.replace('"no"', '"no", "measure": "style"'), 1, "`measure` is"),
        (GOOD.replace('"no"', '"no", "question": 3'), 1, "`question` is a text"),
        (GOOD.replace('"no"', '"no", "other": 3'), 1, "`other` is not a text"),
    ],
)
def test_a_label_that_is_wrong_is_named_with_its_line(content: str, line: int, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_labels(content.encode(), "l.jsonl")
    (told,) = caught.value.diagnostics
    assert (told.code, str(told.place)) == ("FC1305", f"l.jsonl:{line}:1")
    assert says in told.detail


def test_labels_of_both_measures_are_read() -> None:
    (pair,) = read_labels(GOOD.replace('"no"', '"no", "other": "z"').encode(), "l.jsonl")
    assert (pair.other, in_pairs(pair.item)) == ("z", True)
    grounded = GOOD.replace('"a"', '"b"').replace('"no"', 'true, "measure": "grounded"')
    first, second = read_labels((GOOD + "\n" + grounded).encode(), "l.jsonl")
    assert (first.right, second.right, first.answer) == (False, True, "y")
    assert [each.item.checks["accuracy"].metric for each in (first, second)] == ["judge", "finish"]
    assert second.item.checks["grounded"].metric == "judge"
