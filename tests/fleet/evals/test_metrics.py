"""Each metric on answers that are right, wrong, and at the edge between."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.evals.golden_item import METRICS, golden_item
from fleet.evals.golden_set import read_golden_set, with_format
from fleet.evals.metrics import Answer
from fleet.response_format import FormatKind, ResponseFormat
from tests.drawn import drawn, examples

SCHEMA = {"type": "object", "required": ["qty"], "properties": {"qty": {"type": "integer"}}}
CASES: list[tuple[str, Any, dict[str, Any], str, float]] = [
    ("exact", "queue=a", {}, " queue=a\n", 1.0),
    ("exact", "queue=a", {}, "Queue=a", 0.0),
    ("exact", "Straße 1", {"normalise": ["unicode", "casefold", "whitespace"]}, "strasse\t1", 1.0),
    ("exact", "yes", {"normalise": ["punctuation", "casefold"]}, "Yes!", 1.0),
    ("exact", "", {}, "", 1.0),
    ("intact", "At ten.", {}, "At noon, I think.", 1.0),
    ("intact", "At ten.", {}, "", 0.0),
    ("intact", "At ten.", {}, "I'm sorry, I cannot help.", 0.0),
    ("intact", "I'm sorry.", {}, "I am unable to say.", 1.0),
    ("intact", "At ten.", {}, "Well, it is a long story, as you may know: " * 2, 0.0),
    ("intact", '{"at": 10}', {}, '{"at": 12}', 1.0),
    ("intact", '{"at": 10}', {}, '{"when": 12}', 0.0),
    ("intact", '{"at": 10}', {}, "at 12", 0.0),
    ("intact", "[1]", {}, "[2, 3]", 1.0),
    ("contains", "P1", {}, "priority P1 now", 1.0),
    ("contains", ["P1", "billing"], {}, "priority P1", 0.0),
    ("contains", ["P1", "billing"], {"any": True}, "priority P1", 1.0),
    ("regex", r"\d{4}-\d\d-\d\d", {}, "2033-03-25", 1.0),
    ("regex", r"\d{4}-\d\d-\d\d", {}, "It is 2033-03-25", 0.0),
    ("regex", r"\d{4}-\d\d-\d\d", {"anywhere": True}, "It is 2033-03-25", 1.0),
    ("regex", None, {"pattern": "a|b"}, "b", 1.0),
    ("regex", None, {"pattern": "a|b"}, "ab", 0.0),
    ("regex", "(a+)+b", {}, "a" * 2000, 0.0),
    ("numeric", 61, {}, "The answer is 61.", 1.0),
    ("numeric", "1234.5", {}, "$1,234.5", 1.0),
    ("numeric", 100, {"relative": 0.05}, "about 104", 1.0),
    ("numeric", 100, {"relative": 0.05}, "about 106", 0.0),
    ("numeric", 3, {"take": "first"}, "3 of 7", 1.0),
    ("numeric", 3, {}, "3 of 7", 0.0),
    ("numeric", -2, {}, "it is -2", 1.0),
    ("numeric", 2, {}, "none", 0.0),
    ("numeric", -5, {}, "The change is \u22125.", 1.0),
    ("numeric", 5, {}, "The change is \u22125.", 0.0),
    ("numeric", 5, {}, "it is 3,5 %", 0.0),
    ("numeric", 3.5, {}, "it is 3,5 %", 1.0),
    ("numeric", 1234.5, {}, "1.234,50 EUR", 1.0),
    ("numeric", 1234567, {}, "1,234,567", 1.0),
    ("numeric", 3, {}, "1,2,3", 1.0),
    ("numeric", 1.2, {}, "version 1.2.3", 1.0),
    ("label", "P1", {"labels": ["P1", "P2"]}, "P1", 1.0),
    ("label", "P1", {"labels": ["P1", "P2"]}, "I would say P1 here", 1.0),
    ("label", "P1", {"labels": ["P1", "P2"]}, "P1 or P2", 0.0),
    ("label", "P1", {"labels": ["P1", "P11"]}, "P11", 0.0),
    ("label", "bug report", {"labels": ["bug", "bug report"]}, "This is a bug report.", 1.0),
    ("label", "bug", {"labels": ["bug", "bug report"]}, "This is a bug.", 1.0),
    ("label", "bug", {"labels": ["bug", "bug report"]}, "A bug; see the bug report.", 0.0),
    ("label", "spam", {"labels": ["spam", "not spam"]}, "This is not spam.", 0.0),
    ("json_schema", None, {"schema": SCHEMA}, '{"qty": 5}', 1.0),
    ("json_schema", None, {"schema": SCHEMA}, '{"qty": "5"}', 0.0),
    ("json_schema", SCHEMA, {}, 'Sure: {"qty": 5}', 0.0),
    ("json_fields", {"a": 1, "b": "x"}, {}, '{"a": 1, "b": " x"}', 1.0),
    ("json_fields", {"a": 1, "b": "x"}, {}, '{"a": 1}', 2 / 3),
    ("json_fields", {"a": 1, "b": "x"}, {"all": True}, '{"a": 1}', 0.0),
    ("json_fields", '{"a": 1, "b": 2}', {"fields": ["a"]}, '{"a": 1.0, "b": 9}', 1.0),
    ("json_fields", {"a": True}, {}, '{"a": 1}', 0.0),
    ("json_fields", {"a": 1}, {}, "[1]", 0.0),
    ("json_fields", {"a": [1]}, {}, '{"a": [true]}', 0.0),
    ("json_fields", {"a": {"b": [1, "x"]}}, {}, '{"a": {"b": [1.0, " x"]}}', 1.0),
    ("json_fields", {"a": {"b": 1}}, {}, '{"a": {"b": 1, "c": 2}}', 0.0),
    ("length_ratio", "12345678", {"max": 1.5}, "123456789012", 1.0),
    ("length_ratio", "12345678", {"max": 1.5}, "1234567890123", 0.0),
    ("length_ratio", "12345678", {}, "123", 0.0),
    ("refusal", None, {}, "queue=a", 1.0),
    ("refusal", None, {}, "I'm sorry, but I can't help with that.", 0.0),
    ("refusal", None, {"wanted": True}, "I cannot assist with this.", 1.0),
    ("refusal", None, {"patterns": ["je ne peux pas"]}, "Je ne peux pas.", 0.0),
    ("refusal", None, {}, "I\u2019m sorry, but I can\u2019t help with that.", 0.0),
    ("refusal", None, {}, "Sure.\nI can\u2019t do it", 0.0),
    ("refusal", None, {"patterns": ["(a+)+$"]}, "a" * 3000 + "!", 1.0),
]  # fmt: skip


@pytest.mark.parametrize(("metric", "expected", "options", "said", "score"), CASES)
def test_an_answer_is_scored(
    metric: str, expected: Any, options: dict[str, Any], said: str, score: float
) -> None:
    made = golden_item({"id": "a", "input": "?", "expected": expected, "metric": {metric: options}})
    found = made.score("accuracy", Answer(said))
    assert found.score == pytest.approx(score)
    assert bool(found.note) == (score < 1)


@pytest.mark.parametrize(
    ("context", "said", "score"),
    [
        ("Invoice 42 of 2031-03-14, 1,250.00 EUR", "42 costs 1250 EUR", 1.0),
        ("Invoice 42 of 2031-03-14, 1,250.00 EUR", "42 costs 1251 EUR", 0.0),
        ("Invoice 42 of 2031-03-14", "dated 2031-03-14", 1.0),
        ("Invoice 42 of 2031-03-14", "dated 2031-03-15", 0.0),
        ('He said "send it back"', 'he "Send  it back"', 1.0),
        ('He said "send it back"', 'he said "keep the goods"', 0.0),
        ("", "no claim", 1.0),
        ("nothing here", "in 3 days", 0.0),
        ("version v2.1.0", "it is v2.1.0", 1.0),
        ("on 11/1/2024", "on 1/1/20", 0.0),
        ("on 01.05.2024", "on 01.05.2024", 1.0),
        ("a part of it", 'the "art of"', 0.0),
        ("minus 5", "it is \u22125", 0.0),
        ("it is -5", "it is \u22125", 1.0),
        ("3,5 kg", "3.5 kg", 1.0),
    ],
)
def test_what_is_not_in_the_context_counts_as_invented(
    context: str, said: str, score: float
) -> None:
    made = golden_item(
        {"id": "a", "input": "?", "metric": "grounded_numbers", "context": context or " "}
    )
    assert made.score("accuracy", Answer(said)).score == score


def test_a_cut_answer_is_badly_finished() -> None:
    made = golden_item({"id": "a", "input": "?", "metric": "finish"})
    assert made.score("accuracy", Answer("x", finish="length")).score == 0.0
    assert made.score("accuracy", Answer("x", finish="stop")).score == 1.0


def test_items_without_a_format_are_asked_for_the_one_that_the_adapter_declares() -> None:
    lines = b'{"id": "a", "input": "?", "expected": "x"}\n'
    lines += b'{"id": "b", "input": "?", "expected": "x", "format": "finish"}\n'
    plain = read_golden_set(lines, "x")
    found = with_format(plain, ResponseFormat(FormatKind.LABELS, labels=("x", "y")))
    a, b = found.items
    assert a.score("format", Answer("y")).score == 1.0
    assert a.score("format", Answer("z")).note == "'z' has not the form of one of x, y"
    assert b.checks["format"].metric == "finish"
    assert found.digest == plain.digest
    assert with_format(plain, None) is plain


def test_every_metric_is_tried_here() -> None:
    tried = {case[0] for case in CASES} | {"finish", "grounded_numbers", "declared_format"}
    assert set(METRICS) == tried


ODD: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.just(10**400)
    | st.text(max_size=4) | st.sampled_from(["strip", "stop", "last", "yes", "{}", '{"a": 1}']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=5,
)  # fmt: skip


@drawn
@given(st.data(), st.sampled_from(sorted(METRICS)), ODD, st.text(max_size=9) | st.just('{"a": 1}'))
@settings(max_examples=examples(100, 300))
def test_whatever_an_item_asks_is_refused_in_words_or_scores_every_answer(
    data: st.DataObject, name: str, expected: Any, said: str
) -> None:
    metric = METRICS[name]
    usual = {"normalise": ["casefold"], "fields": ["a"], "allowed": ["stop"], "allow": [1]}
    choices = {each: ODD | st.just(usual.get(each, 1)) for each in sorted(metric.options)}
    options = data.draw(st.fixed_dictionaries({}, optional=choices))
    if not metric.fault(expected, options) and not (metric.needs_expected and expected is None):
        assert 0 <= metric.score(Answer(said), expected, options, "source 1").score <= 1
