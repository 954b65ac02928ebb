"""A stream of typed events, as `/v1/responses` and `/v1/messages` have it: passed on as it is."""

from typing import Final

import msgspec

from fleet.formats import Format
from runtime.gateway.answers import Brief, Counts, Said, finish_of, in_our_words, text_of
from runtime.gateway.heard import Heard
from runtime.gateway.usage import Tokens

_DATA: Final = b"data:"
_LAST: Final = frozenset(
    {"message_stop", "response.completed", "response.incomplete", "response.failed", "error"}
)


class _Begun(msgspec.Struct):
    usage: Counts | None = None


class _Piece(msgspec.Struct):
    """What `delta` is in messages; in responses it is the text itself."""

    text: msgspec.Raw = msgspec.Raw()
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    usage: Counts | None = None
    message: _Begun | None = None
    response: Brief | None = None
    delta: msgspec.Raw = msgspec.Raw()


_EVENT: Final = msgspec.json.Decoder(_Event)
_PIECE: Final = msgspec.json.Decoder(_Piece)
_BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class TypedEvents:
    """One stream; its counts come at the end.

    One that is left before has as many tokens as it had pieces of text: that much was
    generated at least, and a server says no more.
    """

    __slots__ = ("_heard", "_pieces", "_rest", "_tokens", "done")

    def __init__(self, wanted: Format | None = None) -> None:
        """Begin; `wanted`: the form that the text must have, if there is one."""
        self._heard = Heard(wanted)
        self._rest = b""
        self._tokens = Tokens()
        self._pieces = 0
        self.done = False
        """Whether the last event has come."""

    def feed(self, chunk: bytes) -> bytes:
        """Return all of it; the lines that are complete have been read."""
        head, found, self._rest = (self._rest + chunk if self._rest else chunk).rpartition(b"\n")
        if found:
            for line in head.split(b"\n"):
                if line.startswith(_DATA):
                    self._read(line[len(_DATA) :])
        return chunk

    def end(self) -> bytes:
        """Nothing is held back."""
        return b""

    def said(self) -> Said:
        """Return what the stream has told so far."""
        tokens = self._tokens
        if self._pieces and not tokens.completion_tokens:
            tokens = Tokens(tokens.prompt_tokens, self._pieces)
        return self._heard.said(tokens, complete=self.done)

    def _read(self, line: bytes) -> None:
        try:
            event = _EVENT.decode(line)
        except _BROKEN:
            return
        if event.type.endswith("delta"):
            self._take(event)
        elif event.message is not None and event.message.usage is not None:
            self._tokens = event.message.usage.tokens()
        if event.type in _LAST:
            self.done = True
            if event.response is not None:
                self._heard.ended(finish_of(event.response))
                if event.response.usage is not None:
                    self._tokens = event.response.usage.tokens()

    def _take(self, event: _Event) -> None:
        text = text_of(event.delta)
        if text is None:
            try:
                piece = _PIECE.decode(event.delta)
            except _BROKEN:
                return
            text = text_of(piece.text)
            self._heard.ended(in_our_words(piece.stop_reason))
            if piece.stop_reason and event.usage is not None:
                self._tokens = event.usage.tokens()
                return
        self._pieces += 1
        if text is not None and self._heard.listens:
            self._heard.add(text)
