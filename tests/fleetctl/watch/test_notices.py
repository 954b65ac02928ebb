"""What client and operators are told without having asked, once, and each only what is theirs."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from fleet.history import event_of
from fleetctl.wiring import open_workspace
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.fleetctl.webhook import Webhook, webhook

OLD, NEW = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0"
GATES = "\ngates:\n  answers: {metric: accuracy_drop, max: 1pp}\n"


@pytest.fixture(scope="module")
def hook() -> Iterator[Webhook]:
    with webhook() as made:
        yield made


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, hook: Webhook) -> Iterator[Project]:
    """The quickstart fleet with one offline gate, and both readers told of everything."""
    made = Project.copy(tmp_path_factory.mktemp("fleet") / "project", None)
    fleet, acme = made.root / "fleet.yaml", made.root / "clients/acme.yaml"
    text = fleet.read_text(encoding="utf-8")
    before = "careful: {weights: [10%, 50%, 100%], bake: 24h, retain: 7d, gates: []}"
    assert before in text
    text = text.replace(before, before.replace("gates: []", "gates: [answers]"))
    text += f"{GATES}notify: {{webhook: {hook.url}/ops}}\n"
    fleet.write_text(text, encoding="utf-8")
    events = "[gate_failed, undecided, drifted, drill_failed, retraining_overdue]"
    told = f"    notify: {{webhook: {hook.url}/acme, events: {events}}}\n    keys:"
    shown = acme.read_text(encoding="utf-8").replace("    keys:", told)
    acme.write_text(shown, encoding="utf-8")
    golden(made, 2)
    assert call(made, "gateway", "start").returncode == 0
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    acme.write_text(shown.replace('"2.1.0"', '"2.2.0"'), encoding="utf-8")
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    yield made
    made.clean_up()


def golden(project: Project, count: int, expected: str = ".+") -> None:
    lines: list[dict[str, Any]] = [{"defaults": {"metric": {"regex": {}}}}]
    lines += [{"id": f"q{n}", "input": f"question {n}", "expected": expected} for n in range(count)]
    made = "".join(json.dumps(each) + "\n" for each in lines)
    (project.root / "golden/support.jsonl").write_text(made, encoding="utf-8")


def told(hook: Webhook) -> dict[str, dict[str, Any]]:
    """Return what each reader was told since the last call, by path; at most one each."""
    found = hook.documents[:]
    hook.documents.clear()
    assert len({path for path, _ in found}) == len(found), found
    return dict(found)


def test_a_rollout_that_waits_for_people_is_told_once(project: Project, hook: Webhook) -> None:
    done = call(project, "reconcile", "--once")  # two questions prove nothing
    assert done.returncode == 0, done.stderr
    call(project, "reconcile", "--once")
    seen = told(hook)
    assert {each["event"] for each in seen.values()} == {"undecided"}
    assert seen["/ops"]["text"].startswith(f"NEEDS YOU: {NEW} waits at 0 %")
    assert f"fleetctl {shlex.join(project.given)} rollout" in seen["/ops"]["text"]
    assert {*seen["/acme"]} == {"event", "text", "alias", "version", "percent", "at"}
    assert "gate" not in seen["/acme"]["text"]


def test_a_version_that_an_offline_gate_stops_is_told_once(project: Project, hook: Webhook) -> None:
    run = json.loads(call(project, "eval", "list", "--format", "json").stdout)[0]["run"]
    answers = (project.root / ".fleetctl/evals" / f"{run}.jsonl").read_text(encoding="utf-8")
    (first, *_) = (json.loads(each) for each in answers.splitlines()[1:])
    golden(
        project, 40, first["answer"].split()[0] + ".*"
    )  # which depends on the version's bytes alone
    done = call(project, "reconcile", "--once")
    assert done.returncode == 3, done.stderr
    call(project, "reconcile", "--once")
    seen = told(hook)
    assert {each["event"] for each in seen.values()} == {"gate_failed"}
    assert f"{NEW} failed answers and gets no traffic" in seen["/ops"]["text"]
    assert "answered none of your requests" in seen["/acme"]["text"]
    assert {*seen["/acme"]} == {"event", "text", "alias", "version", "stable", "at"}


def test_a_ledger_that_cannot_be_read_is_told_to_operators_once(
    project: Project, hook: Webhook
) -> None:
    path, evals = project.root / ".fleetctl/ledger.jsonl", project.root / ".fleetctl/evals"
    runs = {*evals.iterdir()}
    for _ in range(2):  # twice away
        aside = path.rename(path.with_suffix(".aside"))
        path.mkdir()
        for _ in range(2):
            done = call(project, "reconcile", "--once")
            assert (done.returncode, "no golden set is asked" in done.stderr) == (1, True)
        asked = call(project, "eval", "run", "acme-support")
        assert (asked.returncode, "does not answer" in asked.stderr) == (1, True), asked.stderr
        assert {*evals.iterdir()} == runs, "nobody is asked in vain"
        path.rmdir()
        aside.rename(path)
        seen = told(hook)
        assert {*seen} == {"/ops"}
        assert seen["/ops"]["text"].startswith("NEEDS YOU: the ledger of quickstart cannot be")
        assert call(project, "reconcile", "--once").returncode == 0
    assert hook.documents == []
    said = call(project, "history", "--limit", "5").stdout
    assert said.count("operators told: the fleet, ledger away") == 2


def test_a_drill_that_fails_is_told(project: Project, hook: Webhook) -> None:
    server = json.loads(call(project, "status", "--format", "json").stdout)["servers"][0]["server"]
    assert call(project, "server", "stop", server).returncode == 0
    done = call(project, "rollback", "acme-support", "--to", "2.2.0", "--drill")
    assert done.returncode == 1, done.stdout + done.stderr
    seen = told(hook)
    assert "would not have succeeded" in seen["/ops"]["text"]
    assert seen["/acme"]["text"].endswith("Your traffic was not touched.")
    done = call(project, "reconcile", "--once")
    assert done.returncode == 0, done.stderr
    hook.documents.clear()


def test_drift_and_an_overdue_retraining_are_told_and_again_only_if_undelivered(
    project: Project, hook: Webhook
) -> None:
    workspace = open_workspace(project.root, "fake", {}, project.root / ".fleetctl")

    def evaluated(purpose: str, good: int, digest: str) -> dict[str, Any]:
        levels = {"accuracy": {"good": good, "n": 1000}}
        told_of = {"valid": True, "golden_digest": digest, "levels": levels}
        return {
            "run": digest, "alias": "acme-triage", "adapter": "acme-triage-tiny-v1.0.0",
            "purpose": purpose, "summary": told_of, "samples_sha256": "", "path": "",
        }  # fmt: skip

    entries = [evaluated("anchor", 900, "g0")]
    entries += [evaluated("rolling", 700, f"g{week}") for week in range(1, 5)]
    workspace.ledger.open().append([event_of("eval_finished", record) for record in entries])
    hook.status = 503
    done = call(project, "reconcile", "--once")
    assert done.stderr.count("was not delivered: refused with status 503") == 2
    seen = told(hook)
    ops, client = seen["/ops"], seen["/acme"]
    assert ops["text"].startswith("NEEDS RETRAINING: acme-triage-tiny-v1.0.0, accuracy (rolling)")
    assert "retrain claim acme-triage" in ops["text"]
    assert client["text"].startswith("The scheduled evaluation of acme-triage (1.0.0)")
    hook.status = 200
    call(project, "reconcile", "--once")
    assert hook.documents == [], "tried again an hour later at the earliest"
    fleet = project.root / "fleet.yaml"
    text = fleet.read_text(encoding="utf-8")
    fleet.write_text(text.replace("retrain_every: 30d", "retrain_every: 1s"), encoding="utf-8")
    assert fleet.read_text(encoding="utf-8") != text
    call(project, "reconcile", "--once")
    about = {(path, each["event"], each["alias"]) for path, each in hook.documents}
    assert ("/ops", "retraining_overdue", "acme-support") in about
    assert ("/acme", "retraining_overdue", "acme-support") in about
    assert {event for _, event, _ in about} == {"retraining_overdue"}
