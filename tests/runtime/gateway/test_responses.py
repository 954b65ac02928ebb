"""The facts in answers of the four shapes of a real vLLM 0.32."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from fleet.response_format import FormatKind, ResponseFormat
from fleet.traffic import TrafficPolicy
from runtime.gateway.body.responses import ResponseFacts, inspect_response, texts_of
from runtime.gateway.body.sse import CompletionsStream, TypedStream
from runtime.usage.row import Tokens
from tests.runtime.gateway.sockets import asked, scripted
from tests.runtime.gateway.stage import OLD, alias, chat, stage, table

LABELS = ResponseFormat(FormatKind.LABELS, labels=("billing",))


def choice(text: str | None, finish: str | None = "stop", index: int = 0) -> dict[str, Any]:
    return {"index": index, "message": {"content": text}, "finish_reason": finish}


COUNTED = {"usage": {"prompt_tokens": 5, "completion_tokens": 3}}
TYPED = {"usage": {"input_tokens": 5, "output_tokens": 3}}
PART = {"content": [{"type": "output_text", "text": "billing"}], "type": "message"}
BLOCKS = {"content": [{"type": "text", "text": "billing"}]}


@pytest.mark.parametrize(
    ("reply", "finish", "format_ok"),
    [
        ({"choices": [choice("billing")], **COUNTED}, "stop", True),
        ({"choices": [choice("no", "length")], **COUNTED}, "length", False),
        ({"choices": [choice("billing"), choice("b", "length")], **COUNTED}, "length", False),
        ({"choices": [choice(None, "tool_calls")], **COUNTED}, "tool_calls", None),
        ({"choices": [{"text": "billing", "finish_reason": "stop"}], **COUNTED}, "stop", True),
        ({"output": [PART], "status": "completed", **TYPED}, "stop", True),
        (
            {
                "output": [PART],
                "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"},
                **TYPED,
            },
            "length",
            True,
        ),
        ({**BLOCKS, "stop_reason": "end_turn", **TYPED}, "stop", True),
        ({**BLOCKS, "stop_reason": "max_tokens", **TYPED}, "length", True),
        ({"choices": "odd", **COUNTED}, None, None),  # whatever it is, its tokens count
    ],
)
def test_a_whole_answer_tells_its_tokens_its_end_and_its_form(
    reply: dict[str, Any],
    finish: str | None,
    format_ok: bool | None,  # noqa: FBT001 (a column of the table)
) -> None:
    body = json.dumps(reply).encode()
    assert inspect_response(body, LABELS) == ResponseFacts(Tokens(5, 3), finish, format_ok)
    assert inspect_response(body, None) == ResponseFacts(Tokens(5, 3), finish, None)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"usage": 3}', b"\xff", b"[" * 9000])
def test_of_what_is_no_answer_nothing_is_told(body: bytes) -> None:
    assert inspect_response(body, LABELS) == ResponseFacts(Tokens())


def line(document: Any) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def piece(text: str, finish: str | None = None, index: int = 0) -> bytes:
    return line({"choices": [{"index": index, "delta": {"content": text}, "finish_reason": finish}],
                 **COUNTED})  # fmt: skip


COMPLETIONS = [piece("bil"), piece("ling", "stop"), b"data: [DONE]\n\n"]
TWO = [piece("billing"), piece("b", None, 1), piece("", "length", 1), *COMPLETIONS[2:]]
RESPONSES = [
    line({"type": "response.created", "response": {"usage": None, "status": "in_progress"}}),
    line({"type": "response.reasoning_text.delta", "delta": "Shipping?"}),
    line({"type": "response.output_text.delta", "delta": "bil"}),
    line({"type": "response.output_text.delta", "delta": "ling"}),
    line({"type": "response.completed", "response": {"status": "completed", **TYPED}}),
]
MESSAGES = [
    line({"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 0}}}),
    line({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "bil"}}),
    line({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "ling"}}),
    line({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, **TYPED}),
    line({"type": "message_stop"}),
]


@pytest.mark.parametrize(
    ("stream", "lines", "finish", "format_ok"),
    [
        (CompletionsStream, COMPLETIONS, "stop", True),
        (CompletionsStream, TWO, "length", False),
        (TypedStream, RESPONSES, "stop", True),
        (TypedStream, MESSAGES, "length", True),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_tells_the_same_wherever_it_is_cut(
    stream: type[CompletionsStream | TypedStream],
    lines: list[bytes],
    finish: str,
    format_ok: bool,  # noqa: FBT001 (a column of the table)
    size: int,
) -> None:
    whole = b"".join(lines)
    made = _new(stream)
    passed = b"".join(made.feed(whole[at : at + size]) for at in range(0, len(whole), size))
    assert passed + made.end() == whole
    assert made.is_done
    texts = ["billing", "b"] if lines is TWO else ["billing"]
    assert made.result() == ResponseFacts(Tokens(5, 3), finish, format_ok, texts=texts)


def test_the_text_of_a_response_is_its_message_alone() -> None:
    parts = [
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Shipping?"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "billing"}]},
    ]
    assert texts_of(json.dumps({"output": parts}).encode()) == ["billing"]


@pytest.mark.parametrize(
    ("stream", "lines", "tokens"),
    [
        (CompletionsStream, COMPLETIONS, Tokens(5, 3)),
        (TypedStream, RESPONSES, Tokens(None, 2)),
        (TypedStream, MESSAGES, Tokens(5, 2)),
    ],
)
def test_a_stream_that_is_left_counts_what_came_and_judges_nothing(
    stream: type[CompletionsStream | TypedStream], lines: list[bytes], tokens: Tokens
) -> None:
    made = _new(stream)
    for each in lines[:3] if stream is TypedStream else lines[:1]:
        made.feed(each)
    assert made.result() == ResponseFacts(
        tokens, counted="pieces" if stream is TypedStream else None
    )


def _new(stream: type[CompletionsStream | TypedStream]) -> CompletionsStream | TypedStream:
    if stream is CompletionsStream:
        return CompletionsStream(keeps_last=True, keeps_all=True, expected=LABELS)
    return TypedStream(LABELS)


@pytest.mark.usefixtures("serving_loop")
@pytest.mark.parametrize("streams", [False, True])
def test_the_usage_row_says_whether_an_answer_has_its_form(
    tmp_path: Path, *, streams: bool
) -> None:
    texts = iter(["billing", "Billing!"])

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            await asked(reader)
            body = json.dumps({"choices": [choice(text := next(texts))], **COUNTED}).encode()
            kind = b"application/json"
            if streams:
                kind, body = b"text/event-stream", piece(text, "stop") + COMPLETIONS[-1]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n" % kind)
            writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, scripted(script) as url:
            given = table({"s1": url}, revision=2)
            entry = alias("acme", (OLD, 100, ("s1",)), policy=TrafficPolicy(format=LABELS))
            await ours.gateways.publish(
                given.model_copy(update={"aliases": {"acme-support": entry}})
            )
            for _ in range(2):
                assert (await ours.send(chat(stream=streams))).status == 200
            kept = [(row["finish"], row["format_ok"], row["purpose"]) for row in ours.rows()]
            assert kept == [("stop", True, "live"), ("stop", False, "live")]

    asyncio.run(scenario())
