"""Findings become diagnostics: places and source lines are looked up."""

from collections.abc import Iterable
from dataclasses import replace

from fleet.errors import Diagnostic
from fleet.overlay import Tree
from fleet.problems import Finding
from fleet.units import version_hint


def diagnostics(findings: Iterable[Finding], tree: Tree) -> tuple[Diagnostic, ...]:
    """Give findings their places and source lines, sorted by place.

    A line that holds a secret is never quoted.
    """
    found = list(findings)
    secret = {
        (place.file, place.line)
        for each in found
        if each.code == "FC1110" and (place := tree.place(each.path))
    }
    made = [_diagnostic(each, tree, secret) for each in found]
    return tuple(sorted(made, key=_by_place))


def _by_place(each: Diagnostic) -> tuple[str, int, int, str, str]:
    place = each.place
    spot = (place.file, place.line, place.column) if place else ("", 0, 0)
    return (*spot, each.code, each.detail)


def _diagnostic(each: Finding, tree: Tree, secret: set[tuple[str, int]]) -> Diagnostic:
    detail, hint = each.detail, each.hint
    place = tree.place(each.path, of_key=each.at == "key")
    if each.code == "FC1103":  # the number as written can only be read from the source
        number = float(detail)
        line = tree.sources.line(place) if place else ""
        written = line[place.column - 1 :].split(" #")[0].rstrip(" ,}") if place else detail
        reads = int(number) if "." not in detail else detail
        detail = f"You wrote {written}, YAML reads it as the number {reads}; quote it."
        hint = version_hint(written)
    also = tuple(
        (label, spot) for label, path in each.also if (spot := tree.place(path, of_key=True))
    )
    made = tree.diagnostic(
        each.code,
        each.path,
        detail,
        of_key=each.at == "key",
        hint=hint,
        command=each.command,
        also=also,
        severity=each.severity,
    )
    if place and (place.file, place.line) in secret:
        return replace(made, source="")
    return made
