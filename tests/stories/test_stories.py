"""Each folder is a story: what is declared, live and past, and the plan that follows.

`fleet.yaml`, `clients/`, `env/` and `fleet.lock` are the project; `live.json` is a live-state
file; `history.json` is the folded ledger (none: a new fleet); `hosts.json` the hosts of the last
apply; `env.txt` names an overlay; `now.txt`
is the time. `plan.txt`, `plan.md` and `plan.json`, or `error.txt` where no plan can be made, are
compared byte by byte; UPDATE_STORIES=1 writes them anew, for a person to read and to commit.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from fleet.errors import FleetError
from fleet.history.values import History
from fleet.plan import Plan
from fleet.planning.pipeline import make_plan
from fleet.resources import State
from fleet.rules import judge_rules
from fleet.spec import FleetSpec
from plans.diagnostics import render_text
from plans.documents import live_file, plan_file
from plans.render import RENDERERS
from runtime.observe import known_hosts, with_removed
from runtime.project.load import load_project

REPOSITORY = Path(__file__).parent.parent.parent
STORIES = sorted(path.parent for path in Path(__file__).parent.glob("*/fleet.yaml"))
RENDERINGS = {"plan.txt": "text", "plan.md": "md", "plan.json": "json"}
REFUSAL = "error.txt"
PLANNED = [story for story in STORIES if not (story / REFUSAL).exists()]
_HISTORY: TypeAdapter[History] = TypeAdapter(History)


def given(story: Path, name: str, default: str = "") -> str:
    path = story / name
    return path.read_text(encoding="utf-8") if path.exists() else default


def past_of(story: Path) -> tuple[FleetSpec, State, History, datetime]:
    """Return what a story's plan is made from."""
    fleet = with_removed(
        load_project(story, given(story, "env.txt").strip() or None, {}).fleet,
        known_hosts(story),
    )
    history = _HISTORY.validate_json(given(story, "history.json", "{}"))
    now = datetime.fromisoformat(given(story, "now.txt").strip())
    return fleet, live_file.load(given(story, "live.json")), history, now


def plan_of(story: Path) -> Plan:
    fleet, live, history, now = past_of(story)
    plan = make_plan(fleet, live, history, now)
    return replace(plan, rules=judge_rules(plan, fleet, history, now))


def told(story: Path) -> dict[str, str]:
    """Return what a reader gets, by file name: the plan, or why there is none."""
    try:
        plan = plan_of(story)
    except FleetError as error:
        return {REFUSAL: render_text(error.diagnostics)}
    return {name: RENDERERS[form](plan) for name, form in RENDERINGS.items()}


def expected(story: Path) -> dict[str, str]:
    """Return what is written down of a story, by file name."""
    texts = {name: given(story, name) for name in (REFUSAL, *RENDERINGS)}
    return {name: text for name, text in texts.items() if text}


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_the_story_of(story: Path) -> None:
    shown = told(story)
    if os.environ.get("UPDATE_STORIES") == "1":
        for name in (REFUSAL, *RENDERINGS):
            (story / name).unlink(missing_ok=True)
        for name, text in shown.items():
            (story / name).write_text(text, encoding="utf-8", newline="\n")
    assert shown == expected(story)


@pytest.mark.parametrize("story", PLANNED, ids=lambda story: story.name)
def test_the_plan_file_is_read_back(story: Path) -> None:
    text = given(story, "plan.json")
    assert plan_file.dump(plan_file.load(text)) == text


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_the_live_state_is_in_the_form_that_fleetctl_writes(story: Path) -> None:
    text = given(story, "live.json")
    assert live_file.dump(live_file.load(text)) == text


def test_there_are_stories() -> None:
    assert len(STORIES) >= 15


@pytest.mark.parametrize("seed", ["1", "4711"])
def test_every_story_ends_the_same_under_another_hash_seed(seed: str) -> None:
    code = (
        "import json, runpy, sys;"
        "module = runpy.run_path(sys.argv[1]);"
        "print(json.dumps({story.name: module['told'](story)"
        " for story in module['STORIES']}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, __file__],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {each.name: expected(each) for each in STORIES}
