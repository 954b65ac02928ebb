"""Links and examples of the pages: files and headings exist, declarations have the right form."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from fleet.config import check_shape, parse
from tests.reference.page import REPOSITORY

PAGES = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")])
PACKAGES = ("fleet", "plans", "runtime", "fleetctl", "examples", "tests")
"""Folders whose READMEs link, too."""
LINKING = [
    *PAGES,
    *(REPOSITORY / name for name in ("CONTRIBUTING.md", "DECISIONS.md", "CHANGELOG.md")),
    *sorted(readme for name in PACKAGES for readme in (REPOSITORY / name).rglob("README.md")),
]
FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`[^`\n]*`")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(page)):
        text = LINK.sub("]", heading).replace("[", "").replace("]", "").strip().lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 0
        while (unique := f"{anchor}-{number}" if number else anchor) in found:
            number += 1
        found.add(unique)
    return found


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for link in LINK.findall(CODE.sub("", prose(page))):
        name, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def columns(text: str) -> Iterator[str]:
    """Yield the files of an example; two whose names are in the first line stand side by side."""
    lines = text.splitlines()
    at = lines[0].rfind("# ") if re.match(r"# \S+\.yaml +# \S+\.yaml$", lines[0]) else None
    yield "\n".join(line[:at].rstrip() for line in lines)
    if at is not None:
        yield "\n".join(line[at:] for line in lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_example_of_declarations_parses_and_declares_known_fields(page: Path) -> None:
    for kind, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if kind != "yaml":
            continue
        for column in columns(text):
            document = parse(column, page.name).value
            if column[0].isspace():
                continue  # a part of a file
            _, problems = check_shape({"fleet": "agency", **document})
            assert [problem.detail for problem in problems] == []


def test_every_page_is_in_the_index() -> None:
    index = REPOSITORY / "docs" / "README.md"
    linked = {
        (index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(prose(index))
    }
    pages = {page for page in PAGES if page.parent != REPOSITORY} - {index}
    assert {str(page.relative_to(REPOSITORY)) for page in pages - linked} == set()
