"""The bounds of request fields, at their edges, and fields that no server gets."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from runtime.gateway.body.body import parse_body
from runtime.gateway.body.endpoints import CHAT, EMBEDDINGS, TEXT, check_fields
from runtime.gateway.body.errors import ApiError
from runtime.gateway.body.fields import BOUNDS, BY_PATH, DROPPED, PASSED, REFUSED
from tests.runtime.gateway.stage import chat, stage

IDS = "`{}` may have at most {} elements."
PAGE = Path(__file__).parents[3] / "docs" / "client-api.md"


def refusal(path: str = CHAT, **fields: Any) -> str:
    """Return the words of the refusal; empty: the body goes on."""
    body = parse_body(json.dumps({"model": "m", **fields}).encode())
    try:
        check_fields(path, body.fields, max_answers=16)
    except ApiError as error:
        return f"{error.status} {error.parameter}: {error.message}"
    return ""


def ids(count: int) -> list[int]:
    return list(range(count))


def biased(count: int) -> dict[str, int]:
    return {str(number): -100 for number in range(count)}


@pytest.mark.parametrize(
    ("name", "allowed", "beyond", "says"),
    [
        ("allowed_token_ids", ids(1024), ids(1025), IDS.format("allowed_token_ids", 1024)),
        ("logit_bias", biased(1024), biased(1025), IDS.format("logit_bias", 1024)),
        ("stop_token_ids", ids(120), ids(121), IDS.format("stop_token_ids", 120)),
        ("stop_token_ids", ids(120), ids(129), "at most 120"),
        ("logprob_token_ids", ids(120), ids(121), "at most 120"),
        ("stop", ["a"] * 4, ["a"] * 5, "at most 4"),
        ("stop", "a" * 4096, "a" * 4097, "at most 4096 bytes"),
        ("stop_sequences", ["a"] * 4, ["a"] * 5, "at most 4"),
        ("bad_words", ["a"] * 64, ["a"] * 65, "at most 64"),
        ("bad_words", ["é" * 224], ["é" * 224, "a"], "at most 448 bytes"),
        ("min_tokens", 1_000_000, 1_000_001, "`min_tokens` may be at most 1000000."),
        ("min_tokens", "1_000_000", "2147483648", "at most 1000000"),
        ("min_tokens", 1e6, "1e400", "at most 1000000"),
        ("min_tokens", "no number", " 1e9 ", "at most 1000000"),
        ("thinking_token_budget", -1, 2**31, "at most 1000000"),
        ("thinking", {"budget_tokens": 2048}, {"budget_tokens": 2**31}, "`thinking.budget_tokens`"),
        ("thinking", {"type": "adaptive"}, {"budget_tokens": "2147483648"}, "at most 1000000"),
        ("logprobs", True, 21, "`logprobs` may be at most 20."),
        ("top_logprobs", 20, 21, "at most 20"),
        ("n", 16, 17, "At most 16 answers"),
        ("best_of", None, 17, "At most 16 answers"),
        ("best_of", "16", "1e9", "At most 16 answers"),
        ("repetition_detection", {"max_pattern_size": 256}, {"max_pattern_size": 257}, "at most"),
        ("stream_options", {"x": "a" * 4000}, {"x": "a" * 4096}, "at most 4096 bytes"),
        ("allowed_token_ids", [1] * 1024, [10**80] * 1000, "at most 65536 bytes"),
    ],
)  # fmt: skip
def test_a_field_is_bounded_where_it_enters(
    name: str, allowed: Any, beyond: Any, says: str
) -> None:
    assert refusal(**{name: allowed}) == ""
    found = refusal(**{name: beyond})
    assert found.startswith(f"400 {name}: ")
    assert says in found


def test_prompts_are_counted_only_as_far_as_that_is_cheap() -> None:
    assert refusal(TEXT, prompt=["a"] * 16) == ""
    assert "At most 16 answers" in refusal(TEXT, prompt=["a"] * 17)
    assert "commas" in refusal(TEXT, prompt=[""] * 250_002)
    assert refusal(TEXT, prompt=[1] * 300_000) == ""  # one prompt, as tokens
    assert refusal(EMBEDDINGS, input=["a"] * 2048) == ""
    assert "2048 texts" in refusal(EMBEDDINGS, input=[[1]] * 2049)
    assert refusal(EMBEDDINGS, input=[1] * 8000) == ""


def test_a_field_is_in_one_list_only() -> None:
    lists = [PASSED, DROPPED, REFUSED, BY_PATH, BOUNDS.keys()]
    assert sum(map(len, lists)) == len(set().union(*lists))


def test_the_page_names_all_fields_that_are_bounded_or_dropped() -> None:
    text = PAGE.read_text("utf-8")
    assert [name for name in {*DROPPED, *BOUNDS} if f"`{name}`" not in text] == []


def test_a_field_that_no_list_names_is_dropped_and_a_bounded_one_arrives_whole(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            given: dict[str, Any] = {"unheard_of": 7, "stop": ["a", "b"], "logit_bias": {"7": 1.5}}
            assert (await ours.send(chat(**given))).status == 200
            (sent,) = (json.loads(body) for body in ours.replicas["s1"].bodies)
            assert "unheard_of" not in sent
            assert (sent["stop"], sent["logit_bias"]) == (["a", "b"], {"7": 1.5})

            refused = await ours.send(chat(stop_token_ids=ids(200)))
            error = refused.json["error"]
            assert (refused.status, error["param"]) == (400, "stop_token_ids")
            assert error["type"] == "invalid_request_error"
            assert len(ours.asked) == 1
            assert [row["status"] for row in ours.rows()] == [200, 400]

    asyncio.run(scenario())
