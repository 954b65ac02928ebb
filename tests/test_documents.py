"""Decisions, changelog, `CONTRIBUTING.md` and READMEs keep their form, and name files that exist.

A page that grows without bound stays unread: each has a limit, and an index or a first screen.
"""

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
PACKAGES = ("fleet", "plans", "runtime", "fleetctl")
READMES = sorted(page for name in PACKAGES for page in (REPOSITORY / name).rglob("README.md"))
SECTIONS = 12
"""Upper bound of the topics of the decisions."""
DECISION = 1200
"""Upper bound of the characters of a decision: what, why, and what was refused."""
CELL = 60
"""Upper bound of a table's cell among the decisions: figures, no sentences."""
CHANGES = 60
"""Upper bound of the entries of the changelog."""
SCREEN = 45
"""Lines of the first screen of `CONTRIBUTING.md`."""
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
ENTRY = re.compile(r"^- (.+(?:\n  .+)*)", re.MULTILINE)
PATH = re.compile(r"`((?:fleet|plans|runtime|fleetctl|tests|docs|locks|\.ci)/[\w./-]*)`")
NAME = re.compile(r"`([\w/-]+(?:\.py)?/?)`")
"""A module, with its suffix or without, or a folder."""


def text_of(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def first_screen() -> str:
    return text_of("CONTRIBUTING.md").partition("\n## ")[0]


def test_the_decisions_have_an_index_of_their_sections() -> None:
    before, _, _ = text_of("DECISIONS.md").partition("\n## ")
    indexed = re.findall(r"^(\d+\. )\[(.+)\]\(#.+\)$", before, re.MULTILINE)
    sections = HEADING.findall(text_of("DECISIONS.md"))
    assert [f"{number}{name}" for number, name in indexed] == sections
    assert 0 < len(sections) <= SECTIONS


def test_each_section_of_the_decisions_is_a_list_and_no_decision_is_long() -> None:
    for section in text_of("DECISIONS.md").split("\n## ")[1:]:
        assert ENTRY.findall(section), section.partition("\n")[0]
    long = [entry for entry in ENTRY.findall(text_of("DECISIONS.md")) if len(entry) > DECISION]
    assert long == []


def test_no_table_among_the_decisions_holds_sentences() -> None:
    rows = [line for line in text_of("DECISIONS.md").splitlines() if line.startswith("|")]
    cells = [cell.strip() for row in rows for cell in row.strip("|").split("|")]
    assert [cell for cell in cells if len(cell) > CELL] == []


def test_the_changelog_is_short_and_says_what_was_added_changed_and_fixed() -> None:
    text = text_of("CHANGELOG.md")
    kinds = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Fixed"}
    assert 0 < len(re.findall(r"^[-*] ", text, re.MULTILINE)) <= CHANGES
    before_kinds = [release.partition("\n### ")[0] for release in text.split("\n## ")]
    assert [part for part in before_kinds if ENTRY.search(part)] == []


def test_contributing_begins_with_a_screen_and_then_its_recipes() -> None:
    assert first_screen().count("\n") <= SCREEN
    headings = HEADING.findall(text_of("CONTRIBUTING.md"))
    assert headings[0] == "Recipes"
    assert "marks" in headings[-1]


def test_every_target_that_contributing_names_is_one_of_make() -> None:
    targets = {*TARGET.findall(text_of("Makefile"))}
    named = {*re.findall(r"`make ([a-z][a-z-]*)[ `]", text_of("CONTRIBUTING.md"))}
    assert {"setup", "test", "test-fast"} <= named
    assert named - targets == set()


def test_every_package_is_a_room_of_the_first_screen() -> None:
    rooms = {line.split("|")[1] for line in first_screen().splitlines() if line.startswith("|")}
    assert [name for name in PACKAGES if not any(f"`{name}/`" in room for room in rooms)] == []


def test_every_file_that_contributing_names_is_there() -> None:
    named = {*PATH.findall(text_of("CONTRIBUTING.md"))} - {"locks/NAME.in"}
    templates = {name for name in named if "NAME" in name}
    assert [name for name in sorted(named - templates) if not (REPOSITORY / name).exists()] == []
    folders = {(REPOSITORY / name).parent for name in templates}
    assert [folder for folder in folders if not folder.is_dir()] == []


def test_every_mark_of_tests_is_told_at_the_end() -> None:
    options = tomllib.loads(text_of("pyproject.toml"))["tool"]["pytest"]["ini_options"]
    marks = {re.split(r"\W", mark)[0] for mark in options["markers"]}
    end = text_of("CONTRIBUTING.md").rpartition("\n## ")[2]
    assert {mark for mark in marks if f"- `{mark}" not in end} == set()


@pytest.mark.parametrize("page", READMES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_the_files_that_a_readme_lists_are_there(page: Path) -> None:
    """Names stand in the first column of a table, by itself or below the page's folder."""
    package = REPOSITORY / page.relative_to(REPOSITORY).parts[0]
    inside = [*page.parent.rglob("*"), *(package / "templates").rglob("*")]
    stems = {path.name.partition(".")[0] for path in inside}
    cells = [line.split("|")[1] for line in page.read_text("utf-8").splitlines() if line[:1] == "|"]
    lacking = []
    for name in (name for cell in cells for name in NAME.findall(cell)):
        stem = Path(name).name.partition(".")[0]
        if not ((page.parent / name).exists() or (REPOSITORY / name).exists() or stem in stems):
            lacking.append(name)
        elif name.endswith(".py") and "/" in name:
            assert (page.parent / name).is_file() or (REPOSITORY / name).is_file(), name
    assert lacking == []
