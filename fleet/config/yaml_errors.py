"""Explains the syntax errors of YAML."""

from functools import lru_cache
from typing import Any

from fleet.codes import diagnostic, hide, scalar_width, without_secrets
from fleet.errors import Diagnostic, Position


def quoting(
    text: str, place: Position, code: str, detail: str, *, wide: bool = True, **more: Any
) -> Diagnostic:
    """Return a diagnostic that quotes the line at `place`; `wide` underlines the scalar."""
    source, hidden = without_secrets(_lines(text), place.line, place.column)
    width = scalar_width(source, place.column) if wide else 1
    return diagnostic(code, hide(detail, hidden), place, source=source, width=width, **more)


@lru_cache(maxsize=1)
def _lines(text: str) -> list[str]:
    """Split a text a single time: a file may have many problems."""
    return text.splitlines()


def explain(error: Exception, text: str, file: str) -> Diagnostic:
    """Return the diagnostic of an error of either YAML library."""
    position = getattr(error, "position", None)
    if position is not None:
        before = text[:position]
        place = Position(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        detail = f"The character U+{ord(text[position]):04X} must not stand in YAML."
        hint = "Delete it; it is invisible in most editors."
        return quoting(text, place, "FC1001", detail, hint=hint)
    spot = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = str(getattr(error, "problem", None) or "this is not YAML")
    context, start = getattr(error, "context", None), getattr(error, "context_mark", None)
    if spot is None:
        return diagnostic("FC1001", f"{problem}.", Position(file, 1, 1))
    place = Position(file, spot.line + 1, spot.column + 1)
    if getattr(error, "note", None) == "unsupported":
        detail = f"The {problem} has no meaning in a declaration."
        return quoting(text, place, "FC1014", detail, hint="Delete the tag.")
    if "'\\t'" in problem:
        detail = "YAML forbids tabs before a key or a list item; editors show them as spaces."
        return quoting(text, place, "FC1007", detail, hint="Use two spaces a level.", wide=False)
    if context == "expected a single document in the stream":
        detail = f"A second document begins with `---`; everything of `{file}` must be in one."
        return quoting(text, place, "FC1012", detail, hint="Delete the `---` line.", wide=False)
    also = (("began at", Position(file, start.line + 1, start.column + 1)),) if start else ()
    detail = f"{problem[:1].upper()}{problem[1:]}{f' {context}' if context else ''}."
    hint = next(remedy for part, remedy in _REMEDIES.items() if part in problem)
    line = _lines(text)[spot.line] if spot.line < len(_lines(text)) else ""
    if line[: spot.column].endswith("$") and line[spot.column : spot.column + 5] == "{env:":
        hint = 'Between braces, quote a variable: `"${env:NAME}"`.'
    return quoting(text, place, "FC1001", detail, hint=hint, also=also, wide=False)


_REMEDIES = {
    "mapping values are not allowed": "Quote a value that holds `: `, or check the indentation of "
    "this line.",
    "cannot start any token": "Quote the value.",
    "undefined alias": "Quote a value that begins with `*`.",
    "end of stream": "Close the quote or bracket that is open.",
    "stream end": "Close the quote or bracket that is open.",
    "": "Check the indentation, and that each quote and bracket is closed.",
}
"""Remedies by a part of the library's text; the first that fits holds."""
