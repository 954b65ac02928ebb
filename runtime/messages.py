"""Messages of an operation to people, beside its result. The command line prints them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fleet.errors import Diagnostic, problem_of

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Message:
    """A line about a finding or an action."""

    text: str
    severity: Severity = "info"


@dataclass(frozen=True, slots=True)
class FailureMessage:
    """Problems that end a part of the work; the rest goes on."""

    diagnostics: tuple[Diagnostic, ...]


def failure_of(error: Exception) -> FailureMessage:
    """Return the message of an error that ends a part of the work."""
    return FailureMessage(problem_of(error).diagnostics)


EmitMessage = Callable[[Message | FailureMessage], None]


def report_quarters(emit: EmitMessage, before: str, after: str) -> Callable[[int, int], None]:
    """Return a reporter of progress that emits `N of M` between two texts at every quarter."""
    last = 0

    def report(done: int, total: int) -> None:
        nonlocal last
        if done * 4 // total > last:
            last = done * 4 // total
            emit(Message(f"  {before}{done} of {total} {after}"))

    return report
