"""Records calls of our functions, in order, and counts how they move between files.

A *call* is the start of a function of our four packages: of a coroutine or generator its first
step alone, not what resumes it; the body of a module or class is none. Calls of all threads are
in one list. A *change of file* is two successive calls in two files; returns do not count. A change
is counted each time, or once for each pair of files: what a loop repeats then counts once.
A *climb* is a change into a file that was called before and lies in a higher layer than the file
that is left; climbs are counted once for each pair of files.
"""

import dis
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

PACKAGES: Final = ("fleet", "plans", "runtime", "fleetctl")
LAYERS: Final = (
    ("fleetctl.commands",),
    ("fleetctl",),
    ("runtime.operations",),
    ("runtime.workspace",),
    ("runtime.project",),
    (
        *("runtime.gates", "runtime.rollback", "runtime.calibrate"),
        *("runtime.training", "runtime.training_process"),
    ),
    ("runtime.evals", "runtime.execute"),
    ("runtime.observe", "runtime.smoke", "runtime.looking"),
    ("runtime.gateway",),
    ("runtime.usage", "runtime.engines", "runtime.library", "runtime.ledger"),
    ("runtime", "runtime.files"),
    ("plans",),
    ("fleet",),
)
"""Packages and modules from the highest layer to the lowest; the longest prefix of a module's name
says its layer. Names that a checkout lacks do no harm.
"""
_LEVELS: Final = {name: level for level, names in enumerate(reversed(LAYERS)) for name in names}
_RESUME: Final = dis.opmap["RESUME"]


class Event(NamedTuple):
    """A call, or another sign that a function runs."""

    file: str
    """Path from the checkout on."""
    function: str
    is_call: bool
    """False: the function is resumed, waits or returns."""


@dataclass(frozen=True)
class Walk:
    """How calls move between files."""

    calls: int
    files: tuple[str, ...]
    """Each file once, in the order of the first calls."""
    changes: int
    """Changes of file, each time."""
    pairs: int
    """Changes of file, once for each pair of files."""
    climbs: tuple[tuple[str, str], ...]
    """The file that is left and the higher one that is entered, in the order of the first time."""


def walk(files: Sequence[str]) -> Walk:
    """Count the moves of calls that were made in these files, one after the other."""
    changes = [pair for pair in pairwise(files) if pair[0] != pair[1]]
    entered: set[str] = set()
    climbs: dict[tuple[str, str], None] = {}
    for left, file in pairwise(("", *files)):
        if file in entered and level(file) > level(left):
            climbs[left, file] = None
        entered.add(file)
    return Walk(
        len(files), tuple(dict.fromkeys(files)), len(changes), len(set(changes)), tuple(climbs)
    )


def level(file: str) -> int:
    """Return the layer of a file, the lowest being 0.

    Raises:
        KeyError: the file is in none of the packages.
    """
    name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    while "." in name and name not in _LEVELS:
        name = name.rpartition(".")[0]
    return _LEVELS[name]


class Recorder:
    """Records what runs in this thread, and in threads that are started later."""

    def __init__(self, root: Path) -> None:
        self.events: list[Event] = []
        self.is_on = False
        self._root = f"{root}/"
        self._files: dict[CodeType, tuple[str, bytes] | None] = {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Be ready to record: nothing is recorded until `is_on` is set."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def calls(self) -> list[str]:
        """Return the files of the calls so far, in order."""
        return [event.file for event in self.events if event.is_call]

    def within(self, function: str) -> list[str]:
        """Return the files of the calls from a function's first call to its last return."""
        own = [place for place, event in enumerate(self.events) if event.function == function]
        inside = self.events[own[0] : own[-1] + 1] if own else []
        return [event.file for event in inside if event.is_call]

    def between(self, first: str, last: str, under: str) -> list[str]:
        """Return the files of the calls from a function's first call to another's last return.

        `under`: the folder of both functions.

        Raises:
            SystemExit: one of the functions did not run.
        """
        events = [event if event.file.startswith(under) else None for event in self.events]
        begun = [place for place, event in enumerate(events) if event and event.function == first]
        ended = [place for place, event in enumerate(events) if event and event.function == last]
        if not (begun and ended):
            raise SystemExit(f"`{first}` or `{last}` of {under} did not run")
        inside = self.events[begun[0] : ended[-1] + 1]
        return [event.file for event in inside if event.is_call]

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        if not self.is_on or event not in ("call", "return"):
            return
        code = frame.f_code
        if code not in self._files:
            self._files[code] = self._ours(code)
        if ours := self._files[code]:
            file, instructions = ours
            is_call = event == "call" and _starts(instructions, frame.f_lasti)
            self.events.append(Event(file, code.co_name, is_call))

    def _ours(self, code: CodeType) -> tuple[str, bytes] | None:
        file = code.co_filename.removeprefix(self._root)
        is_function = code.co_flags & 0x2  # CO_NEWLOCALS: bodies of modules and classes have it not
        if file.partition("/")[0] in PACKAGES and is_function:
            return file, code.co_code
        return None


def _starts(instructions: bytes, at: int) -> bool:
    """Return whether a frame is at its start: RESUME says by its argument what it resumes after."""
    return instructions[at] != _RESUME or instructions[at + 1] & 3 == 0
