"""A stream of typed events, as `/v1/responses` and `/v1/messages` have it: passed on as it is."""

from http import HTTPStatus
from typing import Final

import msgspec

from fleet.response_format import ResponseFormat
from runtime.gateway.answers import Brief, Counts, Said, failure, finish_of, in_our_words, text_of
from runtime.gateway.heard import Heard
from runtime.usage.row import BY_PIECES, Tokens

_DATA: Final = b"data:"
_SIGNATURE: Final = "signature_delta"
_FAILED: Final = frozenset({"response.failed", "error"})
_LAST: Final = _FAILED | {"message_stop", "response.completed", "response.incomplete"}


class _Begun(msgspec.Struct):
    usage: Counts | None = None


class _Piece(msgspec.Struct):
    """What `delta` is in messages; in responses it is the text itself."""

    text: msgspec.Raw = msgspec.Raw()
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


class TypedEvents:
    """One stream; its counts come at the end.

    An aborted stream has at least as many tokens as it had pieces of text.
    """

    __slots__ = (
        "_has_answer", "_heard", "_pieces", "_rest", "_tokens", "done", "failed",
    )  # fmt: skip

    def __init__(self, wanted: ResponseFormat | None = None) -> None:
        """Begin; `wanted`: the form that the text must have, if there is one."""
        self._heard = Heard(wanted)
        self._rest = b""
        self._tokens = Tokens()
        self._pieces = 0
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
        said = text_of(event.delta)
        if said is None:
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
        self._pieces += 1
        if said is not None and self._heard.listens:
            self._heard.add(said)
