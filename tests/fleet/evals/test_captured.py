"""Captured requests of every path as golden and as training items."""

import json
from typing import Any

import pytest

from fleet.evals import EXPORTS, CapturedText, read_golden_set

SAID = {"role": "user", "content": "Hi"}
SYSTEM = {"role": "system", "content": "Be short."}
TEXTS = [{"type": "text", "text": "H"}, {"type": "input_text", "text": "i"}]
Body = dict[str, Any]


def text(request: Body, tokens: int | None = 5) -> CapturedText:
    return CapturedText("r1", request, "Hello.", tokens)


@pytest.mark.parametrize(
    ("request_", "asked"),
    [
        ({"messages": [SAID]}, {"messages": [SAID]}),
        ({"messages": [SYSTEM, SAID]}, {"messages": [SYSTEM, SAID]}),
        ({"system": "Be short.", "messages": [SAID]}, {"messages": [SYSTEM, SAID]}),
        ({"messages": [{"role": "user", "content": TEXTS}]}, {"messages": [SAID]}),
        ({"instructions": "Be short.", "input": "Hi"}, {"messages": [SYSTEM, SAID]}),
        ({"input": [SAID]}, {"messages": [SAID]}),
        ({"prompt": "Hi"}, {"prompt": "Hi"}),
    ],
)
def test_text_of_every_path_is_an_item(request_: Body, asked: Body) -> None:
    golden = EXPORTS["golden"](text(request_))
    assert golden == {"id": "r1", **asked, "expected": "Hello."}
    assert len(read_golden_set(json.dumps(golden).encode(), "golden.jsonl").items) == 1
    answer = {"role": "assistant", "content": "Hello."}
    assert EXPORTS["training"](text(request_)) == (
        {"messages": [*asked["messages"], answer]}
        if "messages" in asked
        else {**asked, "completion": "Hello."}
    )


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"messages": []},
        {"messages": ["Hi"]},
        {"messages": [SAID, {"role": "assistant", "content": "He"}]},
        {"messages": [SAID], "tools": [{"type": "function"}]},
        {"messages": [{"role": "tool", "content": "3"}, SAID]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}, SAID]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"messages": [{"role": ["user"], "content": "Hi"}]},
        {"input": [{"type": "function_call_output", "output": "3"}]},
        {"prompt": ["Hi", "Ho"]},
        {"prompt": [1, 2]},
        {"prompt": " "},
    ],
)
def test_a_request_with_more_than_text_is_no_item(request_: Body) -> None:
    assert [EXPORTS[form](text(request_)) for form in EXPORTS] == [None, None]


@pytest.mark.parametrize(
    ("limits", "tokens", "longest"),
    [
        ({}, 5, None), ({}, None, None), ({}, 900, 1800), ({"max_tokens": 64}, 5, 64),
        ({"max_completion_tokens": 512}, 300, 512), ({"max_output_tokens": True}, 5, None),
    ],
)  # fmt: skip
def test_an_item_allows_twice_the_tokens_of_the_answer_or_the_limit_of_the_request(
    limits: Body, tokens: int | None, longest: int | None
) -> None:
    golden = EXPORTS["golden"](text({"messages": [SAID], **limits}, tokens))
    assert golden is not None
    assert golden.get("max_tokens") == longest
