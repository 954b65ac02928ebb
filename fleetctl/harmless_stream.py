"""Makes the standard streams harmless: nothing printed acts on a terminal or a CI's runner.

Values that declarations took from the environment are printed as their placeholders, and advised
commands with the global options that were given.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from fleet.codes import LEAST_HIDDEN
from fleetctl.advice import completed
from plans.visible import harmless
from runtime.secrets import FILLED

_OWN_COLOURS: Final = re.compile(
    r"(\033\[1m[^\033\n]*\033\[0m|\033\[3[1-6]m(?: *[-+~/>]+|\^+|[A-Za-z ]{1,24}:?)\033\[0m)"
)
"""Texts that `plans.tables.painter` colours."""


class HarmlessStream:
    """A text stream with marks where text could act; `exact` writes text made for a machine."""

    def __init__(self, stream: Any) -> None:
        """Write to `stream`."""
        self._stream = stream
        self.options: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the stream."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text; colours of our own stay on a terminal."""
        hidden = self._told(text)
        if not self.isatty():
            self._stream.write(harmless(hidden))
        else:
            parts = enumerate(_OWN_COLOURS.split(hidden))
            shown = (part if index % 2 else harmless(part) for index, part in parts)
            self._stream.write("".join(shown))
        return len(text)

    def exact(self, text: str) -> None:
        """Write text that a CI's runner shall obey, whose values are escaped already."""
        self._stream.write(self._told(text))

    def _told(self, text: str) -> str:
        whole = completed(text, self.options) if self.options else text
        return FILLED.unfilled(whole, LEAST_HIDDEN)


@contextmanager
def harmless_streams() -> Iterator[None]:
    """Make both standard streams harmless while the block runs."""
    FILLED.filled.clear()
    out, errors = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = HarmlessStream(out), HarmlessStream(errors)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, errors


def complete_commands(options: tuple[str, ...]) -> None:
    """Have advised commands printed with the global options of this call."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, HarmlessStream):
            stream.options = options


def print_exact(text: str) -> None:
    """Print text that a CI's runner shall obey."""
    getattr(sys.stdout, "exact", sys.stdout.write)(text)
