"""Every error code means one thing, and has an entry in `fleetctl/error_codes`.

`UPDATE_CODES=1 .venv/bin/python -m pytest tests/test_codes.py` rewrites `docs/errors.md` and the
printed examples.
"""

import ast
import json
import os
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from fleet.codes import SUMMARIES
from fleet.errors import ConfigError, FleetError
from fleetctl.catalogue import EXAMPLES, FOLDER, entries, explain_code
from plans.diagnostics import render_text
from runtime.project.load import load_project
from tests.broken.cases import CASES
from tests.broken.project import broken, write
from tests.commands import fault

REPOSITORY = Path(__file__).parent.parent
PAGE = REPOSITORY / "docs" / "errors.md"
CODE = re.compile(r"FC[0-9]{4}")


@cache
def spoken() -> tuple[tuple[str, str], ...]:
    """Return code and constant summary of each diagnostic that the source makes."""
    found = [*SUMMARIES.items()]
    for package in ("fleet", "plans", "runtime", "fleetctl"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                for code, summary in pairwise(node.args if isinstance(node, ast.Call) else ()):
                    if (
                        isinstance(code, ast.Constant)
                        and CODE.fullmatch(str(code.value))
                        and isinstance(summary, ast.Constant)
                        and code.value not in SUMMARIES
                    ):
                        found.append((str(code.value), str(summary.value)))
    return tuple(found)


def printed(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the first broken declaration of each code, as the error is printed."""
    for code, case in {case.code: case for case in reversed(CASES)}.items():
        write(folder / code, broken(case))
        with pytest.raises(ConfigError) as caught:
            load_project(folder / code, "prod" if case.file.startswith("env/") else None, {})
        told = [told for told in caught.value.diagnostics if told.code == code]
        yield code, render_text(told).strip()


def _codes_in(path: Path) -> Iterator[str]:
    yield from filter(CODE.fullmatch, tomllib.loads(path.read_text(encoding="utf-8")))


def page() -> str:
    lines = ["# Error codes", "", "A code never changes its meaning."]
    lines += ["`fleetctl explain FC1210` prints the entry of a code."]
    part = ""
    for code, entry in entries().items():
        if entry.part != part:
            part = entry.part
            lines += ["", f"## {part}", "", entry.advice]
        lines += ["", f"### {code}: {entry.summary}"]
        told = (("Usual cause", entry.cause), ("Fix", entry.fix), ("Example", entry.example))
        lines += [line for label, text in told if text for line in ("", f"{label}: {text}")]
        lines += ["", "```text", *entry.printed.splitlines(), "```"] if entry.printed else []
    return "\n".join(lines) + "\n"


def test_a_code_has_one_meaning_everywhere() -> None:
    meanings: dict[str, set[str]] = {}
    for code, summary in spoken():
        meanings.setdefault(code, set()).add(summary)
    assert {code: found for code, found in meanings.items() if len(found) > 1} == {}


def test_every_code_has_an_entry_and_no_entry_is_without_its_code() -> None:
    found = {code: entry.summary for code, entry in entries().items()}
    where = "write summary, cause and fix into fleetctl/error_codes, then run with UPDATE_CODES=1"
    assert found == dict(spoken()), where
    files = {code: path.stem for path in FOLDER.glob("fc*.toml") for code in _codes_in(path)}
    assert {code for code, stem in files.items() if not code.lower().startswith(stem)} == set()


def test_a_printed_example_is_what_a_broken_declaration_prints(tmp_path: Path) -> None:
    examples = dict(sorted(printed(tmp_path)))
    if os.environ.get("UPDATE_CODES"):
        lines = [
            f"{code} = {json.dumps(text, ensure_ascii=False)}" for code, text in examples.items()
        ]
        EXAMPLES.write_text("\n".join(lines) + "\n", encoding="utf-8")
        entries.cache_clear()
    assert tomllib.loads(EXAMPLES.read_text(encoding="utf-8")) == examples


def test_the_page_has_every_entry() -> None:
    text = page()
    if os.environ.get("UPDATE_CODES"):
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text


def test_every_entry_has_a_cause_a_fix_and_an_example() -> None:
    lacking = {
        code
        for code, entry in entries().items()
        if not (entry.cause and entry.fix and (entry.example or entry.printed))
    }
    assert lacking == set(), "add `cause`, `fix` and `example` in fleetctl/error_codes"


def test_every_command_of_an_entry_can_be_run() -> None:
    commands = {
        (code, found)
        for code, entry in entries().items()
        for text in (entry.cause, entry.fix, entry.example, entry.advice)
        for found in re.findall(r"`fleetctl ([^`]+)`", text)
    }
    assert len(commands) > 100
    assert {command: why for command in commands if (why := fault(command[1]))} == {}


def test_the_catalogue_is_part_of_the_wheel() -> None:
    metadata = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    packages = metadata["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert FOLDER.relative_to(REPOSITORY).parts[0] in packages


def test_every_code_has_an_entry_that_is_explained() -> None:
    for code, summary in spoken():
        ((address, facts),) = explain_code(code.lower()).items()
        assert address == code
        assert facts[0] == ("meaning", summary)
        assert facts[-1][1].startswith("`fleetctl ")


@pytest.mark.parametrize(
    ("code", "nearest"), [("FC12100", "FC1210"), ("FC1218", "FC1217"), ("fc9999", "FC6715")]
)
def test_a_code_that_does_not_exist_names_the_nearest(code: str, nearest: str) -> None:
    with pytest.raises(FleetError) as refused:
        explain_code(code)
    (told,) = refused.value.diagnostics
    assert (told.code, told.hint) == ("FC5012", f"did you mean `{nearest}`?")
