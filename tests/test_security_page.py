"""Each promise of the page on security names tests that exist."""

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
PAGE = REPOSITORY / "docs" / "security.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def _functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def test_each_named_test_exists() -> None:
    named = TEST.findall(PAGE.read_text("utf-8"))
    assert len(named) > 30
    assert [f"{file}::{name}" for file, name in named
            if not (REPOSITORY / file).is_file() or name not in _functions(REPOSITORY / file)
            ] == []  # fmt: skip


def test_each_promise_names_a_test() -> None:
    promises = PAGE.read_text("utf-8").partition("## What fleetctl promises")[2]
    rows = [line for line in promises.partition("## Where")[0].splitlines() if line[:2] == "| "]
    rows = [row for row in rows if row != "| promise | test |"]
    assert len(rows) > 20
    assert [row for row in rows if not TEST.search(row)] == []
