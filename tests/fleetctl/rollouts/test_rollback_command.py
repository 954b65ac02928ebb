"""rollback, its notices and its drills, on the fake server."""

import asyncio
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleet.codec import plain
from fleet.errors import ConfigError
from fleet.history import event_of
from fleet.steps import SetRoute
from fleetctl.cli import main_group
from fleetctl.wiring import open_workspace
from runtime.gateway.admin.state_dir import read_table
from runtime.gateway.control.control import LocalGateways
from runtime.project.load import load_project
from runtime.rollback.publish import flipped
from tests.fleet.planning.builders import route
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.fleetctl.webhook import Webhook, webhook

NEW, OLD = "acme-support-tiny-v2.2.0", "acme-support-tiny-v2.1.0"


@pytest.fixture(scope="module")
def hook() -> Iterator[Webhook]:
    with webhook() as made:
        yield made


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, hook: Webhook) -> Iterator[Project]:
    """The quickstart fleet with notices declared and a canary of acme-support at 10 %."""
    made = Project.copy(tmp_path_factory.mktemp("fleet") / "project", None)
    fleet, acme = made.root / "fleet.yaml", made.root / "clients" / "acme.yaml"
    (made.root / "hook").write_text(f"{hook.url}/secret-path?token=T0K3N\n", encoding="utf-8")
    (made.root / "note.j2").write_text("{{ it.alias }}: zurück auf {{ it.to }}", encoding="utf-8")
    with fleet.open("a", encoding="utf-8") as stream:
        stream.write("\nnotify: {webhook: file:hook}\n")
    text = acme.read_text(encoding="utf-8")
    text = text.replace(
        "    keys:", f"    notify: {{webhook: {hook.url}/acme, template: note.j2}}\n    keys:"
    )
    acme.write_text(text, encoding="utf-8")
    assert call(made, "gateway", "start").returncode == 0
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    acme.write_text(text.replace('"2.1.0"', '"2.2.0"'), encoding="utf-8")
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    yield made
    made.clean_up()


@pytest.fixture
def canary(project: Project, hook: Webhook) -> None:
    call(project, "rollback", "acme-support", "--to", "2.2.0", "--forward", "--reason", "again")
    call(project, "release", "acme-support")
    hook.documents.clear()
    hook.status = 200


