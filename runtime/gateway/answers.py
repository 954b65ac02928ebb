"""What a server's answer says of itself: token counts, why it ended, and its text.

Reads the four shapes in which vLLM answers: chat completions and completions (`choices`),
responses (`output`) and messages (`content`).
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from fleet.response_format import MAX_TEXT, ResponseFormat, check_format
from runtime.usage.row import Tokens

CUT_SHORT: Final = "length"
"""Why an answer ended that was cut at the most tokens it may have, whatever the shape."""
_WHOLE: Final = "stop"
_NULL: Final = b"null"
_FAILED: Final = 502
_ERRORS: Final = range(400, 600)
_REASONS: Final = {
    "end_turn": _WHOLE,
    "stop_sequence": _WHOLE,
    "max_tokens": CUT_SHORT,
    "tool_use": "tool_calls",
    "max_output_tokens": CUT_SHORT,
}
"""The words of the other shapes, in those of chat completions."""


class Counts(msgspec.Struct):
    """Token counts in the words of any of the shapes."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    """Of messages, where `input_tokens` are those of the prompt that no cache had."""

    def tokens(self) -> Tokens:
        """Return them in the words of completions."""
        if self.input_tokens is None and self.output_tokens is None:
            return Tokens(self.prompt_tokens, self.completion_tokens)
        cached = (self.cache_read_input_tokens or 0) + (self.cache_creation_input_tokens or 0)
        read = self.input_tokens
        return Tokens(None if read is None else read + cached, self.output_tokens)


class Spoken(msgspec.Struct):
    """A message, or what a stream adds to it."""

    content: msgspec.Raw = msgspec.Raw()
    """Text or null; left undecoded, for most answers nobody looks."""


class Ending(msgspec.Struct):
    """Why one of the answers to a request for completions ended."""

    finish_reason: str | None = None


class Choice(Ending):
    """One of the answers, with its text."""

    index: int = 0
    message: Spoken | None = None
    delta: Spoken | None = None
    text: msgspec.Raw = msgspec.Raw()


class _Why(msgspec.Struct):
    reason: str | None = None


class Brief(msgspec.Struct):
    """All but the text, which is read only where somebody wants to know its form."""

    usage: Counts | None = None
    choices: list[Ending] | None = None
    stop_reason: str | None = None
    status: str | None = None
    incomplete_details: _Why | None = None


class _Error(msgspec.Struct):
    code: int | str | None = None
    type: str | None = None


class _Reply(msgspec.Struct):
    choices: list[Choice] = []
    content: msgspec.Raw = msgspec.Raw()
    output: msgspec.Raw = msgspec.Raw()


class _Counted(msgspec.Struct):
    usage: Counts | None = None


class _Part(msgspec.Struct):
    text: str = ""
    content: "list[_Part]" = []


_BRIEF: Final = msgspec.json.Decoder(Brief)
_REPLY: Final = msgspec.json.Decoder(_Reply)
_ERROR: Final = msgspec.json.Decoder(_Error)
_COUNTED: Final = msgspec.json.Decoder(_Counted)
_COUNTS: Final = msgspec.json.Decoder(Counts | None)
_CHOICES: Final = msgspec.json.Decoder(list[Choice])
_PARTS: Final = msgspec.json.Decoder(list[_Part])
_TEXT: Final = msgspec.json.Decoder(str)
_BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Said(msgspec.Struct):
    """What was found out about an answer; None: it does not say, or nobody asked."""

    tokens: Tokens
    finish: str | None = None
    """`stop`, `length`, `tool_calls` …: of several answers, the first that is not `stop`."""
    format_ok: bool | None = None
    counted: str | None = None
    """As in a usage row: how tokens were counted that the server had not reported."""


def of_reply(body: bytes, wanted: ResponseFormat | None) -> Said:
    """Read a whole JSON answer.

    Args:
        body: As the server sent it.
        wanted: The form that its text must have, if there is one.
    """
    finish: str | None = None
    try:
        brief = _BRIEF.decode(body)
        usage, finish = brief.usage, finish_of(brief)
    except _BROKEN:
        try:
            usage = _COUNTED.decode(body).usage
        except _BROKEN:
            usage = None
    said = Said(usage.tokens() if usage else Tokens(), finish)
    if wanted is not None:
        said.format_ok = judged(wanted, _texts(body))
    return said


def of_usage(raw: bytes) -> Tokens:
    """Return the token counts in the value of `usage`; empty if it has none."""
    try:
        found = _COUNTS.decode(raw)
    except _BROKEN:
        found = None
    return found.tokens() if found else Tokens()


def failure(raw: bytes | msgspec.Raw) -> int:
    """Return the status that an error amounts to which comes as an event of a stream.

    Args:
        raw: The value of `error`.

    Returns:
        The code that it says, where that is one of an HTTP error; 400 where it calls the request
        invalid, 502 for all else; 0 for null and nothing.
    """
    if not memoryview(raw) or bytes(raw) == _NULL:
        return 0
    try:
        error = _ERROR.decode(raw)
    except _BROKEN:
        return _FAILED
    if isinstance(error.code, int) and error.code in _ERRORS:
        return error.code
    return 400 if error.type == "invalid_request_error" else _FAILED


def choices(raw: bytes | msgspec.Raw) -> list[Choice]:
    """Return the value of `choices` in an event; none where it is of another shape."""
    try:
        return _CHOICES.decode(raw)
    except _BROKEN:
        return []


def worst(reasons: Iterator[str | None]) -> str | None:
    """Return why several answers ended: the first reason that is not `stop`."""
    found = [each for each in reasons if each]
    return next((each for each in found if each != _WHOLE), found[0] if found else None)


def in_our_words(reason: str | None) -> str | None:
    """Return a reason of messages or responses in the words of chat completions."""
    return _REASONS.get(reason, reason) if reason else None


def text_of(raw: msgspec.Raw) -> str | None:
    """Return a text; None for null, nothing and whatever is no text."""
    if not memoryview(raw) or raw == _NULL:
        return None
    try:
        return _TEXT.decode(raw)
    except _BROKEN:
        return None


def judged(wanted: ResponseFormat, texts: list[str]) -> bool | None:
    """Say whether all these answers have a form; None where there is none, or one is too long."""
    found = [check_format(wanted, each) if len(each) <= MAX_TEXT else None for each in texts]
    return None if not found or None in found else all(found)


def finish_of(reply: Brief) -> str | None:
    """Return why an answer of any shape ended, in the words of chat completions."""
    if reply.choices:
        if len(reply.choices) == 1:
            return reply.choices[0].finish_reason
        return worst(each.finish_reason for each in reply.choices)
    if reply.incomplete_details is not None and reply.incomplete_details.reason:
        return in_our_words(reply.incomplete_details.reason)
    if reply.stop_reason:
        return in_our_words(reply.stop_reason)
    return _WHOLE if reply.status == "completed" else None


def _texts(body: bytes) -> list[str]:
    try:
        reply = _REPLY.decode(body)
    except _BROKEN:
        return []
    if reply.choices:
        raws = (each.message.content if each.message else each.text for each in reply.choices)
        return [text for raw in raws if (text := text_of(raw)) is not None]
    raw = reply.content if memoryview(reply.content) else reply.output
    try:
        parts = _PARTS.decode(raw) if memoryview(raw) else []
    except _BROKEN:
        return []
    text = "".join(each.text + "".join(inner.text for inner in each.content) for each in parts)
    return [text] if text else []
