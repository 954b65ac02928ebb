"""What a rollout is given that cannot be judged: an error with its place and remedy, never PASS."""

import json
import re
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runtime.workspace import Workspace
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import Project
from tests.runtime.evals.scripted import peer

NEW = "acme-support-tiny-v2.2.0"
SET = "golden/support.jsonl"
GATES = "\ngates: {answers: {metric: accuracy_drop, max: 8pp}}\n"
ITEMS = [{"id": f"q{n}", "input": f"question {n}", "expected": ".+"} for n in range(40)]
REGEX: dict[str, Any] = {"defaults": {"metric": {"regex": {}}}}
JUDGED = [{"id": "q", "input": "x", "metric": "judge"}]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A fleet of which acme-support 2.2.0 is loaded, at 0 %, and waits for its golden set."""
    made = Project.copy(tmp_path_factory.mktemp("fleet") / "project", None)
    before = "careful: {weights: [10%, 50%, 100%], bake: 24h, retain: 7d, gates: []}"
    edit(made, "fleet.yaml", before, "careful: {bake: 1s, gates: [answers]}" + GATES)
    assert call(made, "gateway", "start").returncode == 0
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    yield made
    made.clean_up()


def edit(project: Project, file: str, old: str, new: str) -> None:
    path = project.root / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def ask(project: Project, *items: dict[str, Any]) -> None:
    text = "".join(json.dumps(each) + "\n" for each in items)
    (project.root / SET).write_text(text, encoding="utf-8")


def judged(project: Project) -> dict[str, Any]:
    call(project, "reconcile", "--once")
    found = json.loads(
        call(project, "rollout", "status", "acme-support", "--format", "json").stdout
    )
    (gate,) = found["gates"]
    assert found["percent"] == 0
    return dict(gate)


def test_a_version_that_is_not_loaded_is_neither_advanced_nor_approved_nor_asked(
    project: Project,
) -> None:
    edit(project, "clients/acme.yaml", 'version: "2.1.0"', 'version: "2.2.0"')
    for word in ("advance", "approve"):
        done = call(project, "rollout", word, "acme-support", "--reason", "trust me")
        assert done.returncode == 1
        assert "No server holds 2.2.0 of `acme-support`" in done.stderr
        assert "FC5152" in done.stderr
        assert "    fleetctl apply" in done.stderr
    assert "FC4507" in call(project, "eval", "run", "acme-support", "--version", "2.2.0").stderr
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    assert "FC5137" in call(project, "rollout", "extend", "acme-support").stderr  # is at 0 %


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([], f"{SET}:1:1: No golden items [FC1301]: The file holds no item to ask"),
        (
            [REGEX, *ITEMS, ITEMS[0]],
            f"{SET}:42:1: Golden item given twice [FC1304]: `q0` is the id",
        ),
        (
            [REGEX, *ITEMS, ITEMS[0] | {"id": "z"}],
            f"{SET}:42:1: Golden item given twice [FC1304]: `z`",
        ),
        ([{"id": "a"}, {"id": "b"}, {"id": "c"}, {"id": "d"}], "; and 1 more: fleetctl validate"),
        (JUDGED, "a judge scores its answers, and no judge is declared (evals: {judge: {url:"),
    ],
)
def test_a_golden_set_that_cannot_be_asked_is_told_with_its_line(
    project: Project, items: list[dict[str, Any]], says: str
) -> None:
    ask(project, *items)
    gate = judged(project)
    assert gate["status"] == "INCONCLUSIVE"
    assert says in gate["reason"]
    assert call(project, "validate").returncode == 1


def test_a_judge_that_cannot_be_reached_passes_nothing(project: Project) -> None:
    ask(project, *JUDGED)
    text = (project.root / "fleet.yaml").read_text(encoding="utf-8")
    url = "http://127.0.0.1:9"
    edit(project, "fleet.yaml", GATES, f"{GATES}evals: {{judge: {{url: '{url}', model: j}}}}\n")
    assert judged(project)["status"] == "INCONCLUSIVE"
    done = call(project, "eval", "run", "acme-support")
    assert done.returncode == 1
    assert "FC4510" in done.stderr
    assert "cannot be reached" in done.stderr
    (project.root / "fleet.yaml").write_text(text, encoding="utf-8")


def test_an_adapter_that_answers_under_another_name_is_an_error(project: Project) -> None:
    ask(project, REGEX, *ITEMS)
    with peer(lambda *_: "yes") as server:
        server.answers_as = "tiny"
        done = call(project, "eval", "run", NEW, "--url", server.url, "--golden", SET)
    assert done.returncode == 1
    assert "`tiny`" in done.stderr
    assert "FC45" in done.stderr


def test_a_version_that_was_unloaded_by_others_is_loaded_again_and_then_judged(
    project: Project,
) -> None:
    ask(project, *JUDGED)
    assert judged(project)["status"] == "INCONCLUSIVE"
    unload(project)
    done = call(project, "rollout", "approve", "acme-support", "--reason", "trust me")
    assert (done.returncode, "FC5152" in done.stderr) == (1, True)
    ask(project, REGEX, *ITEMS)
    assert judged(project)["status"] == "INCONCLUSIVE"  # loaded, and not asked yet
    call(project, "reconcile", "--once")
    (gate,) = rollout(project)["gates"]
    assert gate["status"] == "PASS"


def unload(project: Project) -> None:
    port = re.search(r"port: (\d+)", (project.root / "fleet.yaml").read_text(encoding="utf-8"))
    assert port is not None
    request = urllib.request.Request(
        f"http://127.0.0.1:{port[1]}/v1/unload_lora_adapter",
        data=json.dumps({"lora_name": NEW}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert reply.status == 200


def rollout(project: Project) -> dict[str, Any]:
    done = call(project, "rollout", "status", "acme-support", "--format", "json")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_clock_that_went_backwards_moves_nothing_on(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rollout(project)["percent"]
    true = Workspace.now
    monkeypatch.setattr(Workspace, "now", lambda self: true(self) - timedelta(hours=3))
    done = call(project, "reconcile", "--once")
    told(done, "FC5108", "THE CLOCK IS BEHIND THE LEDGER", "Set the clock of this machine")
    assert rollout(project)["percent"] == before


def test_evidence_that_was_changed_is_not_believed(project: Project) -> None:
    ledger: Path = project.root / ".fleetctl/ledger.jsonl"
    whole = ledger.read_bytes()
    forged = whole.replace(b'"verdict":"INCONCLUSIVE"', b'"verdict":"PASS"', 1)
    assert forged != whole
    ledger.write_bytes(forged)
    told(call(project, "evidence", "verify"), "FC5102", "was changed after it was written")
    told(call(project, "reconcile", "--once"), "FC5102", "No rollout moves on")
    told(call(project, "plan"), "FC5102", "nothing is planned from it")
    ledger.write_bytes(whole)
    assert call(project, "evidence", "verify").returncode == 0
    ledger.write_bytes(b"".join(whole.splitlines(keepends=True)[:-3]))  # its end was cut off
    for _ in range(2):
        cut = call(project, "evidence", "verify")
        assert (cut.returncode, "lacks some of the" in cut.stdout) == (1, True)
        assert "unbroken" not in cut.stdout
    short = json.loads(call(project, "evidence", "verify", "--format", "json").stdout)
    (aside,) = map(Path, short["lacking"])
    kept = aside.rename(aside.with_suffix(".known"))  # somebody knows why
    assert call(project, "evidence", "verify").returncode == 0
    kept.rename(aside)
    ledger.write_bytes(whole)
    assert call(project, "evidence", "verify").returncode == 0


def told(done: Done, *words: str) -> None:
    assert done.returncode == 1, done.stdout
    shown = " ".join(done.stderr.split())
    assert all(each in shown for each in words), shown
