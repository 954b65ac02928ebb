"""A stream of typed events, as `/v1/responses` and `/v1/messages` have it: passed on as it is."""

from array import array
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec

from fleet.response_format import ResponseFormat
from runtime.gateway.answers import Brief, Counts, Said, failure, finish_of, in_our_words, text_of
from runtime.gateway.heard import Heard
from runtime.gateway.usage import BY_PIECES, Tokens

KEPT: Final = 256 * 2**10
"""Bytes and pieces of an answer that are kept until its tokens are told: 50,000 tokens or so."""
_DATA: Final = b"data:"
_SIGNATURE: Final = "signature_delta"
_FAILED: Final = frozenset({"response.failed", "error"})
_LAST: Final = _FAILED | {"message_stop", "response.completed", "response.incomplete"}


class _Begun(msgspec.Struct):
    usage: Counts | None = None


class _Piece(msgspec.Struct):
    """What `delta` is in messages; in responses it is the text itself."""

    text: msgspec.Raw = msgspec.Raw()
    thinking: msgspec.Raw = msgspec.Raw()
    partial_json: msgspec.Raw = msgspec.Raw()
    stop_reason: str | None = None
    type: str = ""


class _Event(msgspec.Struct):
    type: str = ""
    usage: Counts | None = None
    message: _Begun | None = None
    response: Brief | None = None
    delta: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_EVENT: Final = msgspec.json.Decoder(_Event)
_PIECE: Final = msgspec.json.Decoder(_Piece)
_BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Sent(NamedTuple):
    """What came of an answer whose tokens were not told: text, reasoning, arguments of tools."""

    text: bytes
    """In the order in which they came, UTF-8."""
    ends: Sequence[int]
    """Where in `text` each piece ends; a token is never in two of them."""
    beyond: int
    """Pieces that came after those."""

    @property
    def pieces(self) -> int:
        """How many came: no piece is less than a token."""
        return len(self.ends) + self.beyond

    def part(self, first: int, end: int) -> str:
        """Return the text of some pieces, by their numbers."""
        start, stop = (self.ends[number - 1] if number else 0 for number in (first, end))
        return self.text[start:stop].decode()


class TypedEvents:
    """One stream; its counts come at the end.

    One that is left before has at least as many tokens as it had pieces of text; `sent` is what
    more can be found out from.
    """

    __slots__ = (
        "_beyond", "_ends", "_has_answer", "_heard", "_kept", "_pieces", "_rest", "_tokens", "done",
        "failed",
    )  # fmt: skip

    def __init__(self, wanted: ResponseFormat | None = None) -> None:
        """Begin; `wanted`: the form that the text must have, if there is one."""
        self._heard = Heard(wanted)
        self._rest = b""
        self._tokens = Tokens()
        self._pieces = self._beyond = 0
        self._kept = bytearray()
        self._ends = array("I")
        self._has_answer = False
        self.done = False
        """Whether the last event has come."""
        self.failed = 0
        """The status that its error event amounts to; 502 where it ended and held no answer."""

    def feed(self, chunk: bytes) -> bytes:
        """Return all of it; the lines that are complete have been read."""
        head, found, self._rest = (self._rest + chunk if self._rest else chunk).rpartition(b"\n")
        if found:
            for line in head.split(b"\n"):
                if line.startswith(_DATA):
                    self._read(line[len(_DATA) :])
        return chunk

    def end(self) -> bytes:
        """Nothing is held back; the server must have said something."""
        if not self._has_answer and not self.failed:
            self.failed = HTTPStatus.BAD_GATEWAY
        return b""

    def said(self) -> Said:
        """Return what the stream has told so far."""
        said = self._heard.said(self._tokens, complete=self.done)
        if self._pieces and not self._tokens.completion_tokens:
            said.tokens = Tokens(self._tokens.prompt_tokens, self._pieces)
            said.counted = BY_PIECES
        return said

    @property
    def sent(self) -> Sent | None:
        """What came of an answer whose tokens were not told; None: they were, or nothing came."""
        if self.done or not self._pieces or self._tokens.completion_tokens:
            return None
        return Sent(bytes(self._kept), self._ends, self._beyond)

    def _read(self, line: bytes) -> None:
        try:
            event = _EVENT.decode(line)
        except _BROKEN:
            return
        if event.type.endswith("delta"):
            self._take(event)
        elif event.message is not None and event.message.usage is not None:
            self._tokens = event.message.usage.tokens()
        if failed := failure(event.error):
            self.failed = failed
        elif event.type in _FAILED:
            self.failed = HTTPStatus.BAD_GATEWAY
        else:
            self._has_answer = True
        if event.type in _LAST:
            self.done = True
            if event.response is not None:
                self._heard.ended(finish_of(event.response))
                if event.response.usage is not None:
                    self._tokens = event.response.usage.tokens()

    def _take(self, event: _Event) -> None:
        text = said = text_of(event.delta)
        if text is None:
            try:
                piece = _PIECE.decode(event.delta)
            except _BROKEN:
                return
            self._heard.ended(in_our_words(piece.stop_reason))
            if piece.stop_reason and event.usage is not None:
                self._tokens = event.usage.tokens()
                return
            if piece.type == _SIGNATURE:  # of the server's making: no token stands for it
                return
            said = text_of(piece.text)
            text = said or text_of(piece.thinking) or text_of(piece.partial_json)
        self._pieces += 1
        self._keep(text or "")
        if said is not None and self._heard.listens:
            self._heard.add(said)

    def _keep(self, text: str) -> None:
        piece = text.encode()
        if self._beyond or len(self._kept) + len(piece) + len(self._ends) >= KEPT:
            self._beyond += 1
        else:
            self._kept += piece
            self._ends.append(len(self._kept))
