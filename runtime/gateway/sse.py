"""Streams of completions on their way back: token counts are read, and taken out again.

Servers are asked for the counts so far in every event, so that a stream that its client leaves is
billed for what was generated and no more. The client gets the counts that it asked for.
"""

from http import HTTPStatus
from typing import Final

import msgspec

from fleet.response_format import MAX_TEXT, ResponseFormat
from runtime.gateway import responses
from runtime.usage.row import Tokens

_EVENT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODE: Final = msgspec.json.Encoder().encode
_DATA: Final = b"data:"
_DONE: Final = b"[DONE]"
_NO_CHOICES: Final = b"[]"
_UNFINISHED: Final = b'"finish_reason":null'


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

    def observe(self, raw: msgspec.Raw | None) -> None:
        """Read the value of `choices` of an event."""
        for choice in responses.parse_choices(raw if raw is not None else _NO_CHOICES):
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
        if self.collects_text and self._expected is not None and complete:
            texts = ["".join(pieces) for pieces in self._texts.values()]
            facts.format_ok = responses.judge_format(self._expected, texts)
        return facts


class CompletionsStream:
    """A stream of completions; bytes in as they arrive, bytes out for the client.

    The unit is a line: no text of a model can make a line, for JSON escapes line ends.

    `keeps_last`: the client gets the event that holds only the counts; `keeps_all`: the client gets
    the counts in every event. `expected` is the format that the text must have; None: any.
    `answers` are the number of prompts, and of answers to every prompt.
    """

    def __init__(
        self,
        *,
        keeps_last: bool,
        keeps_all: bool,
        expected: ResponseFormat | None = None,
        answers: tuple[int, int] = (1, 1),
    ) -> None:
        self._keeps_last, self._keeps_all = keeps_last, keeps_all
        self._rest = b""
        self._skips_blank = False
        """Whether the line before belonged to an event that was taken out."""
        self._output = OutputCollector(expected)
        self.is_done = False
        self._has_answer = False
        self.failed = 0
        """Status of its error event; 502: the stream ended without an answer; 0: neither."""
        self.usage = b""
        """The newest counts, a JSON value."""
        self._is_single = answers == (1, 1)
        self._answers_each = answers[1]
        self._by_answer: dict[int, bytes] = {}
        """Newest counts of every answer, where there are several: only the last event has a sum."""

    def feed(self, chunk: bytes) -> bytes:
        """Return the part of the complete lines that the client gets."""
        head, found, rest = (self._rest + chunk if self._rest else chunk).rpartition(b"\n")
        self._rest = rest
        return b"".join([self._line(line + b"\n") for line in head.split(b"\n")]) if found else b""

    def end(self) -> bytes:
        """Return the part of a last line without an end that the client gets."""
        rest, self._rest = self._rest, b""
        passed = self._line(rest)
        self._check_answer()
        return passed

    def result(self) -> responses.ResponseFacts:
        """Return the facts that the stream has stated so far."""
        tokens = self._sum() if self._by_answer else responses.parse_usage(self.usage)
        return self._output.result(tokens, complete=self.is_done)

    def _sum(self) -> Tokens:
        """Return the counts over all answers so far; a prompt counts once."""
        counts = {index: responses.parse_usage(raw) for index, raw in self._by_answer.items()}
        prompts = {
            index // self._answers_each: tokens.prompt_tokens or 0
            for index, tokens in counts.items()
        }
        output = sum(tokens.completion_tokens or 0 for tokens in counts.values())
        return Tokens(sum(prompts.values()), output)

    def _line(self, line: bytes) -> bytes:
        if self._skips_blank and not line.strip():  # ends an event that was taken out
            self._skips_blank = False
            return b""
        self._skips_blank = False
        if not line.startswith(_DATA):
            return line
        if b'"usage"' in line:
            return self._take_usage_out(line)
        if line[len(_DATA) :].strip() == _DONE:
            self.is_done = True
            self._check_answer()
        elif self._output.collects_text or _UNFINISHED not in line:
            self._observe(responses.decoded(_EVENT, line[len(_DATA) :], {}))
        else:
            self._has_answer = True
        return line

    def _check_answer(self) -> None:
        if not self._has_answer and not self.failed:
            self.failed = HTTPStatus.BAD_GATEWAY

    def _observe(self, event: dict[str, msgspec.Raw]) -> None:
        """Read all of an event but its counts."""
        self._output.observe(event.get("choices"))
        if "error" in event and (failed := responses.error_status(event["error"])):
            self.failed = failed
        elif not self._has_answer:  # an event without choices has the counts
            self._has_answer = event.get("choices") != msgspec.Raw(_NO_CHOICES)

    def _take_usage_out(self, line: bytes) -> bytes:
        event = responses.decoded(_EVENT, line[len(_DATA) :], {})
        if self._output.collects_text or _UNFINISHED not in line:
            self._observe(event)
        else:
            self._has_answer = True
        usage = event.pop("usage", None)
        if usage is None:
            return line
        if bytes(usage) != b"null":
            self.usage = bytes(usage)
            if not self._is_single:
                self._note_by_answer(event.get("choices"))
        if event.get("choices") == msgspec.Raw(_NO_CHOICES):
            self._skips_blank = not self._keeps_last
            return line if self._keeps_last else b""
        return line if self._keeps_all else b"data: " + _ENCODE(event) + b"\n"

    def _note_by_answer(self, raw: msgspec.Raw | None) -> None:
        choices = responses.parse_choices(raw) if raw is not None else []
        if not choices:  # the last event, which has the sum
            self._by_answer.clear()
        for choice in choices:
            self._by_answer[choice.index] = self.usage
