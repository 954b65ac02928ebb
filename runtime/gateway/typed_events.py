"""A stream of typed events, as `/v1/responses` and `/v1/messages` have it: passed on as it is."""

from typing import Final, NamedTuple

import msgspec

from fleet.formats import Format
from runtime.gateway.answers import Brief, Counts, Said, finish_of, in_our_words, text_of
from runtime.gateway.heard import Heard
from runtime.gateway.usage import Tokens

KEPT: Final = 256 * 2**10
"""Bytes of an answer that are kept until its tokens are told: 60,000 tokens or more."""
_DATA: Final = b"data:"
_SIGNATURE: Final = "signature_delta"
_LAST: Final = frozenset(
    {"message_stop", "response.completed", "response.incomplete", "response.failed", "error"}
)


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


_EVENT: Final = msgspec.json.Decoder(_Event)
_PIECE: Final = msgspec.json.Decoder(_Piece)
_BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Sent(NamedTuple):
    """What came of an answer whose tokens were not told."""

    text: bytes
    """Text, reasoning and arguments of tools in the order in which they came, UTF-8."""
    pieces: int
    """In how many pieces: no piece is less than a token."""
    pieces_beyond: int
    """Those of them that are not in `text`, which is `KEPT` bytes long at most."""

    @property
    def is_whole(self) -> bool:
        """Whether the text is all that came."""
        return self.pieces_beyond == 0


class TypedEvents:
    """One stream; its counts come at the end.

    One that is left before has at least as many tokens as it had pieces of text; `sent` is what
    more can be found out from.
    """

    __slots__ = ("_beyond", "_heard", "_kept", "_pieces", "_rest", "_tokens", "done")

    def __init__(self, wanted: Format | None = None) -> None:
        """Begin; `wanted`: the form that the text must have, if there is one."""
        self._heard = Heard(wanted)
        self._rest = b""
        self._tokens = Tokens()
        self._pieces = self._beyond = 0
        self._kept = bytearray()
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

    @property
    def sent(self) -> Sent | None:
        """What came of an answer whose tokens were not told; None: they were, or nothing came."""
        if self.done or not self._pieces or self._tokens.completion_tokens:
            return None
        return Sent(bytes(self._kept), self._pieces, self._beyond)

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
        if self._beyond or len(self._kept) + len(piece) > KEPT:
            self._beyond += 1
        else:
            self._kept += piece