def kinds(project: Project) -> list[str]:
    lines = (project.root / ".fleetctl/ledger.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["kind"] for line in lines]


@pytest.mark.usefixtures("canary")
def test_client_and_operators_are_told_and_each_only_what_is_theirs(
    project: Project, hook: Webhook
) -> None:
    done = call(project, "rollback", "acme-support", "--reason", "wrong refunds")
    assert (done.returncode, done.stderr) == (0, "")
    assert "acme-support back on 2.1.0 in" in done.stdout
    told = dict(hook.documents)
    operators, client = told["/secret-path?token=T0K3N"], told["/acme"]
    assert "acme-support is back on 2.1.0 (was 2.2.0)" in operators["text"]
    assert "wrong refunds" in operators["text"]
    assert "smoke test passed after" in operators["text"]
    assert operators["smoke"]["passed"] == 5
    assert client["text"] == "acme-support: zurück auf 2.1.0"
    assert "wrong refunds" not in json.dumps(client)
    assert {*client} == {"event", "text", "alias", "decided", "seconds", "from", "to", "complete"}
    assert kinds(project)[-3:] == ["rollback_checked", "notified", "notified"]
    ledger = (project.root / ".fleetctl/ledger.jsonl").read_text(encoding="utf-8")
    assert "T0K3N" not in ledger


@pytest.mark.usefixtures("canary")
def test_a_notice_that_cannot_be_delivered_stops_nothing(project: Project, hook: Webhook) -> None:
    hook.status = 503
    done = call(project, "rollback", "acme-support")
    assert done.returncode == 0
    assert done.stderr.count("was not delivered: refused with status 503") == 2
    assert "T0K3N" not in done.stderr
    status = call(project, "status", "--client", "acme").stdout
    assert "2.1.0 100 %" in status


@pytest.mark.usefixtures("canary")
def test_a_rollback_needs_no_planner_no_library_no_evaluations_and_no_ledger(
    project: Project, hook: Webhook
) -> None:
    fleet, ledger = project.root / "fleet.yaml", project.root / ".fleetctl" / "ledger.jsonl"
    text, content = fleet.read_text(encoding="utf-8"), ledger.read_bytes()
    library, evals = project.root / "models", project.root / ".fleetctl/evals"
    fleet.write_text("fleet: [broken", encoding="utf-8")
    library.rename(project.root / "away")
    evals.write_text("no folder", encoding="utf-8")
    ledger.unlink()
    ledger.mkdir()
    try:
        done = call(project, "rollback", "acme-support", "--format", "json")
        unplanned = call(project, "plan").returncode
    finally:
        (project.root / "away").rename(library)
        evals.unlink()
        ledger.rmdir()
        ledger.write_bytes(content)
        fleet.write_text(text, encoding="utf-8")
    assert unplanned == 1
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["target"], result["complete"]) == (OLD, True)
    assert result["seconds"] < result["smoke_ok_s"]
    assert "could not be recorded" in done.stderr
    assert "no notice was sent" in done.stderr
    assert hook.documents == []
    # What could not be written is there for the next that plans.
    assert "held: 2.2.0" in call(project, "status", "--client", "acme").stdout
    assert kinds(project)[-2:] == ["rolled_back", "rollback_checked"]
    for _ in range(2):  # and who was to be told is told once the declarations say so
        assert call(project, "reconcile", "--once").returncode == 0
        back = [(path, sent) for path, sent in hook.documents if sent["event"] == "rolled_back"]
        assert sorted(path for path, _ in back) == ["/acme", "/secret-path?token=T0K3N"]
    assert "acme-support is back on 2.1.0" in dict(back)["/secret-path?token=T0K3N"]["text"]


@pytest.mark.usefixtures("canary")
@pytest.mark.parametrize("way", ["locked", "no end of reading"])
def test_a_ledger_that_hangs_keeps_no_rollback_and_is_written_later(
    project: Project, hook: Webhook, way: str
) -> None:
    state = project.root / ".fleetctl"
    ledger, aside = state / "ledger.jsonl", state / "aside.jsonl"
    lock = os.open(state / "ledger.lock", os.O_RDWR | os.O_CREAT)
    if way == "locked":
        fcntl.flock(lock, fcntl.LOCK_EX)
    else:  # whoever opens a pipe for reading waits for a writer
        ledger.rename(aside)
        os.mkfifo(ledger)
    try:
        done = project.run("rollback", "acme-support", "--reason", "wrong refunds")
        drilled = project.run("rollback", "acme-support", "--to", "2.1.0", "--drill")
    finally:
        os.close(lock)
        if aside.exists():
            ledger.unlink()
            aside.rename(ledger)
    assert done.returncode == drilled.returncode == 0, done.stderr + drilled.stderr
    assert "acme-support back on 2.1.0 in" in done.stdout
    assert done.stderr.count("no answer within 1 s; it is queued and will be written") == 2
    assert "no lease" in drilled.stderr
    assert len(hook.documents) == 2
    shown = call(project, "history", "--format", "json").stdout
    assert "wrong refunds" in shown
    written = ["rolled_back", "rollback_checked", "notified", "notified", "drilled"]
    assert kinds(project)[-5:] == written
    assert call(project, "plan", "--detailed-exitcode").returncode == 0, "the version stays held"


