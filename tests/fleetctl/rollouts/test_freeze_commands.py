"""A frozen fleet: plans are made, nothing is applied or promoted, healing and ways back go on."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

REASON = "Black Friday"
LINE = "FROZEN by ann since "


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet with 2.2.0 of acme-support at 10 %, whose bake is over."""
    made = Project.copy(tmp_path_factory.mktemp("fleet") / "project", None)
    fleet = made.root / "fleet.yaml"
    text = fleet.read_text("utf-8")
    assert "bake: 24h, retain: 7d" in text
    fleet.write_text(text.replace("bake: 24h, retain: 7d", "bake: 1s, retain: 7d"), "utf-8")
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    declare(made, "2.1.0", "2.2.0")
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    yield made
    made.clean_up()


@pytest.fixture
def frozen(project: Project) -> Iterator[Project]:
    while "2.2.0 10 % -> 50 %" not in call(project, "plan").stdout:
        pass  # until its bake is over, and a round would promote it
    done = call(project, "freeze", "--reason", f"{REASON},\n  until Monday", actor="ann")
    assert done.returncode == 0, done.stderr
    yield project
    call(project, "thaw")


def declare(project: Project, old: str, new: str) -> None:
    path = project.root / "clients/acme.yaml"
    text = path.read_text("utf-8")
    assert f'version: "{old}"' in text
    path.write_text(text.replace(f'version: "{old}"', f'version: "{new}"'), "utf-8")


def shares(project: Project) -> dict[str, int]:
    document = json.loads(call(project, "status", "--client", "acme", "--format", "json").stdout)
    (support,) = (alias for alias in document["aliases"] if alias["alias"] == "acme-support")
    return {share["version"]: share["percent"] for share in support["versions"]}


@pytest.mark.parametrize(
    "command", [("plan",), ("plan", "--format", "md"), ("plan", "--format", "html"), ("status",)]
)
def test_author_time_and_reason_are_shown(frozen: Project, command: tuple[str, ...]) -> None:
    shown = call(frozen, *command)
    assert shown.returncode == 0
    assert LINE in shown.stdout
    assert f"{REASON}, until Monday. Nothing is applied" in shown.stdout


def test_a_plan_says_so_before_all_else_and_keeps_its_id(frozen: Project, tmp_path: Path) -> None:
    shown = call(frozen, "plan", "--out", str(tmp_path / "plan.json"))
    assert shown.stdout.startswith(LINE)
    during = json.loads((tmp_path / "plan.json").read_text("utf-8"))
    assert during["observations"]["frozen"]["by"] == "ann"
    assert call(frozen, "show", str(tmp_path / "plan.json")).stdout.startswith(LINE)
    assert call(frozen, "thaw").returncode == 0
    after = json.loads(call(frozen, "plan", "--format", "json").stdout)
    assert after["plan_id"] == during["plan_id"]
    assert "frozen" not in after["observations"]


def test_documents_have_the_freeze(frozen: Project) -> None:
    for command in ("status", "drift"):
        found = json.loads(call(frozen, command, "--format", "json").stdout)["frozen"]
        assert (found["by"], found["reason"]) == ("ann", f"{REASON}, until Monday")
    drift = call(frozen, "drift")
    assert drift.returncode == 0
    assert drift.stdout.startswith(LINE)
    assert LINE in call(frozen, "rollout", "list").stderr
    assert f"froze the fleet: {REASON}, until Monday" in call(frozen, "history").stdout


@pytest.mark.parametrize(
    "command",
    [
        ("apply", "--auto", "--yes"),
        ("apply", "plan.json", "--yes"),
        ("rollout", "advance", "acme-support", "--reason", "now"),
        ("rollout", "approve", "acme-support"),
    ],
)
def test_what_would_raise_a_share_is_refused(frozen: Project, command: tuple[str, ...]) -> None:
    file = frozen.root / "plan.json"
    call(frozen, "plan", "--out", str(file))
    before, entries = shares(frozen), call(frozen, "history", "--limit", "0").stdout
    arguments = [str(file) if argument == "plan.json" else argument for argument in command]
    refused = call(frozen, *arguments)
    assert refused.returncode == 5
    assert "FC6067" in refused.stderr
    assert "ann froze it at" in refused.stderr
    assert "fleetctl thaw" in refused.stderr
    assert shares(frozen) == before
    assert call(frozen, "history", "--limit", "0").stdout == entries


def test_a_round_promotes_nothing_and_heals(frozen: Project) -> None:
    frozen.kill_servers()
    before = shares(frozen)
    done = call(frozen, "reconcile", "--once")
    assert "Heals server/" in done.stderr
    assert call(frozen, "drift").returncode == 0
    done = call(frozen, "reconcile", "--once")
    assert done.returncode == 5
    assert "FC6067" in done.stderr
    assert "now stay: acme-support" in " ".join(done.stderr.split())
    assert shares(frozen) == before


def test_a_second_freeze_names_the_first_and_one_thaw_ends_it(frozen: Project) -> None:
    again = call(frozen, "freeze", "--reason", "other", actor="bob")
    assert again.returncode == 1
    assert "FC6068" in again.stderr
    assert f"ann froze it at {again.stderr.partition('froze it at ')[2][:16]}" in again.stderr
    thawed = call(frozen, "thaw", "--reason", "over")
    assert (thawed.returncode, REASON in thawed.stdout) == (0, True)
    nothing = call(frozen, "thaw")
    assert (nothing.returncode, "not frozen; nothing was written" in nothing.stderr) == (0, True)
    assert json.loads(call(frozen, "thaw", "--format", "json").stdout) == {"thawed": None}


def test_an_empty_reason_is_wrong_usage(project: Project) -> None:
    assert call(project, "freeze", "--reason", " \n").returncode == 64
    assert call(project, "freeze").returncode == 64


def test_a_fleet_without_ledger_and_declarations_can_be_frozen(tmp_path: Path) -> None:
    empty = Project(tmp_path, ())
    assert call(empty, "freeze", "--reason", "early", "--format", "json").returncode == 0
    assert "froze the fleet: early" in call(empty, "history").stdout


def test_a_rollback_works_and_then_the_fleet_goes_on(frozen: Project) -> None:
    back = call(frozen, "rollback", "acme-support", "--reason", "wrong")
    assert back.returncode == 0, back.stderr
    assert shares(frozen)["2.1.0"] == 100
    assert call(frozen, "release", "acme-support").returncode == 0
    assert call(frozen, "apply", "--auto", "--yes").returncode == 5
    assert call(frozen, "thaw").returncode == 0
    assert call(frozen, "apply", "--auto", "--yes").returncode == 0
