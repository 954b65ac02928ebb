"""Defines `Problem`, a mistake in a declaration, and makes diagnostics of problems."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from fleet.config.merge import Path, Tree, quoting
from fleet.config.scalars.texts import version_hint
from fleet.errors import Diagnostic, Position


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem at a path of the declarations, before its place is looked up."""

    code: str
    path: Path
    detail: str
    hint: str = ""
    command: str = ""
    at: Literal["key", "value"] = "value"
    """The target of the place: the value, or the key itself."""
    also: tuple[tuple[str, Path], ...] = ()
    severity: Literal["error", "warning"] = "error"


def diagnostics(findings: Iterable[Problem], tree: Tree) -> tuple[Diagnostic, ...]:
    """Give findings their places and source lines, sorted by place.

    A line that holds a secret is never quoted.
    """
    problems = list(findings)
    secret = {
        (place.file, place.line)
        for problem in problems
        if problem.code == "FC1110" and (place := tree.place(problem.path))
    }
    shown = [_diagnostic(problem, tree, secret) for problem in problems]
    nowhere = Position("", 0, 0)
    return tuple(sorted(shown, key=lambda made: (made.place or nowhere, made.code, made.detail)))


def _diagnostic(problem: Problem, tree: Tree, secret: set[tuple[str, int]]) -> Diagnostic:
    detail, hint = problem.detail, problem.hint
    place = tree.place(problem.path, of_key=problem.at == "key")
    if problem.code == "FC1103":  # the number as written can only be read from the source
        line = tree.sources.line(place) if place else ""
        written = line[place.column - 1 :].split(" #")[0].rstrip(" ,}") if place else detail
        reads = detail if "." in detail else int(float(detail))
        detail = f"You wrote {written}, YAML reads it as the number {reads}; quote it."
        hint = version_hint(written)
    also = tuple(
        (label, spot) for label, path in problem.also if (spot := tree.place(path, of_key=True))
    )
    result = quoting(
        tree.sources, problem.code, detail, place,
        hint=hint, command=problem.command, also=also, severity=problem.severity,
    )  # fmt: skip
    return replace(result, source="") if place and (place.file, place.line) in secret else result