@pytest.mark.usefixtures("canary")
def test_a_drill_of_every_alias_moves_nobody(project: Project, hook: Webhook) -> None:
    before = call(project, "status", "--format", "json").stdout
    done = call(project, "rollback", "--drill", "--all", "--format", "json")
    assert done.returncode == 0, done.stderr
    (result,) = map(json.loads, done.stdout.splitlines())
    assert (result["target"], result["live"], result["acknowledged"]) == (OLD, False, ["main"])
    assert "No version to go back to, so not drilled: acme-triage, birch-units" in done.stderr
    after = json.loads(call(project, "status", "--format", "json").stdout)
    assert after["aliases"] == json.loads(before)["aliases"]
    assert hook.documents == []
    assert call(project, "drift").returncode == 0
    again = call(project, "rollback", "--drill", "--due", "30d")
    assert (again.returncode, again.stdout) == (0, "")
    assert "No drill is due." in again.stderr


def test_a_live_drill_is_recorded_and_leaves_the_route_as_it_was(project: Project) -> None:
    done = call(project, "rollback", "acme-support", "--drill", "--live")
    assert done.returncode == 0, done.stderr
    assert "and back)" in done.stdout
    assert kinds(project)[-2:] == ["drill_started", "drilled"]
    assert "2.2.0 100 %" in call(project, "status", "--client", "acme").stdout


def test_a_live_drill_that_was_killed_is_undone_by_the_next_reconcile(project: Project) -> None:
    workspace = open_workspace(project.root, "fake", {}, project.root / ".fleetctl")
    table = read_table(workspace.state_dir)
    assert table is not None
    shares = table.aliases["acme-support"].shares
    (old,) = (each for each in shares if each.adapter == OLD)
    begun = {"alias": "acme-support", "target": OLD}
    plain = [each.model_dump(mode="json") for each in shares]
    workspace.ledger.open().append([event_of("drill_started", {**begun, "shares": plain})])

    async def flip_and_die() -> None:
        gateways = LocalGateways(workspace.state_dir)
        await gateways.publish(flipped(table, "acme-support", old))
        await gateways.close()

    asyncio.run(flip_and_die())
    assert call(project, "drift").returncode == 2
    done = call(project, "reconcile", "--once")
    assert done.returncode == 0, done.stderr
    assert "Undoes a live drill of acme-support that was killed." in done.stderr
    assert "2.2.0 100 %" in call(project, "status", "--client", "acme").stdout
    assert call(project, "drift").returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--all",),
        ("acme-support", "--live"),
        ("acme-support", "--drill", "--all"),
        ("--drill", "--due", "soon"),
    ],
)
def test_wrong_usage_does_nothing(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main_group, ["-C", str(tmp_path), "rollback", *arguments])
    assert isinstance(done.exception, SystemExit)
    assert done.exit_code == 2  # click's own; the entry point turns it into 64
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["ftp://x", "3"])
def test_a_webhook_is_a_url_or_says_where_it_is_kept(tmp_path: Path, value: str) -> None:
    text = f"fleet: x\nclients: {{acme: {{notify: {{webhook: {value}}}}}}}\n"
    (tmp_path / "fleet.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="not the URL of a webhook"):
        load_project(tmp_path, None, {})


@pytest.mark.usefixtures("canary")
def test_one_that_gates_could_not_judge_in_time_is_released_by_its_version(
    project: Project,
) -> None:
    ledger = open_workspace(project.root, "fake", {}, project.root / ".fleetctl").ledger.open()
    for percent in (10, 0):  # what an apply writes down that gives a version up
        made = route("acme-support", (NEW, percent, "a"), (OLD, 100 - percent, "a"))
        step = {"step": f"set {made.address}", "address": made.address, "how": "adopted"}
        ledger.append([event_of("step_finished", {**step, "operation": plain(SetRoute(made))})])
    release = ("release", "acme-support", "--format", "json", "--version")
    assert "2.1.0 of `acme-support` is not held; held are 2.2.0." in (
        call(project, *release, "2.1.0").stderr
    )
    done = call(project, *release, "2.2.0")
    assert (done.returncode, json.loads(done.stdout)["released"]) == (0, [NEW])
    assert "held are none." in call(project, *release, "2.2.0").stderr
