"""A rollback by click puts the traffic of a real vLLM back."""

import json
import re
import urllib.request
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.fleetctl.watch.test_dashboard_browser import roll_back, serving, shares

pytestmark = [pytest.mark.live, pytest.mark.long, pytest.mark.browser]
USERS = 150
OLD, NEW = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0"


def versions(project: Project) -> set[str]:
    """Return the versions that answer many users of acme-support."""
    text = (project.root / "fleet.yaml").read_text("utf-8")
    (listen,) = re.findall(r'main: \{listen: "([0-9.:]+)"', text)
    key = (project.root / ".fleetctl/keys/acme-prod").read_text("utf-8").strip()
    found = set()
    for user in range(USERS):
        body = {"model": "acme-support", "prompt": "No rush.", "max_tokens": 1, "user": f"u{user}"}
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        asked = urllib.request.Request(
            f"http://{listen}/v1/completions", json.dumps(body).encode(), headers
        )
        with urllib.request.urlopen(asked, timeout=120) as answer:
            found.add(answer.headers["x-fleetctl-version"])
    return found


def test_a_rollback_by_click_puts_the_traffic_back(tmp_path: Path, vllm_python: Path) -> None:
    project = Project.copy(tmp_path / "project", vllm_python)
    try:
        assert call(project, "gateway", "start").returncode == 0
        done = call(project, "apply", "--auto", "--yes")
        assert done.returncode == 0, done.stderr
        with serving(project) as stage:
            assert versions(project) == {OLD, NEW}
            page = stage.page("operator")
            page.goto(f"{stage.url}/models/acme-support")
            page.get_by_role("link", name="Roll back").click()
            roll_back(page, "acme-support")
            page.get_by_text("acme-support back on 2.1.0").wait_for()
            assert shares(project) == {"2.2.0": 0, "2.1.0": 100}
            assert versions(project) == {OLD}
    finally:
        project.clean_up()
