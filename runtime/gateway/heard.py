"""What is gathered of an answer while its stream passes: why it ended, and, if asked, its text."""

from typing import Final

import msgspec

from fleet.response_format import MAX_TEXT, ResponseFormat
from runtime.gateway.answers import Said, choices, judged, text_of, worst
from runtime.usage.row import Tokens

_NONE: Final = msgspec.Raw(b"[]")


class Heard:
    """One stream. Keeps text only where its form is wanted, and no more than can be judged."""

    __slots__ = ("_finish", "_length", "_texts", "_wanted", "listens")

    def __init__(self, wanted: ResponseFormat | None) -> None:
        """Begin."""
        self._wanted = wanted
        self._finish: dict[int, str] = {}
        self._texts: dict[int, list[str]] = {}
        self._length = 0
        self.listens = wanted is not None
        """Whether the text of every event is wanted, and not only why it ended."""

    def hear(self, raw: msgspec.Raw | None) -> None:
        """Take the value of `choices` of one event."""
        for each in choices(raw if raw is not None else _NONE):
            if each.finish_reason:
                self.ended(each.finish_reason, each.index)
            if self.listens:
                text = text_of(each.delta.content if each.delta else each.text)
                if text is not None:
                    self.add(text, each.index)

    def add(self, text: str, index: int = 0) -> None:
        """Take a piece of the text of one of the answers."""
        self._length += len(text)
        self._texts.setdefault(index, []).append(text)
        if self._length > MAX_TEXT * max(1, len(self._texts)):
            self._texts.clear()
            self.listens = False

    def ended(self, reason: str | None, index: int = 0) -> None:
        """Note why one of the answers ended."""
        if reason:
            self._finish[index] = reason

    def said(self, tokens: Tokens, *, complete: bool) -> Said:
        """Return all that is known; the form of a text that is not `complete` is not judged."""
        said = Said(tokens)
        if self._finish:
            said.finish = worst(iter(self._finish.values()))
        if self.listens and self._wanted is not None and complete:
            said.format_ok = judged(self._wanted, ["".join(each) for each in self._texts.values()])
        return said
