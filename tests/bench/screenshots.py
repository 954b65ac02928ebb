"""Take the pictures of a plan and of the dashboard in the documentation: `make screenshots`.

The reading is made up and its clock stands still; fonts differ between machines.
"""

import random
import shutil
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from fleet.history import History
from fleet.planning import desired_state, make_plan
from fleet.resources import State
from plans.render import RENDERERS
from runtime.ledger import open_ledger
from runtime.project.load import load_project
from runtime.workspace import Workspace
from tests.fleet.costing.worlds import NOON
from tests.needs import chromium
from tests.runtime.web.stage import PERSON, Viewer, project, reading, viewing
from tests.runtime.web.test_recount import log, row

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
DAYS = 44
SHOTS = (
    ("fleet-day", "/", "", "light", 1280),
    ("rollouts-day", "/rollouts", "", "light", 1280),
    ("cost-day", "/cost", "", "light", 1280),
    ("client-night", "/c/acme", "acme", "dark", 900),
)
QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"
PLAN = ("plan", "", "", "light", 1000)


def html(viewer: Viewer, path: str, who: str) -> str:
    """Return a page with its style sheet inside."""
    link = '<link rel="stylesheet" href="/static/style.css">'
    text = viewer.http.get(path, headers=viewer.session(who)).text
    assert link in text
    return text.replace(link, f"<style>{viewer.pages.stylesheet}</style>")


def add_past(workspace: Workspace) -> None:
    """Give the fleet costs and requests of six weeks."""
    (terms,) = [entry.event for entry in workspace.ledger.open().read()]
    begin = NOON - timedelta(days=DAYS)
    open_ledger(workspace.state_dir, "run0", PERSON, lambda: begin).append([terms])
    chance = random.Random(14)  # noqa: S311 (not for secrets)
    log(workspace, [row(chance, number, DAYS * 24) for number in range(DAYS * 300)])


def plan_page(folder: Path) -> str:
    """Return the page of the plan in the README: a line of the quickstart's YAML is changed."""
    root, client = folder / "quickstart", Path("clients/acme.yaml")
    shutil.copytree(QUICKSTART, root, ignore=shutil.ignore_patterns(".fleetctl"))
    before = load_project(root, None, {}, secrets=None).fleet
    live = desired_state(before, State(), History(), NOON)
    text = (root / client).read_text("utf-8").replace('"2.1.0"', '"2.2.0"')
    after = load_project(root, None, {}, secrets=None, edited={str(client): text}).fleet
    past = History(owned=frozenset(live.resources), settings=before.settings)
    return RENDERERS["html"](make_plan(after, live, past, NOON))


def main() -> int:
    """Write the pictures."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        workspace = project(Path(folder) / "project")
        add_past(workspace)
        with viewing(workspace, reading(workspace)) as viewer:
            pages = {name: html(viewer, path, who) for name, path, who, _, _ in SHOTS}
        pages["plan"] = plan_page(Path(folder))
    with sync_playwright() as playwright:
        browser: Any = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        for name, _, _, scheme, width in (*SHOTS, PLAN):
            size = {"width": width, "height": 820 if name == "plan" else 320}
            page = browser.new_page(color_scheme=scheme, viewport=size)
            page.route("**/*", lambda route: route.abort())
            page.set_content(pages[name])
            to = QUICKSTART if name == "plan" else FOLDER
            page.screenshot(path=to / f"{name}.png", full_page=name != "plan")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
