"""A stream of events on its way back: token counts taken out, unless the client asked for them.

Every event is asked to carry the counts so far, so that a stream that is left is billed for
what was generated and no more.
"""

from http import HTTPStatus
from typing import Final

import msgspec

from fleet.response_format import ResponseFormat
from runtime.gateway.answers import Said, choices, failure, of_usage
from runtime.gateway.heard import Heard
from runtime.usage.row import Tokens

_EVENT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODE: Final = msgspec.json.Encoder().encode
_DATA: Final = b"data:"
_DONE: Final = b"[DONE]"
_NO_CHOICES: Final = b"[]"
_GOES_ON: Final = b'"finish_reason":null'


class Events:
    """One stream; bytes in as they arrive, bytes out for the client.

    Works by lines: a model cannot write one, for in JSON its line ends are escaped.
    """

    __slots__ = (
        "_all_counts", "_blank", "_by_answer", "_each", "_has_answer", "_heard", "_is_one",
        "_last_count", "_rest", "done", "failed", "usage",
    )  # fmt: skip

    def __init__(
        self,
        *,
        last_count: bool,
        all_counts: bool,
        wanted: ResponseFormat | None = None,
        answers: tuple[int, int] = (1, 1),
    ) -> None:
        """Begin.

        Args:
            last_count: The client asked for the event that holds only the counts.
            all_counts: It asked for the counts in every event.
            wanted: The form that the text must have, if there is one.
            answers: How many prompts there are, and answers to each.
        """
        self._last_count = last_count
        self._all_counts = all_counts
        self._rest = b""
        self._blank = False
        self._heard = Heard(wanted)
        self.done = False
        """Whether the event has come that most clients take for the end."""
        self._has_answer = False
        self.failed = 0
        """The status that its error event amounts to; 502 where it ended and held no answer."""
        self.usage = b""
        """The newest counts, a JSON value."""
        self._is_one = answers == (1, 1)
        self._each = answers[1]
        self._by_answer: dict[int, bytes] = {}
        """Of several answers, the newest counts of each: until the end a server tells no sum."""

    def feed(self, chunk: bytes) -> bytes:
        """Return what of the lines that are complete goes to the client."""
        head, found, rest = (self._rest + chunk if self._rest else chunk).rpartition(b"\n")
        self._rest = rest
        return b"".join([self._line(line + b"\n") for line in head.split(b"\n")]) if found else b""

    def end(self) -> bytes:
        """Return what is left over of a line that never ended."""
        rest, self._rest = self._rest, b""
        passed = self._line(rest)
        self._see_answer()
        return passed

    def said(self) -> Said:
        """Return what the stream has told so far."""
        tokens = self._summed() if self._by_answer else of_usage(self.usage)
        return self._heard.said(tokens, complete=self.done)

    def _summed(self) -> Tokens:
        """Return the counts over all answers so far; a prompt counts once, whatever its answers."""
        found = {index: of_usage(raw) for index, raw in self._by_answer.items()}
        prompts = {index // self._each: each.prompt_tokens or 0 for index, each in found.items()}
        made = sum(each.completion_tokens or 0 for each in found.values())
        return Tokens(sum(prompts.values()), made)

    def _line(self, line: bytes) -> bytes:
        if self._blank and not line.strip():  # ends an event that was left out
            self._blank = False
            return b""
        self._blank = False
        if not line.startswith(_DATA):
            return line
        if b'"usage"' in line:
            return self._counted(line)
        if line[len(_DATA) :].strip() == _DONE:
            self.done = True
            self._see_answer()
        elif self._heard.listens or _GOES_ON not in line:
            self._hear(_decoded(line))
        else:
            self._has_answer = True
        return line

    def _see_answer(self) -> None:
        """It has ended: the server must have said something."""
        if not self._has_answer and not self.failed:
            self.failed = HTTPStatus.BAD_GATEWAY

    def _hear(self, event: dict[str, msgspec.Raw]) -> None:
        """Read all of an event but its counts."""
        self._heard.hear(event.get("choices"))
        if "error" in event and (failed := failure(event["error"])):
            self.failed = failed
        elif not self._has_answer:  # an event without choices has the counts
            self._has_answer = event.get("choices") != msgspec.Raw(_NO_CHOICES)

    def _counted(self, line: bytes) -> bytes:
        event = _decoded(line)
        if self._heard.listens or _GOES_ON not in line:
            self._hear(event)
        else:
            self._has_answer = True
        usage = event.pop("usage", None)
        if usage is None:
            return line
        if bytes(usage) != b"null":
            self.usage = bytes(usage)
            if not self._is_one:
                self._note(event.get("choices"))
        if event.get("choices") == msgspec.Raw(_NO_CHOICES):
            self._blank = not self._last_count
            return line if self._last_count else b""
        return line if self._all_counts else b"data: " + _ENCODE(event) + b"\n"

    def _note(self, raw: msgspec.Raw | None) -> None:
        named = choices(raw) if raw is not None else []
        if not named:  # the last event, which has the sum
            self._by_answer.clear()
        for each in named:
            self._by_answer[each.index] = self.usage


def _decoded(line: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _EVENT.decode(line[len(_DATA) :])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
