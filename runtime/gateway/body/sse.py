"""Streams on their way back: token counts are read, and of completions taken out again.

Servers of completions are asked for the counts so far in every event, so that a stream that its
client leaves is billed for what was generated and no more. The client gets the counts that it asked
for. Typed events, of `/v1/responses` and `/v1/messages`, are passed on whole.
"""

from functools import lru_cache
from http import HTTPStatus
from typing import Final

import msgspec

from fleet.response_format import MAX_TEXT, ResponseFormat
from runtime.gateway.body import errors, responses
from runtime.gateway.body.body import RequestBody
from runtime.gateway.body.endpoints import TYPED, answers
from runtime.usage.row import BY_PIECES, Tokens

MAX_ANSWER: Final = 64 * 2**20
"""Upper bound of a whole answer, and of a line of a stream, bytes. 2,048 embeddings of 4,096
numbers in base64 are 45 million; the last event of a stream of responses has all that was said."""


class LineBuffer:
    """The part of a stream that has come and is no whole line yet."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0
        """Bytes that wait for the end of their line."""

    def feed(self, chunk: bytes) -> bytes:
        """Return all lines that are whole with this chunk, with their ends.

        Raises:
            ApiError: 413, a line has more than `MAX_ANSWER` bytes.
        """
        if not self._parts and chunk.endswith(b"\n"):
            return chunk
        end = chunk.rfind(b"\n") + 1
        if not end:
            self.size += len(chunk)
            if self.size > MAX_ANSWER:
                raise errors.answer_too_large()
            self._parts.append(chunk)
            return b""
        whole, rest = (chunk, b"") if end == len(chunk) else (chunk[:end], chunk[end:])
        if self._parts:
            whole = b"".join([*self._parts, whole])
            self._parts.clear()
        if rest:
            self._parts.append(rest)
        self.size = len(rest)
        return whole

    def take(self) -> bytes:
        """Return the bytes of a line without an end, and forget them."""
        rest = b"".join(self._parts)
        self._parts.clear()
        self.size = 0
        return rest


_BEFORE: Final = (b'"model":', b'"model": ')
"""Before the name of the model: vLLM writes JSON without spaces, other servers with one."""


@lru_cache(maxsize=16_384)
def spellings(adapter: str, asked: str) -> tuple[tuple[bytes, bytes], ...]:
    """Return the spellings of an adapter's name in a response, with those of the asked name."""
    old, new = msgspec.json.encode(adapter), msgspec.json.encode(asked)
    return tuple((before + old, before + new) for before in _BEFORE)


def with_asked_name(data: bytes, adapter: str, asked: str) -> bytes:
    """Return whole lines of a response with the asked name where `model` is the adapter's name.

    No text of a model is changed, since JSON escapes the quotation marks in a text.
    """
    for old, new in spellings(adapter, asked):
        data = data.replace(old, new)
    return data


