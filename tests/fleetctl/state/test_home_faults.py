"""A fleet whose database refuses, ends in mid-apply, or belongs to a later release."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cutting_proxy import cutting
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import REPOSITORY, Project
from tests.postgres import PASSWORD, FreshDatabase

pytestmark = pytest.mark.postgresql


@pytest.fixture
def project(
    database: FreshDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    """The quickstart fleet on the fake engine, with a database that has its tables."""
    monkeypatch.setenv("FLEET_DB", database.uri)
    made = Project.copy(tmp_path / "project", None)
    file = made.root / "fleet.yaml"
    file.write_text(f"{file.read_text('utf-8')}\nstate: {{postgresql: env:FLEET_DB}}\n", "utf-8")
    yield made
    made.clean_up()


def code_of(done: Done) -> str:
    assert PASSWORD not in done.stdout + done.stderr
    found = re.search(r"\[(FC\d{4})\]", done.stderr)
    return found[1] if found else ""


def test_a_database_that_ends_in_mid_apply_stops_it_and_the_next_apply_goes_on(
    project: Project, database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cutting(database.port) as proxy:
        monkeypatch.setenv("FLEET_DB", database.through(proxy.port))
        with subprocess.Popen(
            project.command("apply", "--auto", "--yes", "--format", "json"),
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as applying:  # fmt: skip
            assert applying.stdout is not None
            assert applying.stderr is not None
            for line in applying.stdout:
                event = json.loads(line)
                if event["type"] == "step_begin" and event["step"].startswith("start "):
                    proxy.close()
                    break
            applying.stdout.read()
            said = applying.stderr.read()
    assert applying.returncode in (1, 4), said
    assert "FC5107" in said
    assert PASSWORD not in said
    monkeypatch.setenv("FLEET_DB", database.uri)
    again = call(project, "apply", "--auto", "--yes")
    assert again.returncode == 0, again.stderr
    assert call(project, "plan", "--detailed-exitcode").returncode == 0
    assert call(project, "evidence", "verify").returncode == 0


def test_with_rights_to_read_a_plan_works_and_an_apply_says_why_it_does_not(
    project: Project, database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied = call(project, "apply", "--auto", "--yes")
    assert applied.returncode == 0, applied.stderr
    page = (REPOSITORY / "docs/operators.md").read_text("utf-8")
    (grants,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    for role in ("planner", "applier"):
        database.run(f"create user {database.name}_{role} password '{PASSWORD}'")
        grants = grants.replace(role, f"{database.name}_{role}")
    database.run(grants)
    acme = project.root / "clients/acme.yaml"
    acme.write_text(acme.read_text("utf-8").replace('"2.1.0"', '"2.2.0"'), "utf-8")
    monkeypatch.setenv("FLEET_DB", database.uri.replace("owner", f"{database.name}_planner"))
    for words in (("plan",), ("status",), ("drift",)):
        seen = call(project, *words)
        assert (seen.returncode, code_of(seen)) == (0, ""), seen.stderr
    refused = call(project, "apply", "--auto", "--yes")
    assert (refused.returncode, code_of(refused)) == (1, "FC5106")
    assert "permission denied" in refused.stderr
    assert "docs/operators.md has the GRANTs" in " ".join(refused.stderr.split())
    monkeypatch.setenv("FLEET_DB", database.uri.replace("owner", f"{database.name}_applier"))
    assert call(project, "apply", "--auto", "--yes").returncode == 0


def test_a_fleet_of_a_later_release_or_behind_a_wrong_password_is_refused_by_every_command(
    project: Project, database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied = call(project, "apply", "--auto", "--yes")
    assert applied.returncode == 0, applied.stderr
    commands = (("plan",), ("apply", "--auto", "--yes"), ("history",))
    with monkeypatch.context() as patch:
        patch.setenv("FLEET_DB", database.uri.replace(PASSWORD, f"{PASSWORD}x"))
        for words in commands:
            refused = call(project, *words)
            assert (refused.returncode, code_of(refused)) == (1, "FC5107"), refused.stderr
            assert "password authentication failed" in " ".join(refused.stderr.split())
    database.run("insert into fleetctl.migration values (99)")
    for words in commands:
        refused = call(project, *words)
        assert (refused.returncode, code_of(refused)) == (1, "FC5007"), refused.stderr
