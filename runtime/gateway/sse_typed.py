"""Streams of typed events of `/v1/responses` and `/v1/messages`, which are passed on unchanged."""

from http import HTTPStatus
from typing import Final

import msgspec

from fleet.response_format import ResponseFormat
from runtime.gateway import responses
from runtime.gateway.body import RequestBody
from runtime.gateway.endpoints import TYPED, answers
from runtime.gateway.sse import CompletionsStream, OutputCollector
from runtime.usage.row import BY_PIECES, Tokens

_DATA: Final = b"data:"
_FAILED: Final = frozenset({"response.failed", "error"})
_LAST: Final = _FAILED | {"message_stop", "response.completed", "response.incomplete"}


class _Delta(msgspec.Struct):
    """The value of `delta` in messages; in responses the value is the text itself."""

    text: msgspec.Raw = msgspec.Raw()
    stop_reason: str | None = None
    type: str = ""


class _TypedEvent(msgspec.Struct):
    type: str = ""
    usage: responses.UsageCounts | None = None
    message: responses.UsageOnly | None = None
    response: responses.ResponseSummary | None = None
    delta: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_EVENT: Final = msgspec.json.Decoder(_TypedEvent)
_DELTA: Final = msgspec.json.Decoder(_Delta)


class TypedStream:
    """A stream of typed events; the server reports its token counts at the end.

    A stream that ends before has at least as many tokens as pieces of text, reasoning and
    arguments of tools: a piece is a token or more. The row says so (`counted: pieces`).
    """

    def __init__(self, expected: ResponseFormat | None = None) -> None:
        self._output = OutputCollector(expected)
        self._rest = b""
        self._tokens = Tokens()
        self._pieces = 0
        self._has_answer = False
        self.is_done = False
        self.failed = 0
        """Status of its error event; 502: the stream ended without an answer; 0: neither."""

    def feed(self, chunk: bytes) -> bytes:
        """Return the chunk; the complete lines have been read."""
        head, found, self._rest = (self._rest + chunk if self._rest else chunk).rpartition(b"\n")
        if found:
            for line in head.split(b"\n"):
                if line.startswith(_DATA):
                    self._read(line[len(_DATA) :])
        return chunk

    def end(self) -> bytes:
        """Return nothing, for nothing is held back; note a stream without an answer."""
        if not self._has_answer and not self.failed:
            self.failed = HTTPStatus.BAD_GATEWAY
        return b""

    def result(self) -> responses.ResponseFacts:
        """Return the facts that the stream has stated so far."""
        facts = self._output.result(self._tokens, complete=self.is_done)
        if self._pieces and not self._tokens.completion_tokens:
            facts.tokens = Tokens(self._tokens.prompt_tokens, self._pieces)
            facts.counted = BY_PIECES
        return facts

    def _read(self, line: bytes) -> None:
        event = responses.decoded(_EVENT, line, None)
        if event is None:
            return
        if event.type.endswith("delta"):
            self._read_delta(event)
        elif event.message is not None and event.message.usage is not None:
            self._tokens = event.message.usage.tokens()
        if status := responses.error_status(event.error):
            self.failed = status
        elif event.type in _FAILED:
            self.failed = HTTPStatus.BAD_GATEWAY
        else:
            self._has_answer = True
        if event.type in _LAST:
            self.is_done = True
            if event.response is not None:
                self._output.note_finish(responses.finish_of(event.response))
                if event.response.usage is not None:
                    self._tokens = event.response.usage.tokens()

    def _read_delta(self, event: _TypedEvent) -> None:
        text = responses.parse_text(event.delta)
        if text is None:
            delta = responses.decoded(_DELTA, event.delta, None)
            if delta is None:
                return
            self._output.note_finish(responses.finish_reason(delta.stop_reason))
            if delta.stop_reason and event.usage is not None:
                self._tokens = event.usage.tokens()
                return
            if delta.type == "signature_delta":  # made by the server: no token stands for it
                return
            text = responses.parse_text(delta.text)
        self._pieces += 1
        if text is not None and self._output.collects_text:
            self._output.add(text)


EventStream = CompletionsStream | TypedStream


def event_stream(path: str, body: RequestBody, expected: ResponseFormat | None) -> EventStream:
    """Return the reader of a request's stream; `expected` None: text of any format."""
    if path in TYPED:
        return TypedStream(expected)
    return CompletionsStream(
        keeps_last=body.wants_last_usage,
        keeps_all=body.wants_all_usage,
        expected=expected,
        answers=answers(path, body.fields),
    )
