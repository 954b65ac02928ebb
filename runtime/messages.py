"""What an operation says to people beside its result. The command line prints it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fleet.errors import Diagnostic

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Message:
    """A line about what was found or done."""

    text: str
    severity: Severity = "info"


@dataclass(frozen=True, slots=True)
class FailureMessage:
    """Problems that end a part of the work; the rest goes on."""

    diagnostics: tuple[Diagnostic, ...]


EmitMessage = Callable[[Message | FailureMessage], None]
Audience = Literal["client", "operators"]
"""Readers of a notice. A client sees fewer facts than operators."""
