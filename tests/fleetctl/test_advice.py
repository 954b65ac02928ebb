"""Every command that a text advises is there, with its options, and none leads in a circle."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.commands import fault

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("fleet", "plans", "runtime", "fleetctl")
BEGINS = re.compile(r"(?:^|(?<=`)|(?<=: ))fleetctl (?=[a-z])")
ENDS = re.compile(r"[`\n;|)]|, |\. |\.$|: |$")
SENTENCES = ("writes an Envoy's", "itself failed", "starts vLLM here", "server key")
"""Beginnings of texts that speak of fleetctl, and name no command."""
SHOWN_BY = {"fleet/planning/drift.py", "runtime/operations/hung_servers.py"}
"""Files whose advice `status` and `drift` print themselves."""


def texts(tree: ast.AST) -> Iterator[str]:
    """Yield the strings of a module without docstrings; a value that is filled in is `VALUE`."""
    nodes = [*ast.walk(tree)]
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    parts |= {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            values = (getattr(part, "value", "") for part in node.values)
            yield "".join(value if isinstance(value, str) else "VALUE" for value in values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield "" if id(node) in parts else node.value


@cache
def advised() -> tuple[tuple[str, str], ...]:
    """Return the advised commands, each behind the file that advises it."""
    found = set()
    for path in (path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")):
        for text in texts(ast.parse(path.read_text(encoding="utf-8"))):
            for begin in BEGINS.finditer(text):
                end = ENDS.search(text, begin.end())
                line = text[begin.end() : end.start() if end else None]
                found.add((str(path.relative_to(REPOSITORY)), line))
    return tuple(sorted(found))


def test_every_advised_command_can_be_run() -> None:
    commands = [(path, line) for path, line in advised() if not line.startswith(SENTENCES)]
    assert len(commands) > 200
    assert {(path, line): why for path, line in commands if (why := fault(line))} == {}
    assert fault("rollout approve VALUE --speedily") == "no option `--speedily`"
    assert fault("rollout aprove VALUE") == "no command `aprove`"


@pytest.mark.parametrize("path", sorted(SHOWN_BY))
def test_what_status_and_drift_advise_is_another_command(path: str) -> None:
    own = [line.split()[0] for shown, line in advised() if shown == path]
    assert own
    assert not {"status", "drift"} & {*own}
