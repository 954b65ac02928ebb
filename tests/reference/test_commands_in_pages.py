"""Every command that a page writes is a command of fleetctl, with options that it has."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import fault
from tests.reference.page import REPOSITORY
from tests.reference.test_links import CODE, FENCE, LINKING

WRITTEN = re.compile(r"^ *(?:\$ )?fleetctl +([^`\n|#;&>]+)", re.MULTILINE)
QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|\$\([^)]*\)")
GLOBAL = re.compile(r"^(?:(?:-C|--env|--var|--state-dir) \S+ +)+")
PAGES = [page for page in LINKING if page.name not in ("errors.md", "mistakes.md")]
"""The commands of errors are tried as advice, and mistakes name commands that are not there."""


def written(page: Path) -> Iterator[str]:
    """Yield the commands in blocks, in indented lines and between backticks."""
    text = page.read_text(encoding="utf-8")
    prose = FENCE.sub("", text)
    parts = [block for _, block in FENCE.findall(text)]
    parts += [code.strip("`") for code in CODE.findall(prose)]
    parts += [line for line in prose.splitlines() if line.startswith("    ")]
    for part in parts:
        for line in WRITTEN.findall(part):
            yield GLOBAL.sub("", QUOTED.sub("TEXT", line)).strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_the_commands_of_a_page_are_there(page: Path) -> None:
    tried = [line for line in written(page) if not re.match(r"COMMAND |--|-> ", line)]
    faults = {line: said for line in tried if (said := fault(line))}
    assert faults == {}
