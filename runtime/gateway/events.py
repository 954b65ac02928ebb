"""A stream of events on its way back: token counts taken out, unless the client asked for them.

Every event is asked to carry the counts so far, so that a stream that is left is billed for
what was generated and no more.
"""

from typing import Final

import msgspec

from fleet.formats import Format
from runtime.gateway.answers import Said, of_usage
from runtime.gateway.heard import Heard

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

    __slots__ = ("_all_counts", "_blank", "_heard", "_last_count", "_rest", "done", "usage")

    def __init__(self, *, last_count: bool, all_counts: bool, wanted: Format | None = None) -> None:
        """Begin.

        Args:
            last_count: The client asked for the event that holds only the counts.
            all_counts: It asked for the counts in every event.
            wanted: The form that the text must have, if there is one.
        """
        self._last_count = last_count
        self._all_counts = all_counts
        self._rest = b""
        self._blank = False
        self._heard = Heard(wanted)
        self.done = False
        """Whether the event has come that most clients take for the end."""
        self.usage = b""
        """The newest counts, a JSON value."""

    def feed(self, chunk: bytes) -> bytes:
        """Return what of the lines that are complete goes to the client."""
        head, found, rest = (self._rest + chunk if self._rest else chunk).rpartition(b"\n")
        self._rest = rest
        return b"".join([self._line(line + b"\n") for line in head.split(b"\n")]) if found else b""

    def end(self) -> bytes:
        """Return what is left over of a line that never ended."""
        rest, self._rest = self._rest, b""
        return self._line(rest)

    def said(self) -> Said:
        """Return what the stream has told so far."""
        return self._heard.said(of_usage(self.usage), complete=self.done)

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
        elif self._heard.listens or _GOES_ON not in line:
            self._heard.hear(_decoded(line).get("choices"))
        return line

    def _counted(self, line: bytes) -> bytes:
        event = _decoded(line)
        if self._heard.listens or _GOES_ON not in line:
            self._heard.hear(event.get("choices"))
        usage = event.pop("usage", None)
        if usage is None:
            return line
        if bytes(usage) != b"null":
            self.usage = bytes(usage)
        if event.get("choices") == msgspec.Raw(_NO_CHOICES):
            self._blank = not self._last_count
            return line if self._last_count else b""
        return line if self._all_counts else b"data: " + _ENCODE(event) + b"\n"


def _decoded(line: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _EVENT.decode(line[len(_DATA) :])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
