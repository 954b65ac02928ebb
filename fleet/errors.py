"""Defines the errors: summary, what is wrong and why it matters, place in a file, remedy."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePath
from typing import Literal, Self


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
    """A problem as shown to users.

    `summary` is the same for all problems of a code; `detail` tells of this case; `hint` is a
    remedy in words, `command` a remedy to paste.
    """

    code: str
    """Stable id such as `FC1003`, listed in `docs/errors.md`."""
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
    """Further places with their labels, such as ("first defined at", …)."""
    severity: Literal["error", "warning"] = "error"
    subjects: tuple[str, ...] = ()
    """Dotted paths below `clients`, such as `acme.keys.prod`, that are wrong; empty: others are."""

    @property
    def clients(self) -> tuple[str, ...]:
        """Clients whose declarations, lock entries or places are wrong; empty: none alone."""
        return tuple(sorted({path.partition(".")[0] for path in self.subjects}))

    @property
    def reason(self) -> str:
        """The problem in a line: summary, code and place."""
        return f"{self.summary} [{self.code}]" + (f" at {self.place}" if self.place else "")


class FleetError(Exception):
    """Base of all errors that fleetctl shows to users, with their diagnostics."""

    exit_code = 1

    def __init__(self, *diagnostics: Diagnostic) -> None:
        """Keep the diagnostics: 1 or more."""
        super().__init__(
            "; ".join(f"{diagnostic.summary}: {diagnostic.detail}" for diagnostic in diagnostics)
        )
        self.diagnostics: tuple[Diagnostic, ...] = diagnostics

    @classmethod
    def of(
        cls, code: str, summary: str, detail: str = "", *, hint: str = "", command: str = ""
    ) -> Self:
        """Return the error of a single diagnostic that has no place in a file."""
        return cls(problem(code, summary, detail, hint=hint, command=command))


class ConfigError(FleetError):
    """The declarations are wrong."""


class PlacementError(FleetError):
    """The declared fleet does not fit on the declared hardware."""


class StalePlanError(FleetError):
    """Declarations or live state changed after the plan was made."""

    exit_code = 5


class LockHeldError(FleetError):
    """Another run holds the fleet's lease."""

    exit_code = 5


class FrozenError(FleetError):
    """A person has frozen the fleet."""

    exit_code = 5


class UnapprovedError(FleetError):
    """A plan needs a decision that no person has made."""

    exit_code = 5


class LibraryError(FleetError):
    """An adapter or base in the library is missing, changed or not servable."""


class EvalError(FleetError):
    """An evaluation could not be made, or proves nothing; never a verdict on a version."""


class NewerFormatError(FleetError):
    """A file of a later release, in a format that this release does not read."""


class EngineError(FleetError):
    """A serving engine did not carry out a call."""


class EngineUnreachableError(EngineError):
    """No answer at all; the state of the engine is unknown."""


class EngineTimedOutError(EngineUnreachableError):
    """No answer in time; the call may or may not have taken effect."""


class EngineRejectedError(EngineError):
    """The engine answered and refused."""

    def __init__(self, *diagnostics: Diagnostic, status: int = 0) -> None:
        """Keep the HTTP status beside the diagnostics; 0: the answer itself was no refusal."""
        super().__init__(*diagnostics)
        self.status = status


def problem(
    code: str, summary: str, detail: str = "", *, hint: str = "", command: str = ""
) -> Diagnostic:
    """Return a diagnostic that has no place in a file."""
    return Diagnostic(code, summary, detail, hint=hint, command=command)


def did_you_mean(word: str, choices: Sequence[str]) -> str:
    """Return ``did you mean `x`?`` for the nearest choice, or nothing if none is near."""
    near = get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else ""


def require_known(found: object, newest: int, file: str) -> None:
    """Refuse a file of a later format: acting on half of a file is unsafe.

    A file without a format is of format 1 and is written so. An addition that earlier releases
    read past needs no new format. The reader of a kind of file states the rule of its own format.
    `file` is a name or path, with the line number where a line has the format.

    Raises:
        NewerFormatError: FC5007.
    """
    if type(found) is int and found > newest:
        raise NewerFormatError.of(
            "FC5007",
            "File was written by a newer fleetctl",
            f"`{file}` has format {found}, and this fleetctl reads up to format {newest}. "
            "Acting on half of a file is unsafe, so nothing was read or changed.",
            hint="Upgrade fleetctl here to the release that wrote the file, or a later one.",
        )


def newer_server(name: str, version: int, newest: int) -> EngineError:
    """Return the error of a server whose flags are of a later format than this release knows."""
    detail = (
        f"The flags of `{name}` are of format {version}, and this fleetctl knows up to format "
        f"{newest}. What it cannot compare it leaves alone."
    )
    hint = "Upgrade fleetctl here to the release that started the server, or a later one."
    return EngineError.of("FC4023", "A server was started by a newer fleetctl", detail, hint=hint)


def problem_of(error: Exception) -> FleetError:
    """Return the problem to show of an error that ends a command, a round or a part."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    match error:
        case FleetError():
            return error
        case OSError():
            path = f"`{error.filename}`: " if error.filename else ""
            detail = f"{path}{error.strerror or error}."
            hint = (
                "Check permissions and free space, then run the command again; `--state-dir DIR` "
                "before the command keeps the state elsewhere."
            )
            return FleetError.of("FC1015", "A file cannot be read or written", detail, hint=hint)
        case _:
            return _unexpected(error)


def _unexpected(error: Exception) -> FleetError:
    """Return the problem of an error of fleetctl's own: kind and place, and no value."""
    if isinstance(error, RecursionError | MemoryError):
        detail = "An input is nested too deeply, or too large."
        return FleetError.of("FC1310", "Input that cannot be read", detail)
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = f" at {PurePath(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}" if at else ""
    detail = f"{type(error).__name__}{where}. Nothing is half done that a second run does not mend."
    hint = "Report this line, with the command and the version of fleetctl"
    command = "fleetctl --version"
    return FleetError.of("FC1311", "fleetctl itself failed", detail, hint=hint, command=command)
