"""Token counts, finish reason and text of a server's response.

Reads the shapes in which vLLM responds: chat completions and completions (`choices`), responses
(`output`) and messages (`content`).
"""

from collections.abc import Iterator
from typing import Final, TypeVar

import msgspec

from fleet.response_format import MAX_TEXT, ResponseFormat, check_format
from runtime.usage.row import Tokens

CUT_SHORT: Final = "length"
"""Finish reason of an answer that reached its limit of tokens, whatever the shape."""
STOP: Final = "stop"
_NULL: Final = b"null"
_FAILED: Final = 502
_ERRORS: Final = range(400, 600)
_REASONS: Final = {
    "end_turn": STOP,
    "stop_sequence": STOP,
    "max_tokens": CUT_SHORT,
    "tool_use": "tool_calls",
    "max_output_tokens": CUT_SHORT,
}
"""Reasons of the other shapes as chat completions name them."""


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class UsageCounts(msgspec.Struct):
    """Token counts as any of the shapes names them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    """Of messages, whose `input_tokens` leave out the cached part of the prompt."""

    def tokens(self) -> Tokens:
        """Return the counts as completions name them."""
        details = self.prompt_tokens_details or self.input_tokens_details
        known = details.cached_tokens if details else self.cache_read_input_tokens
        if self.input_tokens is None and self.output_tokens is None:
            return Tokens(self.prompt_tokens, self.completion_tokens, known)
        cached = (self.cache_read_input_tokens or 0) + (self.cache_creation_input_tokens or 0)
        read = self.input_tokens
        return Tokens(None if read is None else read + cached, self.output_tokens, known)


class MessageText(msgspec.Struct):
    """The text of a message, or the text that a stream adds to a message."""

    content: msgspec.Raw = msgspec.Raw()
    """Text or null; undecoded, since of most responses no text is read."""


class ChoiceEnd(msgspec.Struct):
    """The finish reason of an answer in a response."""

    finish_reason: str | None = None


class AnswerChoice(ChoiceEnd):
    """An answer in a response, with its text."""

    index: int = 0
    message: MessageText | None = None
    delta: MessageText | None = None
    text: msgspec.Raw = msgspec.Raw()


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class ResponseSummary(msgspec.Struct):
    """A response without its text, which is read only where an adapter declares a format."""

    usage: UsageCounts | None = None
    choices: list[ChoiceEnd] | None = None
    stop_reason: str | None = None
    status: str | None = None
    incomplete_details: _Incomplete | None = None


class _ErrorEvent(msgspec.Struct):
    code: int | str | None = None
    type: str | None = None


class _Texts(msgspec.Struct):
    choices: list[AnswerChoice] = []
    content: msgspec.Raw = msgspec.Raw()
    output: msgspec.Raw = msgspec.Raw()


class UsageOnly(msgspec.Struct):
    """A document of which the token counts alone are read."""

    usage: UsageCounts | None = None


class _TextPart(msgspec.Struct):
    type: str = ""
    text: str = ""
    content: "list[_TextPart]" = []


_SUMMARY: Final = msgspec.json.Decoder(ResponseSummary)
_TEXTS: Final = msgspec.json.Decoder(_Texts)
_ERROR_EVENT: Final = msgspec.json.Decoder(_ErrorEvent)
_USAGE_ONLY: Final = msgspec.json.Decoder(UsageOnly)
_USAGE: Final = msgspec.json.Decoder(UsageCounts | None)
_CHOICES: Final = msgspec.json.Decoder(list[AnswerChoice])
_PARTS: Final = msgspec.json.Decoder(list[_TextPart])
_TEXT: Final = msgspec.json.Decoder(str)
_BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_Default = TypeVar("_Default")
_Decoded = TypeVar("_Decoded")


class ResponseFacts(msgspec.Struct):
    """The facts that a response states of itself; None: not stated, or no format is declared."""

    tokens: Tokens
    finish: str | None = None
    """`stop`, `length`, `tool_calls` …; of several answers the first reason that is not `stop`."""
    format_ok: bool | None = None
    counted: str | None = None
    """As `UsageRow.counted`."""
    texts: list[str] = []
    """Answers of a complete stream whose text is collected."""


def inspect_response(body: bytes, expected: ResponseFormat | None) -> ResponseFacts:
    """Return the facts of a whole JSON response; `expected` None: text of any format."""
    finish: str | None = None
    try:
        summary = _SUMMARY.decode(body)
        usage, finish = summary.usage, finish_of(summary)
    except _BROKEN:
        usage = decoded(_USAGE_ONLY, body, UsageOnly()).usage
    facts = ResponseFacts(usage.tokens() if usage else Tokens(), finish)
    if expected is not None:
        facts.format_ok = judge_format(expected, texts_of(body))
    return facts


def decoded(
    decoder: msgspec.json.Decoder[_Decoded], raw: bytes | msgspec.Raw, default: _Default
) -> _Decoded | _Default:
    """Return a decoded value; the default where the value is damaged or has another shape."""
    try:
        return decoder.decode(raw)
    except _BROKEN:
        return default


def parse_usage(raw: bytes) -> Tokens:
    """Return the token counts in a value of `usage`; empty where the value has none."""
    usage = decoded(_USAGE, raw, None)
    return usage.tokens() if usage else Tokens()


def error_status(raw: bytes | msgspec.Raw) -> int:
    """Return the HTTP status of `error` in an event of a stream.

    That is its code where the code is the status of an HTTP error; 400 where its type is
    `invalid_request_error`; else 502. 0: `raw` is null or empty, there is no error.
    """
    if not memoryview(raw) or bytes(raw) == _NULL:
        return 0
    error = decoded(_ERROR_EVENT, raw, _ErrorEvent())
    if isinstance(error.code, int) and error.code in _ERRORS:
        return error.code
    return 400 if error.type == "invalid_request_error" else _FAILED


def parse_choices(raw: bytes | msgspec.Raw) -> list[AnswerChoice]:
    """Return the value of `choices` in an event; empty where the value has another shape."""
    return decoded(_CHOICES, raw, [])


def first_unusual(reasons: Iterator[str | None]) -> str | None:
    """Return the first reason that is not `stop`, else `stop`; None: there is no reason."""
    given = [reason for reason in reasons if reason]
    return next((reason for reason in given if reason != STOP), given[0] if given else None)


def finish_reason(reason: str | None) -> str | None:
    """Return a reason of messages or responses in the words of chat completions."""
    return _REASONS.get(reason, reason) if reason else None


def parse_text(raw: msgspec.Raw) -> str | None:
    """Return a text; None for null, an empty value and any other type."""
    if not memoryview(raw) or raw == _NULL:
        return None
    return decoded(_TEXT, raw, None)


def judge_format(expected: ResponseFormat, texts: list[str]) -> bool | None:
    """Return whether all texts have a format; None: there is no text, or a text is too long."""
    checks = [check_format(expected, text) if len(text) <= MAX_TEXT else None for text in texts]
    return None if not checks or None in checks else all(checks)


def finish_of(reply: ResponseSummary) -> str | None:
    """Return the finish reason of a response of any shape in the words of chat completions."""
    if reply.choices:
        if len(reply.choices) == 1:
            return reply.choices[0].finish_reason
        return first_unusual(choice.finish_reason for choice in reply.choices)
    if reply.incomplete_details is not None and reply.incomplete_details.reason:
        return finish_reason(reply.incomplete_details.reason)
    if reply.stop_reason:
        return finish_reason(reply.stop_reason)
    return STOP if reply.status == "completed" else None


def texts_of(body: bytes) -> list[str]:
    """Return the text of every answer in a whole JSON response."""
    reply = decoded(_TEXTS, body, _Texts())
    if reply.choices:
        raws = (
            choice.message.content if choice.message else choice.text for choice in reply.choices
        )
        return [text for raw in raws if (text := parse_text(raw)) is not None]
    raw = reply.content if memoryview(reply.content) else reply.output
    given = decoded(_PARTS, raw, []) if memoryview(raw) else []
    parts = [part for part in given if part.type != "reasoning"]
    text = "".join(part.text + "".join(inner.text for inner in part.content) for part in parts)
    return [text] if text else []