_EVENT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODE: Final = msgspec.json.Encoder().encode
_DATA: Final = b"data:"
_DONE: Final = b"[DONE]"
_NO_CHOICES: Final = b"[]"
_COUNTS: Final = b',"usage":{'
_UNFINISHED: Final = b'"finish_reason":null'
_FAILURES: Final = frozenset({"response.failed", "error"})
_ANSWERS: Final = frozenset({"response.output_text.delta", "content_block_delta"})
_LAST: Final = _FAILURES | {"message_stop", "response.completed", "response.incomplete"}


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
        self.lines = LineBuffer()
        self._skips_blank = False
        """Whether the line before belonged to an event that was taken out."""
        self.output = OutputCollector(expected)
        self.is_done = False
        self._has_answer = False
        self.failed = 0
        """Status of its error event; 502: the stream ended without an answer; 0: neither."""
        self.usage = b""
        """The newest counts, a JSON value."""
        self._is_single = answers == (1, 1)
        self._reads_counts = self._is_single and not keeps_all and expected is None
        """Whether of most events the counts alone are read."""
        self._answers_each = answers[1]
        self._by_answer: dict[int, bytes] = {}
        """Newest counts of every answer, where there are several: only the last event has a sum."""

    def feed(self, chunk: bytes) -> bytes:
        """Return the part of the complete lines that the client gets."""
        if (
            self._reads_counts
            and chunk.endswith(b"}}\n\n")
            and chunk.startswith(_DATA)
            and chunk.count(b"\n") == 2  # noqa: PLR2004 (a single event)
            and not (self.lines.size or self._skips_blank)
            and (passed := self._take_counts_out(chunk, b"}\n\n"))
        ):
            return passed
        whole = self.lines.feed(chunk)
        if not whole:
            return b""
        if whole.endswith(b"\n\n") and whole.count(b"\n") == 2:  # noqa: PLR2004 (a single event)
            passed = self._line(whole[:-1])
            return passed + b"\n" if passed else self._line(b"\n")
        return b"".join([self._line(line + b"\n") for line in whole[:-1].split(b"\n")])

    def end(self) -> bytes:
        """Return the part of a last line without an end that the client gets."""
        passed = self._line(self.lines.take())
        self._check_answer()
        return passed

    def result(self) -> responses.ResponseFacts:
        """Return the facts that the stream has stated so far."""
        tokens = self._sum() if self._by_answer else responses.parse_usage(self.usage)
        return self.output.result(tokens, complete=self.is_done)

    def _sum(self) -> Tokens:
        """Return the counts over all answers so far; a prompt counts once."""
        counts = {index: responses.parse_usage(raw) for index, raw in self._by_answer.items()}
        prompts = {n // self._answers_each: t.prompt_tokens or 0 for n, t in counts.items()}
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
        elif self.output.collects_text or _UNFINISHED not in line:
            self._observe(responses.decoded(_EVENT, line[len(_DATA) :], {}))
        else:
            self._has_answer = True
        return line

    def _check_answer(self) -> None:
        if not self._has_answer and not self.failed:
            self.failed = HTTPStatus.BAD_GATEWAY

    def _observe(self, event: dict[str, msgspec.Raw]) -> None:
        """Read all of an event but its counts."""
        self.output.observe(event.get("choices", _NO_CHOICES))
        if "error" in event and (failed := responses.error_status(event["error"])):
            self.failed = failed
        elif not self._has_answer:  # an event without choices has the counts
            self._has_answer = event.get("choices") != msgspec.Raw(_NO_CHOICES)

    def _take_counts_out(self, event: bytes, end: bytes) -> bytes:
        """Take counts out that are the last member of an unfinished event; empty: they are not."""
        rest, _, last = event.partition(_COUNTS)
        is_last = last.count(b"}") == 2 and b"{" not in last  # noqa: PLR2004 (flat, and the event)
        if not is_last or _UNFINISHED not in event:
            return b""
        self.usage, self._has_answer = b"{" + last[: -len(end)], True
        return rest + end

    def _take_usage_out(self, line: bytes) -> bytes:
        is_short = self._reads_counts and line.endswith(b"}}\n")
        if is_short and (passed := self._take_counts_out(line, b"}\n")):
            return passed
        event = responses.decoded(_EVENT, line[len(_DATA) :], {})
        if self.output.collects_text or _UNFINISHED not in line:
            self._observe(event)
        else:
            self._has_answer = True
        usage = event.pop("usage", None)
        if usage is None:
            return line
        if bytes(usage) != b"null":
            self.usage = bytes(usage)
            if not self._is_single:
                choices = responses.parse_choices(event.get("choices", _NO_CHOICES))
                if not choices:  # the last event, which has the sum
                    self._by_answer.clear()
                self._by_answer |= {choice.index: self.usage for choice in choices}
        if event.get("choices") == msgspec.Raw(_NO_CHOICES):
            self._skips_blank = not self._keeps_last
            return line if self._keeps_last else b""
        return line if self._keeps_all else b"data: " + _ENCODE(event) + b"\n"


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


_TYPED_EVENT: Final = msgspec.json.Decoder(_TypedEvent)
_DELTA: Final = msgspec.json.Decoder(_Delta)


class TypedStream:
    """A stream of typed events; the server reports its token counts at the end.

    A stream that ends before has at least as many tokens as pieces of text, reasoning and
    arguments of tools: a piece is a token or more. The row says so (`counted: pieces`).
    """

    def __init__(self, expected: ResponseFormat | None = None) -> None:
        self.output = OutputCollector(expected)
        self.lines = LineBuffer()
        self._tokens = Tokens()
        self._pieces = 0
        self._has_answer = False
        self.is_done = False
        self.failed = 0
        """Status of its error event; 502: the stream ended without an answer; 0: neither."""

    def feed(self, chunk: bytes) -> bytes:
        """Return the complete lines, which have been read."""
        whole = self.lines.feed(chunk)
        for line in whole.split(b"\n"):
            if line.startswith(_DATA):
                self._read(line[len(_DATA) :])
        return whole

    def end(self) -> bytes:
        """Return a last line without an end; note a stream without an answer."""
        if not self._has_answer and not self.failed:
            self.failed = HTTPStatus.BAD_GATEWAY
        return self.lines.take()

    def result(self) -> responses.ResponseFacts:
        """Return the facts that the stream has stated so far."""
        facts = self.output.result(self._tokens, complete=self.is_done)
        if self._pieces and not self._tokens.completion_tokens:
            tokens = self._tokens
            facts.tokens = Tokens(tokens.prompt_tokens, self._pieces, tokens.cached_tokens)
            facts.counted = BY_PIECES
        return facts

    def _read(self, line: bytes) -> None:
        event = responses.decoded(_TYPED_EVENT, line, None)
        if event is None:
            return
        if event.type.endswith("delta"):
            self._read_delta(event)
        elif event.message is not None and event.message.usage is not None:
            self._tokens = event.message.usage.tokens()
        if status := responses.error_status(event.error):
            self.failed = status
        elif event.type in _FAILURES:
            self.failed = HTTPStatus.BAD_GATEWAY
        else:
            self._has_answer = True
        if event.type in _LAST:
            self.is_done = True
            if event.response is not None:
                self.output.note_finish(responses.finish_of(event.response))
                if event.response.usage is not None:
                    self._tokens = event.response.usage.tokens()

    def _read_delta(self, event: _TypedEvent) -> None:
        text = responses.parse_text(event.delta)
        if text is None:
            delta = responses.decoded(_DELTA, event.delta, None)
            if delta is None:
                return
            self.output.note_finish(responses.finish_reason(delta.stop_reason))
            if delta.stop_reason and event.usage is not None:
                self._tokens = event.usage.tokens()
                return
            if delta.type == "signature_delta":  # made by the server: no token stands for it
                return
            text = responses.parse_text(delta.text)
        self._pieces += 1
        if text is not None and self.output.collects_text and event.type in _ANSWERS:
            self.output.add(text)


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
