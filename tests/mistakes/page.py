"""The page of the mistakes: a table for every group, and the printed texts."""

from collections.abc import Mapping, Sequence

from tests.mistakes.case import Mistake
from tests.reference.page import table

_BEGIN = """\
# Mistakes of the first hours

Mistakes of newcomers, played on the fake engine, and the text that each prints. The tables quote
from the texts: cause, place, why it matters, and what to type or write next. Exit codes are
those of the [commands](reference/commands.md); codes in brackets are [explained](errors.md).
"""
_COLUMNS = "mistake | exit | what is wrong | where | why it matters | what to do"


def page(groups: Mapping[str, Sequence[Mistake]], printed: Mapping[str, tuple[int, str]]) -> str:
    lines = [_BEGIN]
    for group, mistakes in groups.items():
        rows = [
            (its.name, str(its.code), *map(_quoted, (its.wrong, its.where, its.why, its.remedy)))
            for its in mistakes
        ]
        columns = _COLUMNS.replace("exit", "status") if "requests" in group else _COLUMNS
        lines += [f"## {group}", "", *table(columns, rows), ""]
        for its in mistakes:
            lines += [f"### {its.name[:1].upper()}{its.name[1:]}", ""]
            lines += [f"In `{file}`: {_change(old, new)}.\n" for file, old, new in its.edits]
            lines += [f"While {its.during}.\n"] if its.during else []
            commands = [f"$ {typed}" for typed in (*its.before, its.typed)]
            text = printed[f"{group}: {its.name}"][1]
            lines += ["```text", *commands, text, "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _quoted(part: str) -> str:
    return part.replace("`", "").join("``") if part else "-"


def _change(old: str, new: str) -> str:
    shown = (text.replace("\t", "⇥").strip().splitlines() for text in (old, new) if text)
    return " becomes ".join(f"`` {' ⏎ '.join(lines)} ``" for lines in shown)
