"""Render diagnostics: text, JSON, GitHub annotations, SARIF, GitLab's code quality."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from textwrap import shorten, wrap
from types import MappingProxyType
from typing import Any

from fleet.errors import Diagnostic, Position
from plans.tables import Paint, and_more, counted, painter
from plans.visible import visible

SHOWN = 50
"""Upper bound of problems that are shown as text; the other formats hold all."""
ALIKE = 3
"""Lower bound of problems of a kind that are shown as text in a block."""
LISTED = 20
"""Upper bound of the further problems in a block."""
WIDTH = 100
"""Upper bound of a line of prose. Unit: characters."""
_MAX_LINE = 160
"""Upper bound of a quoted line of YAML. Unit: characters."""
_LEAST_ROOM = 40
"""Lower bound of the text beside a place. Unit: characters."""
RED, YELLOW, BOLD = "31", "33", "1"
"""ANSI codes."""
_TWO_STOPS = re.compile(r"(?<!\.)\.\.(?!\.|/)(?=\s|$)")
"""A stop after quoted text that ends in a stop of its own."""
_NOWHERE = Position("fleet.yaml", 1, 1)
"""Place of a problem without a place, in a report whose problems all need a place."""
_TABS = str.maketrans("\t", " ")


def render_text(diagnostics: Sequence[Diagnostic], colour: bool = False) -> str:  # noqa: FBT001, FBT002 (a rendering's only option)
    """Return the text for a terminal, a blank line between problems.

    Several problems of a kind are a block: the first whole, a line for every other.
    """
    paint = painter(colour=colour)
    kinds = _kinds(diagnostics)
    blocks = [
        _block(_seen(first), paint) + _others(first, others) for first, *others in kinds[:SHOWN]
    ]
    if rest := and_more(kinds, SHOWN):
        blocks.append(f"… {rest}. `fleetctl validate --format json` lists all.\n")
    return "\n".join(blocks)


def _kinds(diagnostics: Sequence[Diagnostic]) -> list[list[Diagnostic]]:
    """Return the problems by kind, where several have a place and the same remedy."""
    kinds: dict[object, list[Diagnostic]] = {}
    for diagnostic in diagnostics:
        its = (diagnostic.code, diagnostic.severity, diagnostic.hint)
        kinds.setdefault(its if diagnostic.place else id(diagnostic), []).append(diagnostic)
    return [
        block
        for alike in kinds.values()
        for block in ([alike] if len(alike) >= ALIKE else [[single] for single in alike])
    ]


def _others(first: Diagnostic, others: Sequence[Diagnostic]) -> str:
    """Return a line for every further problem of a kind: its place, and its text if another."""
    if not others:
        return ""
    shown = others[:LISTED]
    width = max(len(str(other.place)) for other in shown)
    room = max(_LEAST_ROOM, WIDTH - width)
    lines = [f"The same in {counted(len(others), 'more place')}:"]
    for other in shown:
        text = "" if other.detail == first.detail else visible(other.detail)
        text = shorten(text, room, placeholder=" …")
        lines.append(f"  {visible(str(other.place)):{width}}  {text}".rstrip())
    lines += [f"  … {rest}"] if (rest := and_more(others, LISTED)) else []
    return "\n" + "\n".join(lines) + "\n"


def _seen(diagnostic: Diagnostic) -> Diagnostic:
    texts = ("summary", "detail", "hint", "command")
    changed: dict[str, Any] = {name: visible(getattr(diagnostic, name)) for name in texts}
    return replace(diagnostic, **changed)


def _block(diagnostic: Diagnostic, paint: Paint) -> str:
    title, tone = ("Error", RED) if diagnostic.severity == "error" else ("Warning", YELLOW)
    lines = [f"{paint(tone, f'{title}:')} {paint(BOLD, diagnostic.summary)} [{diagnostic.code}]"]
    if diagnostic.place:
        lines.append(f"  at {diagnostic.place}")
        lines += _quote(diagnostic, paint, tone)
    lines += [f"  {label} {place}" for label, place in diagnostic.also]
    if diagnostic.detail or diagnostic.hint:
        hint = _sentence(diagnostic.hint, diagnostic.command)
        text = _TWO_STOPS.sub(".", f"{diagnostic.detail} {hint}".strip())
        lines += ["", *wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)]
    if diagnostic.command:
        lines += ["", f"    {diagnostic.command}"]
    return "\n".join(lines) + "\n"


def _sentence(hint: str, command: str) -> str:
    """Return a hint as a sentence; the sentence ends with a colon where a command follows."""
    end = "" if not hint or hint.endswith((".", ":", "?", "!")) else ":" if command else "."
    return hint[:1].upper() + hint[1:] + end


def _quote(diagnostic: Diagnostic, paint: Paint, tone: str) -> list[str]:
    """Return the line of the problem and the caret below; a long line is cut around the column."""
    if not diagnostic.source.strip() or diagnostic.place is None:
        return []
    column = diagnostic.place.column - 1
    start = max(0, column - _MAX_LINE // 2) if len(diagnostic.source) > _MAX_LINE else 0
    line = "".join(
        character if character.isprintable() else " "
        for character in diagnostic.source[start : start + _MAX_LINE].translate(_TABS)
    ).rstrip()
    width = max(1, min(diagnostic.width, len(line) - (column - start)))
    gutter = str(diagnostic.place.line)
    carets = " " * (column - start) + "^" * width
    return [f"  {gutter} | {line}", f"  {' ' * len(gutter)} | {paint(tone, carets)}"]


def render_json(diagnostics: Sequence[Diagnostic]) -> str:
    """Return a JSON list, an object for every diagnostic."""
    return json.dumps([_object(diagnostic) for diagnostic in diagnostics], indent=2) + "\n"


def _object(diagnostic: Diagnostic) -> dict[str, Any]:
    names = ("code", "severity", "summary", "detail", "hint", "command")
    found: dict[str, Any] = {name: getattr(diagnostic, name) for name in names}
    if diagnostic.place:
        found |= _place(diagnostic.place)
        found |= {"width": diagnostic.width, "source": diagnostic.source}
    found["also"] = [{"label": label, **_place(place)} for label, place in diagnostic.also]
    return found


def _place(place: Position) -> dict[str, Any]:
    return {"file": place.file, "line": place.line, "column": place.column}


def render_github(diagnostics: Sequence[Diagnostic]) -> str:
    """Return GitHub workflow commands, which annotate the lines of a pull request.

    Source:
        https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
    """
    return "".join(_annotation(_seen(diagnostic)) for diagnostic in diagnostics)


def _annotation(diagnostic: Diagnostic) -> str:
    properties = {"title": f"{diagnostic.summary} [{diagnostic.code}]"}
    if diagnostic.place:
        place = diagnostic.place
        end = place.column + diagnostic.width
        where = {"file": place.file, "line": place.line, "col": place.column, "endColumn": end}
        properties = {name: str(value) for name, value in where.items()} | properties
    shown = ",".join(f"{name}={_escape(value, ':,')}" for name, value in properties.items())
    return f"::{diagnostic.severity} {shown}::{_escape(_message(diagnostic), '')}\n"


def _escape(text: str, more: str) -> str:
    text = visible(text)
    for character in ("%", "\r", "\n", *more):
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _message(diagnostic: Diagnostic) -> str:
    hint = _sentence(diagnostic.hint, diagnostic.command)
    return " ".join(part for part in (diagnostic.detail, hint, diagnostic.command) if part)


def render_sarif(diagnostics: Sequence[Diagnostic]) -> str:
    """Return a SARIF 2.1.0 log for code-scanning services."""
    rules = {diagnostic.code: diagnostic.summary for diagnostic in diagnostics}
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "fleetctl",
                        "rules": [
                            {"id": code, "shortDescription": {"text": summary}}
                            for code, summary in sorted(rules.items())
                        ],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(diagnostic) for diagnostic in diagnostics],
            }
        ],
    }
    return json.dumps(log, indent=2) + "\n"


def _result(diagnostic: Diagnostic) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ruleId": diagnostic.code,
        "level": diagnostic.severity,
        "message": {"text": _message(diagnostic) or diagnostic.summary},
    }
    if diagnostic.place:
        place = diagnostic.place
        found["locations"] = [_location(place.file, place.line, place.column, diagnostic.width)]
    if diagnostic.also:
        found["relatedLocations"] = [
            {**_location(place.file, place.line, place.column, 1), "message": {"text": label}}
            for label, place in diagnostic.also
        ]
    return found


def _location(file: str, line: int, column: int, width: int) -> dict[str, Any]:
    region = {"startLine": line, "startColumn": column, "endColumn": column + width}
    return {"physicalLocation": {"artifactLocation": {"uri": file}, "region": region}}


def render_codequality(diagnostics: Sequence[Diagnostic]) -> str:
    """Return a code-quality report, which GitLab shows in a merge request.

    A problem keeps its fingerprint when lines move: code, file and text make the fingerprint.

    Source:
        https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format
    """
    return json.dumps([_quality(diagnostic) for diagnostic in diagnostics], indent=2) + "\n"


def _quality(diagnostic: Diagnostic) -> dict[str, Any]:
    place, code = diagnostic.place or _NOWHERE, diagnostic.code
    text = f"{diagnostic.summary}: {_message(diagnostic)}"
    fingerprint = hashlib.sha256(f"{code} {place.file} {diagnostic.detail}".encode()).hexdigest()
    return {
        "description": visible(text),
        "check_name": code,
        "fingerprint": fingerprint,
        "severity": "major" if diagnostic.severity == "error" else "minor",
        "location": {"path": place.file, "lines": {"begin": place.line}},
    }


RENDERERS: Mapping[str, Callable[[Sequence[Diagnostic]], str]] = MappingProxyType(
    {
        "text": render_text,
        "json": render_json,
        "github": render_github,
        "sarif": render_sarif,
        "codequality": render_codequality,
    }
)
"""Renderer by format name; the names are those of `fleetctl validate --format`."""
