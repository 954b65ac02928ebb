"""The page of the plan file, from the dataclasses in it and the lists of their encoder."""

import inspect
import json
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from fleet.codec import ADDED, DECISIONS, MEASURED, TAGS
from fleet.consent import DecisionDue
from fleet.names import Address
from fleet.plan import Plan, PlanNote
from plans.documents.plan_file import BESIDE, FORMAT, REQUIRED, SPARSE, VERSION, Envelope
from tests.reference.page import table

HEAD = f"""# Plan JSON

`fleetctl plan --out plan.json` writes this document, `plan --format json` prints it, and `show`,
`graph --plan` and `apply` read it. The format is `{FORMAT}` {VERSION[0]}.{VERSION[1]}: an addition
raises the minor, and a reader refuses another major. Stories in `tests/stories` hold whole
documents, and the tests find every key of them here.
"""
TOP = (
    ("`format`", "text", f"`{FORMAT}`"),
    ("`format_version`", "text", "major and minor"),
    ("`plan_id`", "text", "16 hex digits of the SHA-256 of the decisions"),
    ("`decisions`", "[Plan](#plan)", "what is reviewed and carried out"),
    ("`observations`", "[Plan](#plan)", "estimates and counts for the reader"),
    ("`needs_decision`", "see below", "why a person has to approve; left out where none has to"),
    ("`envelope`", "[Envelope](#envelope)", "author, time and commit"),
)
CONSENT = (
    ("`causes`", "list of [DecisionDue](#decisiondue)", "1 or more"),
    ("`clients_out`", "whole number", "clients whose requests fail for a while"),
    ("`command`", "text", "the command that approves the plan; `TEXT` is yours"),
)
PLAIN = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`"}
TEXTS = (PlanNote, Address)
"""Dataclasses that are written as a text."""


def in_words(hint: Any) -> str:  # noqa: PLR0911 (a table)
    """Return a type as it is written in JSON."""
    if hint in PLAIN:
        return PLAIN[hint]
    if hint is type(None):
        return "null"
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(in_words(part) for part in get_args(hint))
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        words = [in_words(part) for part in inner if part is not Ellipsis]
        return f"list of {words[0] if Ellipsis in inner else ', '.join(words)}"
    if isinstance(hint, type) and is_dataclass(hint) and hint not in TEXTS:
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(f"`{member.value}`" for member in hint)
    if hint is datetime:
        return "time, ISO 8601"
    return "text" if hint in TEXTS else str(getattr(hint, "__name__", hint))


def dataclasses_in(hint: Any) -> Iterator[type]:
    """Yield the dataclasses that a type names."""
    if isinstance(hint, type) and is_dataclass(hint) and hint not in TEXTS:
        yield hint
    for part in get_args(hint):
        yield from dataclasses_in(part)


def enums_in(hint: Any) -> Iterator[type]:
    """Yield the enumerations that a type names."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        yield hint
    for part in get_args(hint):
        yield from enums_in(part)


def hints_of(kind: type) -> dict[str, Any]:
    """Return the types of the fields of a dataclass."""
    found = get_type_hints(kind, vars(sys.modules[kind.__module__]))
    return {field.name: found[field.name] for field in fields(kind)}


def kinds() -> list[type]:
    """Return all dataclasses of a plan, each after those that name it."""
    found: list[type] = []
    pending = [Plan, Envelope]
    while pending:
        kind = pending.pop(0)
        if kind not in found:
            found.append(kind)
            pending += [inner for hint in hints_of(kind).values() for inner in dataclasses_in(hint)]
    return found


FIELD = re.compile(r'(?ms)^    (\w+): [^\n#]*?(?:  # ([^\n]+))?$(?:\n    """(.+?)""")?')
"""A field of a dataclass with the comment beside it, or with its docstring."""


@cache
def meanings(kind: type) -> dict[str, str]:
    """Return the comments and docstrings of the fields of a dataclass, as sentences."""
    found = {}
    sources = (inspect.getsource(its) for its in reversed(kind.__mro__) if is_dataclass(its))
    for name, comment, text in FIELD.findall("\n".join(sources)):
        said = " ".join((text or comment).split())
        ended = f"{said.removesuffix('.')}." if said else ""
        found[name] = re.sub(r"\bNone\b", "null", ended[:1].upper() + ended[1:])
    return found


def meaning(kind: type, name: str) -> str:
    """Return the docstring of a field, or else that of the dataclass or enumeration in it."""
    if said := meanings(kind).get(name):
        return said
    hint = hints_of(kind)[name]
    inside = [*dataclasses_in(hint), *enums_in(hint)]
    text = (inspect.getdoc(inside[0]) or "") if len(inside) == 1 else ""
    return " ".join(text.partition("\n\n")[0].split())


def _notes(kind: type, name: str) -> str:
    """Return where a field of the plan stands, and when it is left out."""
    if kind is not Plan or name == "id":
        return ""
    where = "decisions" if name in (*DECISIONS, *ADDED) else "observations"
    is_left_out = name in (*ADDED, *SPARSE)
    return f"In `{where}`{', left out where empty' if is_left_out else ''}. "


def page() -> str:
    """Return the page."""
    lines = [HEAD, "## Document", "", *table("key | type | meaning", [*TOP]), ""]
    moved = "; ".join(f"`{name}`: `{'`, `'.join(its)}`" for name, its in MEASURED.items())
    lines += [
        f"Estimates inside the decisions have no part in the id, but in `observations`: {moved}.",
        "So does the `fingerprint` of a key that is issued first, in changes and steps.",
        f"A reader asks for `{'`, `'.join(REQUIRED)}`; the other observations may be missing.",
        "",
    ]
    assert {*DECISIONS, *ADDED, *BESIDE, "id"} == {*hints_of(Plan)}
    lines += ["## needs_decision", "", *table("key | type | meaning", [*CONSENT]), ""]
    for kind in (*kinds(), DecisionDue):
        tag = TAGS.get(kind)
        rows = [("`" + tag[0] + "`", "text", f"`{tag[1]}`")] if tag else []
        rows += [
            (f"`{name}`", in_words(hint), (_notes(kind, name) + meaning(kind, name)).strip())
            for name, hint in hints_of(kind).items()
            if (kind, name) != (Plan, "id")
        ]
        text = inspect.getdoc(kind) or ""
        lines += [f"## {kind.__name__}", "", text, "", *table("key | type | meaning", rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def keys_of(document: Any) -> Iterator[str]:
    """Yield the keys of all maps in a JSON document."""
    match document:
        case dict():
            for key, value in document.items():
                yield key
                yield from keys_of(value)
        case list():
            for item in document:
                yield from keys_of(item)
        case _:
            pass


def keys_in(text: str) -> set[str]:
    """Return the keys of a JSON document as text."""
    return {*keys_of(json.loads(text))}
