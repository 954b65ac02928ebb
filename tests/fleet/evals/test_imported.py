"""Results of other tools: only what was generated, finished and scored is taken over."""

import json
from typing import Any

import pytest

from fleet.evals.imported import inspect_samples, lm_eval_samples, numbered, questions

SAMPLE: dict[str, Any] = {
    "id": "a", "epoch": 2, "input": "?", "target": "x", "error": None,
    "scores": {"match": {"value": "C"}},
    "output": {
        "model": "m", "completion": "x", "usage": {"output_tokens": 3}, "time": 0.5,
        "choices": [{"stop_reason": "stop"}],
    },
}  # fmt: skip


def log(*samples: dict[str, Any], status: str = "success") -> dict[str, Any]:
    return {"eval": {"task": "t"}, "status": status, "samples": samples}


def test_a_sample_of_inspect_keeps_who_answered_and_how() -> None:
    [found] = inspect_samples(log(SAMPLE))
    assert (found.item, found.sample, found.answer, found.scores) == ("a", 1, "x", {"accuracy": 1})
    assert (found.model, found.finish, found.output_tokens, found.seconds) == ("m", "stop", 3, 0.5)


@pytest.mark.parametrize(
    ("change", "score", "error"),
    [
        ({"scores": {"match": {"value": "I"}}}, 0.0, ""),
        ({"scores": {"match": {"value": "P"}}}, 0.5, ""),
        ({"scores": {"f1": {"value": 0.25}}}, 0.25, ""),
        ({"scores": {"match": {"value": True}}}, 1.0, ""),
        ({"scores": {"rating": {"value": 7}}}, None, "no share"),
        ({"scores": {}}, None, "0 scores"),
        ({"scores": {"a": {"value": "C"}, "b": {"value": "C"}}}, None, "2 scores"),
        ({"error": {"message": "timed out"}}, None, "timed out"),
    ],
)
def test_what_inspect_did_not_score_plainly_is_no_score(
    change: dict[str, Any], score: float | None, error: str
) -> None:
    [found] = inspect_samples(log(SAMPLE | change))
    assert found.scores.get("accuracy") == score
    assert error in found.error
    assert bool(found.error) == bool(error)


@pytest.mark.parametrize(
    "document",
    [{}, {"eval": {}}, log(status="error"), log(status="started"), log(status="cancelled")],
)
def test_a_log_that_did_not_end_well_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"inspect-ai"):
        inspect_samples(document)


@pytest.mark.parametrize(
    ("results", "config", "samples", "says"),
    [
        ({"total_samples": 200}, {}, [SAMPLE], "has 1 samples, and 200 were asked"),
        ({}, {"epochs": 5}, [SAMPLE], "`a` has 1 epochs, and 5 were asked"),
        ({}, {}, [SAMPLE, SAMPLE], "`a` stands twice"),
    ],
)
def test_a_log_of_inspect_that_was_cut_is_refused(
    results: dict[str, Any], config: dict[str, Any], samples: list[dict[str, Any]], says: str
) -> None:
    whole = log(*samples) | {"results": results, "eval": {"task": "t", "config": config}}
    with pytest.raises(ValueError, match=says):
        inspect_samples(whole)
    fine = {"results": {"total_samples": 2}, "eval": {"task": "t", "config": {"epochs": 2}}}
    assert len(inspect_samples(log(SAMPLE, SAMPLE | {"epoch": 1}) | fine)) == 2


LINE: dict[str, Any] = {
    "doc_id": 0, "doc": {"q": "?"}, "doc_hash": "h", "target": "x", "filtered_resps": ["x"],
    "arguments": {"gen_args_0": {"arg_0": "?", "arg_1": {"temperature": 0.0}}},
    "metrics": ["exact_match", "bleu"], "exact_match": 0.0, "bleu": 0.4,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "metrics", "score", "error"),
    [
        ({}, [], 0.0, ""),
        ({}, ["bleu"], 0.4, ""),
        ({"exact_match": 17}, [], None, "no score"),
        ({"filtered_resps": [" "]}, [], None, "empty answer"),
        ({"filtered_resps": []}, [], None, "empty answer"),
    ],
)
def test_a_sample_of_lm_eval(
    change: dict[str, Any], metrics: list[str], score: float | None, error: str
) -> None:
    [found] = lm_eval_samples([json.dumps(LINE | change), ""], metrics)
    assert found.item == "h"
    assert found.scores.get("accuracy") == score
    assert error in found.error


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 1 is not JSON"),
        ("[]", "line 1 is not a JSON object"),
        ("7", "line 1 is not a JSON object"),
        ('{"results": {}}', "not a sample of lm-eval: it has no `doc`"),
        ('{"doc": {}, "metrics": []}', "it has no `arguments`"),
        (json.dumps(LINE | {"arguments": {"gen_args_0": {"arg_1": " yes"}}}), "log likelihood"),
        (json.dumps(LINE | {"arguments": [["?", " yes"]]}), "log likelihood"),
    ],
)
def test_what_lm_eval_did_not_generate_is_refused(line: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        lm_eval_samples([line])


def test_a_fresh_set_is_told_from_one_that_was_asked_before() -> None:
    names, first = questions([SAMPLE])
    assert names == ("a",)
    assert questions([SAMPLE | {"output": {}, "scores": {}}])[1] == first
    assert questions([SAMPLE | {"input": "another"}])[1] != first
    assert questions([LINE])[1] != questions([LINE | {"target": "y"}])[1]
    messages = [{"role": "user", "content": "?", "id": "1"}]
    other = [{"role": "user", "content": "?", "id": "2"}]
    assert questions([SAMPLE | {"input": messages}]) == questions([SAMPLE | {"input": other}])


def test_answers_to_one_item_are_numbered() -> None:
    samples = lm_eval_samples([json.dumps(LINE)] * 2)
    assert [each.sample for each in numbered(samples)] == [0, 1]


def test_of_several_filters_one_is_chosen() -> None:
    lines = [
        json.dumps(LINE | {"filter": name, "exact_match": score})
        for name, score in (("strict-match", 0.0), ("flexible-extract", 1.0))
    ]
    with pytest.raises(ValueError, match="filter, flexible-extract, strict-match: choose one"):
        lm_eval_samples(lines)
    with pytest.raises(ValueError, match="no filter `loose`, but flexible-extract, strict-match"):
        lm_eval_samples(lines, chosen="loose")
    [found] = lm_eval_samples(lines, chosen="flexible-extract")
    assert found.scores == {"accuracy": 1.0}
