"""The eleven explains of docs/explains.md are what the product says of examples/explain.

UPDATE_TRANSCRIPTS=1 writes the page and the live states anew.
"""

import os
import shutil
from pathlib import Path

import pytest

from fleet.history.values import History
from fleet.planning.pipeline import desired_state
from fleet.resources import State
from plans.documents import live_file
from runtime.project.load import load_project
from tests.fleet.planning.builders import NOON
from tests.transcripts import InProcess, held

REPOSITORY = Path(__file__).resolve().parents[2]
FLEET = REPOSITORY / "examples" / "explain"


def test_the_live_state_is_that_after_an_apply() -> None:
    fleet = load_project(FLEET, None, {}).fleet
    states = {
        "live.json": desired_state(fleet, State(), History(), NOON),
        "empty.json": State(),
    }
    for name, state in states.items():
        if os.environ.get("UPDATE_TRANSCRIPTS"):
            (FLEET / name).write_text(live_file.dump(state), encoding="utf-8")
        assert (FLEET / name).read_text(encoding="utf-8") == live_file.dump(state)


def test_the_page_shows_what_explain_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(FLEET, tmp_path / "explain")
    monkeypatch.chdir(tmp_path / "explain")
    held(REPOSITORY / "docs" / "explains.md", InProcess(tmp_path / "explain", os.environ))
