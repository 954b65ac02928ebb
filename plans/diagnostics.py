"""Diagnostics as people and machines read them: text, JSON, GitHub annotations, SARIF."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from textwrap import fill
from types import MappingProxyType
from typing import Any

from fleet.errors import Diagnostic

SHOWN = 50
"""Problems shown as text; the machine-readable forms hold all."""
WIDTH = 100
_MAX_LINE = 160
_TWO_STOPS = re.compile(r"(?<!\.)\.\.(?!\.|/)(?=\s|$)")
_TABS = str.maketrans("\t", " ")


def render_text(diagnostics: Sequence[Diagnostic], colour: bool = False) -> str:  # noqa: FBT001, FBT002 (a rendering's only option)
    """Return the text for a terminal, one blank line between problems."""
    paint = _paint if colour else _plain
    blocks = [_block(each, paint) for each in diagnostics[:SHOWN]]
    rest = len(diagnostics) - SHOWN
    if rest > 0:
        blocks.append(f"… and {rest} more. `fleetctl validate --format json` lists all.\n")
    return "\n".join(blocks)


def _block(each: Diagnostic, paint: Callable[[str, str], str]) -> str:
    tone = "red" if each.severity == "error" else "yellow"
    title = "Error" if each.severity == "error" else "Warning"
    lines = [f"{paint(f'{title}:', tone)} {paint(each.summary, 'bold')} [{each.code}]"]
    if each.place:
        lines.append(f"  at {each.place}")
        lines += _quote(each, paint, tone)
    lines += [f"  {label} {place}" for label, place in each.also]
    if each.detail or each.hint:
        lines += ["", *_wrap(f"{each.detail} {_sentence(each.hint, each.command)}".strip())]
    if each.command:
        lines += ["", f"    {each.command}"]
    return "\n".join(lines) + "\n"


def _sentence(hint: str, command: str) -> str:
    """Return a hint as a sentence, which leads over to the command if one follows."""
    end = "" if not hint or hint.endswith((".", ":", "?", "!")) else ":" if command else "."
    return hint[:1].upper() + hint[1:] + end


def _wrap(text: str) -> list[str]:
    once = _TWO_STOPS.sub(".", text)  # what is quoted may have ended in one itself
    return fill(once, WIDTH, break_long_words=False, break_on_hyphens=False).splitlines()


def _quote(each: Diagnostic, paint: Callable[[str, str], str], tone: str) -> list[str]:
    """Return the offending line and the caret below it; a long line is cut around the spot."""
    if not each.source.strip() or each.place is None:
        return []
    column = each.place.column - 1
    start = max(0, column - _MAX_LINE // 2) if len(each.source) > _MAX_LINE else 0
    line = "".join(
        character if character.isprintable() else " "
        for character in each.source[start : start + _MAX_LINE].translate(_TABS)
    ).rstrip()
    width = max(1, min(each.width, len(line) - (column - start)))
    gutter = str(each.place.line)
    carets = " " * (column - start) + "^" * width
    return [f"  {gutter} | {line}", f"  {' ' * len(gutter)} | {paint(carets, tone)}"]


_CODES = {"red": "31", "yellow": "33", "bold": "1"}


def _paint(text: str, tone: str) -> str:
    return f"\033[{_CODES[tone]}m{text}\033[0m"


def _plain(text: str, _tone: str) -> str:
    return text


def render_json(diagnostics: Sequence[Diagnostic]) -> str:
    """Return a JSON list, one object a diagnostic."""
    return json.dumps([_object(each) for each in diagnostics], indent=2) + "\n"


def _object(each: Diagnostic) -> dict[str, Any]:
    found: dict[str, Any] = {
        "code": each.code,
        "severity": each.severity,
        "summary": each.summary,
        "detail": each.detail,
        "hint": each.hint,
        "command": each.command,
    }
    if each.place:
        found |= {"file": each.place.file, "line": each.place.line, "column": each.place.column}
        found |= {"width": each.width, "source": each.source}
    found["also"] = [
        {"label": label, "file": place.file, "line": place.line, "column": place.column}
        for label, place in each.also
    ]
    return found


def render_github(diagnostics: Sequence[Diagnostic]) -> str:
    """Return GitHub workflow commands, which annotate the lines of a pull request.

    Source:
        https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
    """
    return "".join(_annotation(each) for each in diagnostics)


def _annotation(each: Diagnostic) -> str:
    properties = {"title": f"{each.summary} [{each.code}]"}
    if each.place:
        properties = {
            "file": each.place.file,
            "line": str(each.place.line),
            "col": str(each.place.column),
            "endColumn": str(each.place.column + each.width),
            **properties,
        }
    shown = ",".join(f"{name}={_escape(value, ':,')}" for name, value in properties.items())
    return f"::{each.severity} {shown}::{_escape(_message(each), '')}\n"


def _escape(text: str, more: str) -> str:
    for character in ("%", "\r", "\n", *more):
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _message(each: Diagnostic) -> str:
    hint = _sentence(each.hint, each.command)
    return " ".join(part for part in (each.detail, hint, each.command) if part)


def render_sarif(diagnostics: Sequence[Diagnostic]) -> str:
    """Return a SARIF 2.1.0 log, as code-scanning services take it."""
    rules = {each.code: each.summary for each in diagnostics}
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
                "results": [_result(each) for each in diagnostics],
            }
        ],
    }
    return json.dumps(log, indent=2) + "\n"


def _result(each: Diagnostic) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ruleId": each.code,
        "level": each.severity,
        "message": {"text": _message(each) or each.summary},
    }
    if each.place:
        place = each.place
        found["locations"] = [_location(place.file, place.line, place.column, each.width)]
    if each.also:
        found["relatedLocations"] = [
            {**_location(place.file, place.line, place.column, 1), "message": {"text": label}}
            for label, place in each.also
        ]
    return found


def _location(file: str, line: int, column: int, width: int) -> dict[str, Any]:
    region = {"startLine": line, "startColumn": column, "endColumn": column + width}
    return {"physicalLocation": {"artifactLocation": {"uri": file}, "region": region}}


RENDERERS: Mapping[str, Callable[[Sequence[Diagnostic]], str]] = MappingProxyType(
    {
        "text": render_text,
        "json": render_json,
        "github": render_github,
        "sarif": render_sarif,
    }
)
"""Each form by its name on the command line."""
