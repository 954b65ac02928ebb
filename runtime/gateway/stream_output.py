"""Finish reasons and text of the part of a stream that has come."""

import msgspec

from fleet.response_format import MAX_TEXT, ResponseFormat
from runtime.gateway import responses
from runtime.usage.row import Tokens


class OutputCollector:
    """Finish reason of a stream, and its text where a format is `expected` and can be judged."""

    def __init__(self, expected: ResponseFormat | None) -> None:
        self._expected = expected
        self._finish: dict[int, str] = {}
        """By number of the answer."""
        self._texts: dict[int, list[str]] = {}
        self._length = 0
        self.collects_text = expected is not None
        """Whether every event has to be read, and not only the last ones."""

    def observe(self, raw: bytes | msgspec.Raw) -> None:
        """Read the value of `choices` of an event."""
        for choice in responses.parse_choices(raw):
            if choice.finish_reason:
                self.note_finish(choice.finish_reason, choice.index)
            if self.collects_text:
                text = responses.parse_text(choice.delta.content if choice.delta else choice.text)
                if text is not None:
                    self.add(text, choice.index)

    def add(self, text: str, index: int = 0) -> None:
        """Collect a piece of the text of an answer."""
        self._length += len(text)
        self._texts.setdefault(index, []).append(text)
        if self._length > MAX_TEXT * max(1, len(self._texts)):
            self._texts.clear()
            self.collects_text = False

    def note_finish(self, reason: str | None, index: int = 0) -> None:
        """Note the finish reason of an answer; None: the answer has not ended."""
        if reason:
            self._finish[index] = reason

    def result(self, tokens: Tokens, *, complete: bool) -> responses.ResponseFacts:
        """Return all known facts; a text that is not `complete` is not judged."""
        facts = responses.ResponseFacts(tokens)
        if self._finish:
            facts.finish = responses.first_unusual(iter(self._finish.values()))
        if self.collects_text and complete:
            facts.texts = ["".join(pieces) for pieces in self._texts.values()]
            if self._expected is not None:
                facts.format_ok = responses.judge_format(self._expected, facts.texts)
        return facts
