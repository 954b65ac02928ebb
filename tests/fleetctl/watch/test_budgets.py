"""Budgets of a month from declaration to alert: counted over gateways, refused by all of them."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

BUDGET = "limits: {tokens_per_month: 1000, requests_per_month: 100, budget: hard}"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose client acme has a hard budget."""
    made = Project.copy(tmp_path / "project", None)
    path = made.root / "clients" / "acme.yaml"
    path.write_text(path.read_text().replace("acme:\n", f"acme:\n    {BUDGET}\n", 1))
    return made


def log(project: Project, gateway: str, count: int, **fields: Any) -> None:
    """Write rows of 10 tokens in the first minutes of this month."""
    now = datetime.now(UTC)
    begin = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    path = project.root / ".fleetctl/gateways" / gateway / "usage.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    usual = {
        "client": "acme", "alias": "acme-support", "version": "acme-support-tiny-v2.1.0",
        "server": "tiny-laptop-cpu0", "status": 200, "latency_s": 0.1, "input_tokens": 4,
        "output_tokens": 6,
    }  # fmt: skip
    with path.open("a") as rows:
        for number in range(count):
            time = begin + timedelta(milliseconds=number)
            row = {"time": time.isoformat(timespec="milliseconds"), **usual, **fields,
                   "request_id": f"{gateway}-{number}-{fields}"}  # fmt: skip
            rows.write(json.dumps(row) + "\n")


def budgets(project: Project) -> dict[str, int]:
    found = json.loads(call(project, "cost", "budgets", "--format", "json").stdout)
    return {row["kind"]: row["used"] for row in found}


def test_all_gateways_count_together_and_what_was_refused_or_failed_is_no_request(
    project: Project,
) -> None:
    assert budgets(project) == {"requests": 0, "tokens": 0}
    log(project, "main", 30)
    log(project, "other", 50)
    log(project, "main", 5, status=429, version="", server="", input_tokens=None, output_tokens=0)
    log(project, "main", 3, status=500, output_tokens=0)
    log(project, "main", 7, purpose="eval")
    assert budgets(project) == {"requests": 80, "tokens": 812}
    text = call(project, "cost", "budgets").stdout
    assert "81%" in text
    assert "requests would be refused until" in text


def test_at_80_percent_an_alert_stands_and_beyond_all_of_it_another(project: Project) -> None:
    log(project, "main", 79)
    quiet = call(project, "watch", "--once")
    assert (quiet.returncode, quiet.stdout) == (0, "No alert stands.\n"), quiet.stderr
    log(project, "other", 2)
    warned = call(project, "watch", "--once")
    assert warned.returncode == 2
    assert "acme has used 81% of its budget of the month: 81 of 100 requests" in warned.stdout
    log(project, "other", 30, status=200, alias="acme-dates")
    urgent = call(project, "watch", "--once").stdout
    assert "acme has used up its budget of the month: 111 of 100 requests" in urgent
    assert "requests are refused until" in urgent


def test_a_plan_shows_a_budget_that_is_declared(project: Project) -> None:
    shown = call(project, "plan").stdout
    for line in ("limits.tokens_per_month", "limits.requests_per_month", "limits.budget"):
        assert line in shown, shown


@pytest.mark.parametrize("loop", ["watch", "reconcile"])
def test_both_loops_tell_gateways_that_a_budget_is_used_up(project: Project, loop: str) -> None:
    listen = re.search(r'listen: "(.+?)"', (project.root / "fleet.yaml").read_text())
    assert listen is not None

    def ask() -> httpx.Response:
        secret = (project.root / ".fleetctl/keys/acme-prod").read_text().strip()
        body = {"model": "acme-support", "messages": [{"role": "user", "content": "hello"}]}
        head = {"Authorization": f"Bearer {secret}"}
        return httpx.post(f"http://{listen[1]}/v1/chat/completions", json=body, headers=head)

    try:
        assert call(project, "apply", "--auto", "--yes").returncode == 0
        assert call(project, "gateway", "start").returncode == 0
        assert call(project, loop, "--once").returncode == 0
        kept = json.loads((project.root / ".fleetctl/gateways/main/month.json").read_text())
        log(project, "other", 100)
        before = ask()
        call(project, loop, "--once")
        after = ask()
    finally:
        project.clean_up()
    assert kept["clients"] == {"acme": [0, 0]}, "of a client that has not asked yet"
    assert (before.status_code, after.status_code) == (200, 429), after.text
    assert after.json()["error"]["code"] == "insufficient_quota"
