"""Every error code means one thing, and `fleetctl/CODES.md` lists them all.

`UPDATE_CODES=1 .venv/bin/python -m pytest tests/test_codes.py` rewrites the page.
"""

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from fleet.codes import SUMMARIES
from fleet.errors import FleetError
from fleetctl.commands.placement import CATALOGUE, explain_code

REPOSITORY = Path(__file__).parent.parent
PAGE = CATALOGUE
CODE = re.compile(r"FC[0-9]{4}")
SECTIONS = {
    "FC1": (
        "Declarations",
        "`fleetctl validate` lists every problem of the declarations with file, line and remedy.",
    ),
    "FC2": (
        "Placement",
        (
            "`fleetctl diagnose` shows what keeps the fleet from fitting, and which changes would "
            "help."
        ),
    ),
    "FC3": (
        "Library and preflight",
        (
            "`fleetctl adapter verify` compares the library and the served copies with fleet.lock; "
            "`fleetctl adapter add` names each part of an adapter that a server would not serve."
        ),
    ),
    "FC4": (
        "Engines and evaluations",
        (
            "`fleetctl status` shows the servers, `fleetctl server logs NAME` the log of a server "
            "that fleetctl started. Running the command again is safe."
        ),
    ),
    "FC5": (
        "Plans, ledger, apply",
        (
            "`fleetctl plan` compares the declarations with the live state again; "
            "`fleetctl history` shows what was done, and checks the ledger."
        ),
    ),
    "FC6": (
        "Gateway, keys, scaffolds",
        "`fleetctl gateway status` shows the gateways, `fleetctl status` the routes.",
    ),
}


def spoken() -> Iterator[tuple[str, str]]:
    """Yield code and constant summary of each diagnostic that the source makes."""
    yield from SUMMARIES.items()
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
                        yield str(code.value), str(summary.value)


def page(codes: dict[str, str]) -> str:
    lines = ["# Error codes", "", "A code never changes its meaning."]
    lines += ["`fleetctl explain FC1210` prints the entry of a code."]
    for prefix, (title, advice) in SECTIONS.items():
        lines += ["", f"## {title}", "", advice, "", "| code | summary |", "|---|---|"]
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


def test_the_catalogue_is_part_of_the_wheel() -> None:
    metadata = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    packages = metadata["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert PAGE.relative_to(REPOSITORY).parts[0] in packages


def test_every_code_has_an_entry_that_is_explained() -> None:
    for code, summary in spoken():
        ((address, facts),) = explain_code(code.lower()).items()
        titles = {prefix: title for prefix, (title, _) in SECTIONS.items()}
        assert address == code
        assert facts[:2] == [("meaning", summary), ("part", titles[code[:3]])]
        assert facts[2][1].startswith("`fleetctl ")


@pytest.mark.parametrize(
    ("code", "nearest"), [("FC12100", "FC1210"), ("FC1218", "FC1217"), ("fc9999", "FC6715")]
)
def test_a_code_that_does_not_exist_names_the_nearest(code: str, nearest: str) -> None:
    with pytest.raises(FleetError) as refused:
        explain_code(code)
    (told,) = refused.value.diagnostics
    assert (told.code, told.hint) == ("FC5012", f"did you mean `{nearest}`?")
