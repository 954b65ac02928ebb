"""Mistakes of a newcomer's first hours: the printed text says cause, place, meaning and remedy.

`UPDATE_MISTAKES=1 .venv/bin/python -m pytest tests/mistakes` writes `docs/mistakes.md`.
"""

import json
import os
from collections.abc import Iterator

import pytest

from tests.commands import fault
from tests.fleetctl.project_on_disk import REPOSITORY
from tests.mistakes import commands, files, page, requests
from tests.mistakes.stage import declared, play, run

PAGE = REPOSITORY / "docs" / "mistakes.md"
GROUPS = {
    "At the command line": commands.TYPED,
    "In the files": files.MISTAKES,
    "On the machine": commands.MACHINE,
    "With a fleet that runs": commands.APPLIED,
    "In a client's requests": requests.MISTAKES,
}
MISTAKES = [mistake for group in GROUPS.values() for mistake in group]
Printed = dict[str, tuple[int, str]]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Printed]:
    """Exit code and text of every mistake, all played in a single project."""
    project = declared(tmp_path_factory.mktemp("home") / "fleet")
    odd = project.root / "runs/odd"
    odd.mkdir(parents=True)
    (project.root.parent / "downloads").mkdir()
    for file in (project.root / "models/adapters/acme/support-v2.1.0").glob("adapter_*"):
        (odd / file.name).write_bytes(file.read_bytes())
    config = json.loads((odd / "adapter_config.json").read_text("utf-8"))
    config["base_model_name_or_path"] = "mistralai/Mistral-7B-v0.3"
    (odd / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    found: Printed = {}
    try:
        for group, mistakes in GROUPS.items():
            if mistakes is commands.APPLIED:
                assert run(project, commands.APPLY)[0] == 0
                assert run(project, "fleetctl gateway start")[0] == 0
            found |= {f"{group}: {its.name}": play(project, its) for its in mistakes}
        yield found
    finally:
        project.clean_up()


@pytest.mark.parametrize(
    "name", [f"{group}: {its.name}" for group, mistakes in GROUPS.items() for its in mistakes]
)
def test_the_text_says_cause_place_meaning_and_remedy(printed: Printed, name: str) -> None:
    group, _, mistake = name.partition(": ")
    (its,) = (its for its in GROUPS[group] if its.name == mistake)
    code, text = printed[name]
    flat = " ".join(text.split())
    told = [part for part in (its.wrong, its.where, its.why, its.remedy) if part not in flat]
    assert (code, told) == (its.code, []), text
    assert "Traceback" not in text
    for line in text.splitlines():
        if line.startswith("    fleetctl "):
            assert fault(line.split(maxsplit=1)[1]) == ""


def test_the_page_has_every_mistake(printed: Printed) -> None:
    text = page.page(GROUPS, printed)
    if os.environ.get("UPDATE_MISTAKES"):
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text


def test_the_mistakes_are_many_and_have_names_of_their_own() -> None:
    assert len(MISTAKES) >= 40
    assert len({its.name for its in MISTAKES}) == len(MISTAKES)
