"""Holds a page of the reference to its text; `UPDATE_REFERENCE=1` writes the page."""

import os
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "docs" / "reference"
WRITE = "UPDATE_REFERENCE=1 .venv/bin/python -m pytest tests/reference"


def held(name: str, text: str) -> None:
    """Check that a page has this text, or write the page."""
    page = FOLDER / f"{name}.md"
    if os.environ.get("UPDATE_REFERENCE"):
        page.write_text(text, encoding="utf-8")
    written = page.read_text(encoding="utf-8") if page.exists() else ""
    assert written == text, f"docs/reference/{name}.md is not what the code says; type: {WRITE}"


def table(columns: str, rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the lines of a table; `columns` are words with bars between."""
    lines = [f"| {columns} |", "|" + "---|" * (columns.count("|") + 1)]
    escaped = ([cell.replace("|", r"\|").replace("\n", " ") for cell in row] for row in rows)
    return lines + [f"| {' | '.join(row)} |" for row in escaped]
