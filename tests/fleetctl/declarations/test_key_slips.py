"""A key file that is replaced by other bytes locks its client out: a person decides that."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.secrets import make_key
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import Project, applied

WEAK = "hunter2hunt3"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied."""
    yield from applied(tmp_path_factory.mktemp("fleet"))


@pytest.fixture
def file(project: Project) -> Iterator[Path]:
    """The file of the only key of a client; put back afterwards."""
    path = project.root / ".fleetctl/keys/acme-prod"
    secret = path.read_text("utf-8")
    yield path
    path.write_text(secret, "utf-8")


def installed(project: Project) -> dict[str, str]:
    table = json.loads((project.root / ".fleetctl/routes.json").read_text("utf-8"))
    return {name: entry["sha256"] for name, entry in table["keys"].items()}


def quiet(done: Done) -> bool:
    return WEAK not in done.stdout + done.stderr


def test_a_weak_secret_in_a_key_file_is_refused(project: Project, file: Path) -> None:
    """Before, "Safe to apply", and `apply --auto --yes` installed the 12 characters with exit 0."""
    before = installed(project)
    file.write_text(f"{WEAK}\n", "utf-8")
    warned = call(project, "validate")
    assert (warned.returncode, "FC1287" in warned.stderr, quiet(warned)) == (0, True, True)
    for words in (("plan",), ("apply", "--auto", "--yes")):
        done = call(project, *words)
        assert (done.returncode, "FC1282" in done.stderr, quiet(done)) == (1, True, True)
        assert "at clients/acme.yaml:6:13" in done.stderr
    done = call(project, "reconcile", "--once")
    assert (done.returncode, "FC1282" in done.stderr, quiet(done)) == (4, True, True)
    assert installed(project) == before


def test_a_second_key_first_needs_no_decision(project: Project) -> None:
    declared, live = (
        project.root / "clients/acme.yaml",
        "      prod: file:.fleetctl/keys/acme-prod\n",
    )
    text = declared.read_text("utf-8")
    assert live in text
    both = text.replace(live, f"{live}      next: file:.fleetctl/keys/acme-next\n")
    declared.write_text(both, "utf-8")
    assert call(project, "key", "create", "acme/next").returncode == 0
    given = call(project, "plan", "--format", "json")
    assert json.loads(given.stdout).get("needs_decision") is None
    declared.write_text(text, "utf-8")


def test_another_strong_secret_is_an_outage_until_a_person_accepts_that(
    project: Project, file: Path
) -> None:
    """Before, "Safe to apply", exit 0."""
    before = installed(project)
    file.write_text(f"{make_key()}\n", "utf-8")
    shown = call(project, "plan", "--format", "json")
    document = json.loads(shown.stdout)
    due, plan = document["needs_decision"], document["plan_id"]
    assert (due["clients_out"], due["causes"][0]["aliases"]) == (1, ["acme-support", "acme-triage"])
    refused = call(project, "apply", "--auto", "--yes")
    assert (refused.returncode, "FC5126" in refused.stderr) == (5, True)
    assert "requests of 1 client fail for a while (acme)" in " ".join(refused.stderr.split())
    assert installed(project) == before
    assert call(project, *due["command"].replace("TEXT", "agreed").split()[1:]).returncode == 0
    assert call(project, "apply", "--plan-id", plan, "--yes").returncode == 0
    after = installed(project)
    assert {name for name in after if after[name] != before[name]} == {"acme/prod"}
    file.write_text(f"{make_key()}\n", "utf-8")
    assert call(project, "apply", "--auto", "--yes").returncode == 5
