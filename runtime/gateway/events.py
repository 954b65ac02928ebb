"""A stream of events on its way back: token counts taken out, unless the client asked for them.

Every event is asked to carry the counts so far, so that a stream that is left is billed for
what was generated and no more.
"""

from typing import Final

import msgspec

_EVENT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODE: Final = msgspec.json.Encoder().encode
_DATA: Final = b"data:"
_DONE: Final = b"[DONE]"
_NO_CHOICES: Final = b"[]"


class Events:
    """One stream; bytes in as they arrive, bytes out for the client.

    Works by lines: a model cannot write one, for in JSON its line ends are escaped.
    """

    __slots__ = ("_all_counts", "_blank", "_last_count", "_rest", "done", "usage")

    def __init__(self, *, last_count: bool, all_counts: bool) -> None:
        """Begin.

        Args:
            last_count: The client asked for the event that holds only the counts.
            all_counts: It asked for the counts in every event.
        """
        self._last_count = last_count
        self._all_counts = all_counts
        self._rest = b""
        self._blank = False
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

    def _line(self, line: bytes) -> bytes:
        if self._blank and not line.strip():  # ends an event that was left out
            self._blank = False
            return b""
        self._blank = False
        if not line.startswith(_DATA):
            return line
        if b'"usage"' in line:
            return self._counted(line)
        self.done = self.done or line[len(_DATA) :].strip() == _DONE
        return line

    def _counted(self, line: bytes) -> bytes:
        try:
            event = _EVENT.decode(line[len(_DATA) :])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return line
        usage = event.pop("usage", None)
        if usage is None:
            return line
        if bytes(usage) != b"null":
            self.usage = bytes(usage)
        if event.get("choices") == msgspec.Raw(_NO_CHOICES):
            self._blank = not self._last_count
            return line if self._last_count else b""
        return line if self._all_counts else b"data: " + _ENCODE(event) + b"\n"
