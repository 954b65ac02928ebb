"""Every error code means one thing, and `fleet/CODES.md` lists them all.

`UPDATE_CODES=1 .venv/bin/python -m pytest tests/test_codes.py` rewrites the page.
"""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

from fleet.problems import SUMMARIES

REPOSITORY = Path(__file__).parent.parent
PAGE = REPOSITORY / "fleet" / "CODES.md"
CODE = re.compile(r"FC[0-9]{4}")
SECTIONS = {
    "FC1": "Declarations",
    "FC2": "Placement",
    "FC3": "Library and preflight",
    "FC4": "Engines",
    "FC5": "Plans, ledger, apply",
    "FC6": "Gateway, keys, scaffolds",
}


def spoken() -> Iterator[tuple[str, str]]:
    """Yield code and constant summary of each diagnostic that the source makes."""
    yield from SUMMARIES.items()
    for package in ("fleet", "plans", "runtime", "fleetctl"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and len(node.args) > 1:
                    code, summary = node.args[:2]
                    if (
                        isinstance(code, ast.Constant)
                        and CODE.fullmatch(str(code.value))
                        and isinstance(summary, ast.Constant)
                        and code.value not in SUMMARIES
                    ):
                        yield str(code.value), str(summary.value)


def page(codes: dict[str, str]) -> str:
    lines = ["# Error codes", "", "A code never changes its meaning."]
    for prefix, title in SECTIONS.items():
        lines += ["", f"## {title}", "", "| code | summary |", "|---|---|"]
        lines += [f"| {code} | {codes[code]} |" for code in sorted(codes) if code[:3] == prefix]
    return "\n".join(lines) + "\n"


def test_a_code_has_one_meaning_everywhere() -> None:
    meanings: dict[str, set[str]] = {}
    for code, summary in spoken():
        meanings.setdefault(code, set()).add(summary)
    assert {code: found for code, found in meanings.items() if len(found) > 1} == {}


def test_the_page_lists_every_code() -> None:
    text = page(dict(spoken()))
    if os.environ.get("UPDATE_CODES"):
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text
