"""Prints results to standard output; messages, problems and notes to standard error."""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Timer
from typing import Any, Final, Literal, TextIO

import click

from fleet.codes import LEAST_HIDDEN
from fleet.errors import Diagnostic, Position
from fleetctl.advice import completed
from plans.diagnostics import RENDERERS, render_text
from plans.tables import counted
from plans.visible import harmless
from runtime.messages import FailureMessage, Message
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


Form = Literal["text", "json"]

PREFIXES = {"info": "", "warning": "Warning: ", "error": "Error: "}
"""Beginning of a message's line, by severity."""
_BYTES_S = 2.0
"""Seconds between two lines about bytes on their way."""


def print_result(
    form: str, document: Any, render: Callable[[Any], str], empty: str | None = None
) -> None:
    """Print a result as JSON, or as the text that `render` makes, with its last line break.

    `empty` is printed to standard error in the place of the text of an empty document.
    """
    if form == "json":
        click.echo(json.dumps(document, indent=2))
    elif document or empty is None:
        click.echo(render(document), nl=False)
    else:
        click.echo(empty, err=True)


def has_colour(stream: TextIO) -> bool:
    """Say whether text for a stream is coloured: on a terminal, unless `NO_COLOR` is set.

    Source:
        https://no-color.org
    """
    return stream.isatty() and not os.environ.get("NO_COLOR")


def print_lines(lines: Iterable[str], prefix: str = "Warning") -> None:
    """Print lines to standard error, behind a prefix."""
    for line in lines:
        click.echo(f"{prefix}: {line}", err=True)


def print_diagnostics(diagnostics: Sequence[Diagnostic], before: str = "") -> None:
    """Print problems to standard error, coloured on a terminal."""
    text = render_text(diagnostics, colour=has_colour(sys.stderr))
    click.echo(f"{before}{text}", err=True, nl=False)


def print_problems(form: str, found: Iterable[Diagnostic], root: Path) -> None:
    """Print problems for programs; behind `-C FOLDER`, files are seen from the current folder.

    Commands for GitHub's runner are printed as written: their values are escaped.
    """

    def seen(place: Position) -> Position:
        return place if root.is_absolute() else replace(place, file=(root / place.file).as_posix())

    placed = [
        replace(
            problem,
            place=problem.place and seen(problem.place),
            also=tuple((label, seen(place)) for label, place in problem.also),
        )
        for problem in found
    ]
    shown = RENDERERS[form](placed)
    if form == "github":
        print_exact(shown)
    else:
        click.echo(shown, nl=False)


def print_preflight(warnings: Sequence[Diagnostic], left: int) -> None:
    """Print the warnings of versions checked ahead of an apply, and how many versions were not."""
    if warnings:
        print_diagnostics(warnings, before="\n")
    if left:
        text = f"Note: the weights of {counted(left, 'version')} are checked by apply."
        click.echo(text, err=True)


def print_message(message: Message | FailureMessage) -> None:
    """Print a message of an operation to standard error."""
    match message:
        case Message(text, severity):
            click.echo(f"{PREFIXES[severity]}{text}", err=True)
        case FailureMessage(diagnostics):
            print_diagnostics(diagnostics)


@contextmanager
def waiting(message: str, after_s: float = 1.0) -> Iterator[None]:
    """Print `message` to standard error if the block takes longer than `after_s` seconds."""
    timer = Timer(after_s, click.echo, args=(message,), kwargs={"err": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class ByteProgress:
    """Prints how much of a version has gone over the network, every two seconds."""

    def __init__(self, name: str) -> None:
        self._name, self._next = name, time.monotonic() + _BYTES_S

    def __call__(self, done: int, total: int) -> None:
        """Take the bytes so far, of all."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _BYTES_S
            part = f"{done / 1e6:,.1f} of {total / 1e6:,.1f} MB"
            click.echo(f"{self._name}: {part}", err=True)
