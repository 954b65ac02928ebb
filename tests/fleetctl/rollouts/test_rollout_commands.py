"""Rollouts by their gates on the fake server: judged, moved on, rolled back, reported, verified."""

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetctl.wiring import open_workspace
from runtime.gates.tick import judge_live, new_findings, tick_context
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

OLD, NEW = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0"
GATES = """
gates:
  answers: {metric: accuracy_drop, max: 8pp}
  errors: {metric: error_rate_rise, max: 30pp, min_requests: 5}
  form: {metric: format_drop, max: 30pp, min_requests: 5}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet with gates; acme-support has a format that only 2.1.0 keeps to."""
    made = Project.copy(tmp_path_factory.mktemp("fleet") / "project", None)
    fleet, acme = made.root / "fleet.yaml", made.root / "clients/acme.yaml"
    text = fleet.read_text(encoding="utf-8")
    pace = "careful: {weights: [50%, 100%], bake: 1s, max_bake: 1h, gates: [answers, errors, form]}"
    before = "careful: {weights: [10%, 50%, 100%], bake: 24h, retain: 7d, gates: []}"
    assert before in text
    fleet.write_text(text.replace(before, pace) + GATES, encoding="utf-8")
    lines: list[dict[str, Any]] = [{"defaults": {"metric": {"regex": {}}}}]
    lines += [{"id": f"q{n}", "input": f"question {n}", "expected": ".+"} for n in range(40)]
    golden = "".join(json.dumps(each) + "\n" for each in lines)
    (made.root / "golden/support.jsonl").write_text(golden, encoding="utf-8")
    assert call(made, "gateway", "start").returncode == 0
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    word = ask(made, "hello").split()[0]  # it depends on the version's bytes alone
    line = "        golden: golden/support"
    form = f'        format: {{regex: "{word}.*"}}\n{line}'
    acme.write_text(acme.read_text(encoding="utf-8").replace(line, form), encoding="utf-8")
    done = call(made, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    for number in range(20):  # what the old version did in the days before
        ask(made, f"question {number}", user=f"before-{number}")
    yield made
    made.clean_up()


def ask(project: Project, text: str, user: str = "u") -> str:
    text_of = (project.root / "fleet.yaml").read_text(encoding="utf-8")
    port = text_of.partition('listen: "127.0.0.1:')[2].partition('"')[0]
    key = (project.root / ".fleetctl/keys/acme-prod").read_text(encoding="utf-8").strip()
    body = {"model": "acme-support", "messages": [{"role": "user", "content": text}], "user": user}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        answer: dict[str, Any] = json.load(reply)
    return str(answer["choices"][0]["message"]["content"])


def declare(project: Project, old: str, new: str) -> None:
    path, line = project.root / "clients/acme.yaml", f'version: "{old}"'
    text = path.read_text(encoding="utf-8")
    assert line in text
    path.write_text(text.replace(line, f'version: "{new}"'), encoding="utf-8")


def shares(project: Project) -> dict[str, int]:
    document = json.loads(call(project, "status", "--client", "acme", "--format", "json").stdout)
    (support,) = (each for each in document["aliases"] if each["alias"] == "acme-support")
    return {each["version"]: each["percent"] for each in support["versions"]}


def rollout(project: Project, alias: str = "acme-support") -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(
        call(project, "rollout", "status", alias, "--format", "json").stdout
    )
    return shown


def judged_and_killed(project: Project) -> list[str]:
    """Judge and write down as a reconcile does that is killed before it rolls back."""

    async def scenario() -> list[str]:
        workspace = open_workspace(project.root, "fake", {}, project.root / ".fleetctl")
        live, known = await workspace.machines.observe_now(), workspace.ledger.last_known()
        facts = tick_context(
            workspace.project.fleet(), live, known, workspace.state_dir, workspace.now()
        )
        new = new_findings(facts, judge_live(facts))
        workspace.ledger.open().append([gate.event(gate.trial.since or facts.now) for gate in new])
        return [gate.finding.verdict for gate in new]

    return asyncio.run(scenario())


def test_a_version_passes_its_golden_set_and_is_rolled_back_for_its_format(
    project: Project, tmp_path: Path
) -> None:
    declare(project, "2.1.0", "2.2.0")
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    assert shares(project) == {"2.2.0": 0, "2.1.0": 100}
    assert rollout(project)["phase"] == "evaluating"
    began = call(project, "reconcile", "--once")
    assert began.returncode == 0, began.stderr
    assert f"PASS answers of {NEW} at 0 %" in began.stderr
    assert shares(project) == {"2.2.0": 50, "2.1.0": 50}
    for number in range(40):
        ask(project, f"question {number}", user=f"user-{number}")
    assert "FAIL" in judged_and_killed(project)
    assert judged_and_killed(project) == []  # nothing new: nothing is written twice
    assert shares(project) == {"2.2.0": 50, "2.1.0": 50}
    done = call(project, "reconcile", "--once")
    assert done.returncode == 3, done.stderr
    assert "Rolled back: acme-support back on 2.1.0 in" in done.stderr
    assert shares(project) == {"2.2.0": 0, "2.1.0": 100}
    again = call(project, "reconcile", "--once")
    assert again.returncode == 0, again.stderr
    held = rollout(project)
    assert (held["phase"], held["percent"]) == ("held", 0)
    report = tmp_path / "report.html"
    assert call(
        project,
        "rollout", "report", "acme-support", "--format", "html", "--out", str(report)
    ).returncode == 0  # fmt: skip
    text = report.read_text(encoding="utf-8")
    assert "acme-support 2.2.0: rolled back" in text
    assert "tiny-laptop" not in text


def test_every_verdict_is_listed_shown_and_follows_from_its_counts(project: Project) -> None:
    lines = call(
        project, "evidence", "list", "acme-support", "--format", "json"
    ).stdout.splitlines()
    found = {each["gate"]: each for each in map(json.loads, lines)}
    assert found["answers"]["finding"]["verdict"] == "PASS"
    assert found["form"]["finding"]["verdict"] == "FAIL"
    assert len(found["answers"]["runs"]) == 2
    one = call(project, "evidence", "show", str(found["form"]["seq"])).stdout
    assert "Gate form (format_drop): FAIL" in one
    assert call(project, "evidence", "show", "1").returncode == 1
    done = call(project, "evidence", "verify")
    assert done.returncode == 0, done.stdout
    head = found["form"]["hash"]
    assert call(project, "evidence", "verify", "--head", head).returncode == 0
    assert call(project, "evidence", "verify", "--head", "f" * 64).returncode == 1


def test_evidence_that_was_tampered_with_never_passes(project: Project) -> None:
    ledger = project.root / ".fleetctl/ledger.jsonl"
    content = ledger.read_text(encoding="utf-8")
    ledger.write_text(content.replace('"verdict":"FAIL"', '"verdict":"PASS"', 1), encoding="utf-8")
    try:
        for command in (("evidence", "verify"), ("plan",), ("reconcile", "--once")):
            done = call(project, *command)
            assert done.returncode == 1
            assert "The ledger was tampered with" in done.stderr
    finally:
        ledger.write_text(content, encoding="utf-8")
    (run, *_) = (project.root / ".fleetctl/evals").glob("*.jsonl")
    answers = run.read_bytes()
    run.write_bytes(answers.replace(b"question", b"QUESTION", 1) + b"\n")
    try:
        done = call(project, "evidence", "verify")
        assert done.returncode == 1
        assert "was changed after it was written" in done.stdout
    finally:
        run.write_bytes(answers)


def test_a_person_holds_sends_on_and_aborts_a_released_version(project: Project) -> None:
    assert call(project, "release", "acme-support").returncode == 0
    assert call(project, "rollout", "hold", "acme-support", "--reason", "wait").returncode == 0
    paused = rollout(project)
    assert (paused["phase"], paused["marks"][0]["reason"]) == ("paused", "wait")
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    assert shares(project) == {"2.2.0": 0, "2.1.0": 100}
    assert call(project, "rollout", "resume", "acme-support").returncode == 0
    later = call(project, "rollout", "pause", "acme-support", "--for", "4h", "--format", "json")
    until = json.loads(later.stdout)["until"]
    assert rollout(project)["paused_until"] == until[:19] + "+00:00"
    assert "paused by" in call(project, "rollout", "list").stdout
    assert call(project, "reconcile", "--once").returncode == 0
    assert shares(project) == {"2.2.0": 0, "2.1.0": 100}
    blocked = call(project, "rollout", "approve", "acme-support")
    assert "Not while it stands still: acme-support: 2.2.0 waits at 0 %: paused" in blocked.stderr
    assert call(project, "rollout", "resume", "acme-support").returncode == 0
    assert rollout(project)["paused_until"] is None
    assert call(project, "reconcile", "--once").returncode == 0
    assert shares(project) == {"2.2.0": 50, "2.1.0": 50}
    declare(project, "2.2.0", "2.1.0")  # somebody asks for another one, and it is not the issue
    done = call(project, "rollout", "abort", "acme-support", "--reason", "client asked")
    declare(project, "2.1.0", "2.2.0")
    assert (done.returncode, "2.2.0 gets no more traffic" in done.stderr) == (0, True), done.stderr
    assert shares(project) == {"2.2.0": 0, "2.1.0": 100}
    assert call(project, "reconcile", "--once").returncode == 0
    assert shares(project) == {"2.2.0": 0, "2.1.0": 100}
    assert "client asked" in call(project, "rollout", "list").stdout
    for word in (("hold",), ("pause", "--for", "1h"), ("resume",), ("approve",), ("advance",)):
        refused = call(project, "rollout", *word, "acme-support", "--reason", "on with it")
        assert refused.returncode == 1
        assert "client asked" in refused.stderr
        assert "fleetctl release acme-support" in refused.stderr


def test_the_same_bytes_under_another_version_are_kept_out_and_released_with_it(
    project: Project,
) -> None:
    bytes_of = str(project.root / "models/adapters/acme/support-v2.2.0")
    again = NEW.replace("2.2.0", "2.2.9")
    assert call(project, "adapter", "add", bytes_of, "--as", again).returncode == 0
    declare(project, "2.2.0", declared := f'2.2.9"\n        same_as: "{NEW}')
    why = "2.2.9 has the bytes of 2.2.0, which was aborted by me at"
    assert why in " ".join(call(project, "plan").stdout.split())
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    assert shares(project) == {"2.2.0": 0, "2.1.0": 100}
    refused = call(project, "rollout", "hold", "acme-support")
    assert (refused.returncode, why in refused.stderr) == (1, True)
    wrong = call(project, "release", "acme-support", "--version", "2.1.0")
    assert "2.1.0 of `acme-support` is not held; held are 2.2.0." in wrong.stderr
    done = call(project, "release", "acme-support", "--version", "2.2.9", "--format", "json")
    assert json.loads(done.stdout)["released"] == [NEW, again]
    assert "acme-support: 2.2.0, 2.2.9 released" in done.stderr
    assert "2.2.9 has the bytes" not in call(project, "plan").stdout
    declare(project, declared, "2.2.0")


def test_a_version_that_fails_in_its_soak_is_rolled_back_by_itself(project: Project) -> None:
    path = project.root / "fleet.yaml"
    text = path.read_text(encoding="utf-8")
    assert "weights: [50%, 100%]" in text
    path.write_text(text.replace("weights: [50%, 100%]", "weights: [100%]"), encoding="utf-8")
    assert call(project, "release", "acme-support").returncode == 0
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    assert shares(project) == {"2.2.0": 100, "2.1.0": 0}
    assert rollout(project)["phase"] == "soaking"
    refused = call(project, "rollout", "hold", "acme-support")
    assert "there is no stage to hold" in refused.stderr
    assert "fleetctl rollback acme-support" in refused.stderr
    ended = call(project, "rollout", "abort", "acme-support", "--reason", "the client said no")
    assert ended.returncode == 0, ended.stderr
    assert (shares(project), "back on 2.1.0" in ended.stdout) == ({"2.2.0": 0, "2.1.0": 100}, True)
    assert call(project, "reconcile", "--once").returncode == 0
    assert (shares(project), rollout(project)["phase"]) == ({"2.2.0": 0, "2.1.0": 100}, "held")
    assert call(project, "release", "acme-support").returncode == 0
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    for number in range(20):
        ask(project, f"question {number}", user=f"after-{number}")
    done = call(project, "reconcile", "--once")
    assert done.returncode == 3, done.stderr
    assert f"FAIL form of {NEW} at 100 %: 20 of 20 over the limit" in done.stderr
    assert "the old version had 0 of 38 before the rollout" in done.stderr
    assert "Rolled back: acme-support back on 2.1.0 in" in done.stderr
    assert shares(project) == {"2.2.0": 0, "2.1.0": 100}
    assert call(project, "evidence", "verify").returncode == 0


def test_rejected_bytes_that_are_declared_again_wait_for_a_person(project: Project) -> None:
    acme = project.root / "clients/acme.yaml"
    text = acme.read_text("utf-8")
    acme.write_text(text[: text.index("      support:")] + text[text.index("      triage:") :])
    plan = json.loads(call(project, "plan", "--format", "json").stdout)["plan_id"]
    for command in (("approve", plan, "--reason", "recorded"), ("apply", "--auto", "--yes")):
        assert call(project, *command).returncode == 0
    acme.write_text(text, encoding="utf-8")
    for words in ("plan", "apply --auto --yes", "reconcile --once"):
        done = call(project, *words.split())
        assert done.returncode == 0, done.stderr
    said = " ".join(call(project, "plan").stdout.split())
    assert "acme-support: NOT SERVED, for no other version is there: 2.2.0 was rolled b" in said
    assert "rejected by evidence #" in said
    assert "declare 2.1.0 (it is in the lock), or let 2.2.0 begin: fleetctl release acme" in said
    assert rollout(project)["shares"] == {}
    assert call(project, "release", "acme-support").returncode == 0
    assert call(project, "apply", "--auto", "--yes").returncode == 0  # its golden set had passed
    assert shares(project) == {"2.2.0": 100}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("rollout", "status", "acme-suport"), "Did you mean `acme-support`"),
        (("rollout", "approve", "birch-units"), "The rollout is complete"),
        (("rollout", "pause", "acme-support", "--until", "2020-01-01T08:00"), "over already"),
        (("rollout", "pause", "acme-support", "--for", "0s"), "over already"),
        (("rollout", "report", "birch-units"), "Nothing to report"),
    ],
)
def test_what_makes_no_sense_is_refused(
    project: Project, command: tuple[str, ...], said: str
) -> None:
    done = call(project, *command)
    assert done.returncode == 1
    assert said in done.stderr
