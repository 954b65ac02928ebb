"""The dashboard in a real browser, over a fleet on the fake engine, behind a gateway."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.needs import chromium
from tests.ports import free_port

pytestmark = pytest.mark.browser

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
OPERATOR = (
    "/", "/models", "/models/acme-support", "/clients", "/clients/acme", "/clients/acme/view",
    "/servers/tiny-laptop-cpu0", "/usage", "/demand", "/cost", "/rollouts",
    "/rollouts/acme-support", "/why/acme-support", "/alerts", "/drift", "/plans", "/plans/RUN",
    "/do/rollback/acme-support", "/do/hold/acme-support",
    "/deploy/acme-support?version=2.1.0",
)  # fmt: skip
CLIENT = ("/c/acme", "/c/acme/invoice", "/c/acme/acme-support")
LOOKS = [("light", 1280), ("dark", 390)]
MORE = [("dark", 1280), ("light", 390), ("light", 320), ("dark", 3840)]


@dataclass
class Stage:
    project: Project
    browser: Any
    url: str
    states: dict[str, Any] = field(default_factory=dict)
    """Cookies of an operator and of a client."""

    def page(self, who: str, problems: list[str] | None = None, **settings: Any) -> Any:
        """Return a page of a new context; console messages and foreign requests are problems."""
        page = self.browser.new_context(storage_state=self.states.get(who), **settings).new_page()
        page.set_default_timeout(60_000)
        found = problems if problems is not None else []
        page.on("console", lambda message: found.append(message.text))
        page.on("pageerror", lambda error: found.append(str(error)))
        page.on(
            "request",
            lambda asked: found.append(asked.url) if not asked.url.startswith(self.url) else None,
        )
        return page


@contextmanager
def serving(project: Project) -> Iterator[Stage]:
    """Serve the dashboard of an applied fleet, with acme-support at 10 % of a new version."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 (may not be installed)

    acme = project.root / "clients/acme.yaml"
    acme.write_text(acme.read_text("utf-8").replace('"2.1.0"', '"2.2.0"'), "utf-8")
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    url = f"http://127.0.0.1:{free_port()}"
    dashboard = subprocess.Popen(
        project.command("dashboard", "--listen", url.removeprefix("http://")),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert dashboard.stdout is not None
    link = dashboard.stdout.readline().strip()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
            made = Stage(project, browser, url)
            client = project.run("dashboard", "link", "acme", "--url", url).stdout.strip()
            for who, address in (("operator", link), ("client", client)):
                page = made.page(who)
                assert page.goto(address).status == 200
                made.states[who] = page.context.storage_state()
            yield made
            browser.close()
    finally:
        dashboard.terminate()
        dashboard.wait()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    project = Project.copy(tmp_path_factory.mktemp("fleet") / "project", None)
    assert call(project, "gateway", "start").returncode == 0
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    with serving(project) as made:
        assert project.run("rollout", "extend", "acme-support").returncode == 0
        yield made
    project.clean_up()


def run_of(project: Project) -> str:
    lines = (project.root / ".fleetctl/ledger.jsonl").read_text("utf-8").splitlines()
    runs = [json.loads(line)["run"] for line in lines if '"apply_started"' in line]
    return str(runs[0])


def check(stage: Stage, who: str, path: str, scheme: str, width: int) -> None:
    """Open a page and assert that it is whole: no message, no foreign request, no axe violation."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 (may not be installed)

    problems: list[str] = []
    size = {"width": width, "height": 900}
    page = stage.page(who, problems, color_scheme=scheme, viewport=size)
    assert page.goto(stage.url + path.replace("RUN", run_of(stage.project))).status == 200
    page.evaluate("document.querySelectorAll('details').forEach(found => { found.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page)
    rules = [(rule["id"], rule["nodes"][0]["html"]) for rule in found.response["violations"]]
    page.context.close()
    assert (rules, problems) == ([], [])


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
@pytest.mark.parametrize("path", [*OPERATOR, *CLIENT])
def test_a_page_is_whole(stage: Stage, path: str, scheme: str, width: int) -> None:
    check(stage, "client" if path in CLIENT else "operator", path, scheme, width)


@pytest.mark.long
@pytest.mark.parametrize(("scheme", "width"), MORE)
@pytest.mark.parametrize("path", [*OPERATOR, *CLIENT])
def test_a_page_is_whole_at_other_sizes(stage: Stage, path: str, scheme: str, width: int) -> None:
    check(stage, "client" if path in CLIENT else "operator", path, scheme, width)


def test_pages_work_without_javascript(stage: Stage) -> None:
    page = stage.page("operator", java_script_enabled=False)
    page.goto(f"{stage.url}/models")
    page.fill("#q", "birch")
    page.click("form[role=search] button")
    assert page.locator("tbody tr").all_inner_texts()[0].startswith("birch-units")
    page.click("tbody a")
    assert page.locator("h1").inner_text() == "birch-units"


def test_a_poll_shows_what_is_new_and_keeps_text_focus_and_open_figures(stage: Stage) -> None:
    problems: list[str] = []
    page = stage.page("operator", problems)
    page.goto(f"{stage.url}/rollouts/acme-support")
    page.click("details summary")
    assert stage.project.run("rollout", "hold", "acme-support").returncode == 0
    page.get_by_text("held by").first.wait_for()
    assert page.locator("details").first.get_attribute("open") is not None
    page.goto(f"{stage.url}/")
    page.fill("#q", "half a wo")
    assert stage.project.run("rollout", "resume", "acme-support").returncode == 0
    page.get_by_text("none waits").wait_for()
    assert page.input_value("#q") == "half a wo"
    assert page.evaluate("document.activeElement.id") == "q"
    assert problems == []


def test_a_stage_is_extended_by_click_after_a_confirmation(stage: Stage) -> None:
    page = stage.page("operator")
    page.goto(f"{stage.url}/rollouts")
    page.get_by_role("link", name="Extend this stage").click()
    page.get_by_text("The declared version has as much time again").wait_for()
    page.get_by_label("Reason").fill("the client tests until Friday")
    assert "until Friday" not in stage.project.run("history", "acme-support").stdout
    page.get_by_role("button", name="Extend this stage").click()
    page.get_by_text("2.2.0 has as much time again").wait_for()
    assert "the client tests until Friday" in stage.project.run("history", "acme-support").stdout


def shares(project: Project) -> dict[str, int]:
    status = json.loads(project.run("status", "--format", "json").stdout)
    (found,) = [alias for alias in status["aliases"] if alias["alias"] == "acme-support"]
    return {version["version"]: version["percent"] for version in found["versions"]}


def roll_back(page: Any, typed: str) -> None:
    """Confirm a rollback, by keyboard alone."""
    page.get_by_label("Reason").fill("wrong refunds")
    page.get_by_label("Type acme-support to confirm").fill(typed)
    page.keyboard.press("Enter")


def test_a_rollback_by_keyboard_moves_the_traffic_and_the_ledger_names_the_person(
    stage: Stage,
) -> None:
    page = stage.page("operator")
    page.goto(f"{stage.url}/models/acme-support")
    page.get_by_role("link", name="Roll back").focus()
    page.keyboard.press("Enter")
    roll_back(page, "acme")
    page.get_by_text("That is not the alias").wait_for()
    assert shares(stage.project) == {"2.2.0": 10, "2.1.0": 90}
    roll_back(page, "acme-support")
    page.get_by_text("acme-support back on 2.1.0").wait_for()
    assert shares(stage.project) == {"2.2.0": 0, "2.1.0": 100}
    told = stage.project.run("history", "acme-support").stdout
    assert "wrong refunds" in told
    page.goto(f"{stage.url}/do/approve/acme-support")
    page.get_by_role("button", name="Approve this stage").click()
    page.get_by_text("The version is kept out").wait_for()
