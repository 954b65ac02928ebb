"""Defines the errors: summary, what is wrong and why it matters, place in a file, remedy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A position in a file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem, as shown to a person.

    `summary` is the same sentence each time the problem occurs; `detail` tells of this
    case; `hint` is a remedy in words, `command` one to paste.
    """

    code: str
    """Stable id such as `FC1003`, listed in `fleetctl/CODES.md`."""
    summary: str
    detail: str = ""
    place: Position | None = None
    source: str = ""
    """The offending line, without its newline; empty when unknown."""
    width: int = 1
    """Characters to underline from the place's column."""
    hint: str = ""
    command: str = ""
    also: tuple[tuple[str, Position], ...] = ()
    """Further places, each with its label, such as ("first defined at", …)."""
    severity: Literal["error", "warning"] = "error"


class FleetError(Exception):
    """Whatever fleetctl refuses or fails at, with everything a reader needs to go on."""

    exit_code = 1

    def __init__(self, *diagnostics: Diagnostic) -> None:
        """Keep the diagnostics; there is at least one."""
        super().__init__(
            "; ".join(f"{diagnostic.summary}: {diagnostic.detail}" for diagnostic in diagnostics)
        )
        self.diagnostics: tuple[Diagnostic, ...] = diagnostics


class ConfigError(FleetError):
    """The declarations are wrong."""


class PlacementError(FleetError):
    """The declared fleet does not fit on the declared hardware."""


class StalePlanError(FleetError):
    """What the plan was made from has changed since."""

    exit_code = 5


class LockHeldError(FleetError):
    """Another run holds the fleet's lease."""

    exit_code = 5


class LibraryError(FleetError):
    """An adapter or base in the library is missing, changed or not servable."""


class EvalError(FleetError):
    """An evaluation could not be made, or proves nothing; never a verdict on a version."""


class EngineError(FleetError):
    """A serving engine did not do what was asked."""


class EngineUnreachableError(EngineError):
    """No answer at all; the state of the engine is unknown."""


class EngineTimedOutError(EngineUnreachableError):
    """No answer in time; the call may or may not have taken effect."""


class EngineRejectedError(EngineError):
    """The engine answered and refused."""

    def __init__(self, status: int, *diagnostics: Diagnostic) -> None:
        """Keep the HTTP status beside the diagnostics."""
        super().__init__(*diagnostics)
        self.status = status


def problem(
    code: str, summary: str, detail: str = "", *, hint: str = "", command: str = ""
) -> Diagnostic:
    """Return a diagnostic that has no place in a file."""
    return Diagnostic(code, summary, detail, hint=hint, command=command)


def did_you_mean(word: str, choices: Sequence[str]) -> str:
    """Return ``did you mean `x`?`` for the nearest choice, or nothing if none is near."""
    from difflib import get_close_matches  # noqa: PLC0415  (only when something is wrong)

    near = get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else ""
