"""Render a report of facts, tables and notes as text, Markdown, HTML or CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from plans.redact import prose
from plans.tables import WIDE_GAP, aligned
from plans.templating import rendered
from plans.visible import visible


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table; the first column holds names, and numbers follow."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1
    """Columns of names; the columns after them are aligned to the right."""


@dataclass(frozen=True, slots=True)
class TabularReport:
    """A report."""

    title: str
    facts: tuple[str, ...]
    tables: tuple[ReportTable, ...]
    notes: tuple[str, ...] = ()


def render_text(report: TabularReport) -> str:
    """Return the report for a terminal."""
    blocks = [[report.title, *report.facts]]
    for table in report.tables:
        right = range(table.names, len(table.heads))
        lines = aligned((table.heads, *table.rows), gap=WIDE_GAP, right=right)
        blocks.append([f"{table.title}:", *(f"  {line}" for line in lines)])
    blocks.append(list(report.notes))
    return "\n\n".join("\n".join(map(visible, block)) for block in blocks if block) + "\n"


def render_markdown(report: TabularReport) -> str:
    """Return the report as Markdown."""
    blocks = [[f"## {prose(report.title)}"], [f"- {prose(fact)}" for fact in report.facts]]
    for table in report.tables:
        rule = "---|" * table.names + "---:|" * (len(table.heads) - table.names)
        rows = (f"| {' | '.join(map(prose, row))} |" for row in table.rows)
        head = f"| {' | '.join(map(prose, table.heads))} |"
        blocks += [[f"### {prose(table.title)}"], [head, f"|{rule}", *rows]]
    blocks.append([f"- {prose(note)}" for note in report.notes])
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def render_html(report: TabularReport) -> str:
    """Return the report as a page without script; texts from outside are escaped."""
    return rendered("tabular.html.j2", report=report)


def csv_text(rows: Sequence[Sequence[object]]) -> str:
    """Return rows as CSV; a cell that a spreadsheet would compute begins with an apostrophe."""
    out = io.StringIO()
    acts = ("=", "+", "@")
    safe = ([f"'{cell}" if str(cell).startswith(acts) else cell for cell in row] for row in rows)
    csv.writer(out, lineterminator="\n").writerows(safe)
    return out.getvalue()
