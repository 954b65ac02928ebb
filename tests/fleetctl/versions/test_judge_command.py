"""A judge is compared with people's labels before any gate goes by it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetctl.wiring import open_workspace
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import Project
from tests.runtime.evals.scripted import Peer, peer

NEW = "acme-support-tiny-v2.2.0"


def verdict(_: str, question: str, __: int) -> str:
    """Say YES to what is not called wrong; neither YES nor NO to `mumble`."""
    if "mumble" in question:
        return "Perhaps."
    return "No, it does not." if "<Answer>\nwrong" in question else "YES"


@pytest.fixture(scope="module")
def court() -> Iterator[Peer]:
    with peer(verdict) as made:
        yield made


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, court: Peer) -> Iterator[Project]:
    """The quickstart fleet with a golden set that only a judge can score, and a rollout of it."""
    made = Project.copy(tmp_path_factory.mktemp("fleet") / "project", None)
    fleet, acme = made.root / "fleet.yaml", made.root / "clients/acme.yaml"
    text = fleet.read_text(encoding="utf-8")
    gates = "careful: {weights: [10%, 50%, 100%], bake: 24h, retain: 7d, gates: []}"
    assert gates in text
    text = text.replace(gates, gates.replace("gates: []", "gates: [answers]"))
    text += f"\nevals: {{judge: {{url: '{court.url}', model: critic}}}}\n"
    text += "gates: {answers: {metric: accuracy_drop, max: 9pp}}\n"
    fleet.write_text(text, encoding="utf-8")
    items = [
        {"id": f"q{n}", "input": f"question {n}", "expected": "x", "metric": "judge"}
        for n in range(40)
    ]
    lines = "".join(json.dumps(each) + "\n" for each in items)
    (made.root / "golden/support.jsonl").write_text(lines, encoding="utf-8")
    assert call(made, "gateway", "start").returncode == 0
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    acme.write_text(acme.read_text("utf-8").replace('"2.1.0"', '"2.2.0"'), encoding="utf-8")
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    yield made
    made.clean_up()


def labels(project: Project, *said: tuple[str, str, int]) -> Path:
    """Write so many answers with a label."""
    flat = [(answer, label) for answer, label, count in said for _ in range(count)]
    path = project.root / "golden/acme.labels.jsonl"
    lines = (
        {"id": f"l{n}", "input": "q", "expected": "x", "answer": answer, "label": label}
        for n, (answer, label) in enumerate(flat)
    )
    path.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    return path


def compare(project: Project, path: Path, *more: str) -> Done:
    return call(project, "eval", "judge", str(path), "--client", "acme", *more)


def gate(project: Project) -> dict[str, Any]:
    call(project, "reconcile", "--once")
    entries = (
        open_workspace(project.root, "fake", {}, project.root / ".fleetctl").ledger.open().read()
    )
    found: dict[str, Any] = [e.document() for e in entries if e.event.kind == "gate_judged"][-1][
        "finding"
    ]
    return found


def test_no_gate_goes_by_a_judge_that_nobody_has_compared(project: Project, court: Peer) -> None:
    court.asked.clear()
    found = gate(project)
    assert found["verdict"] == "INCONCLUSIVE"
    assert "`critic` was never compared with people's labels for acme" in found["reason"]
    assert court.asked == [], "nothing is asked that decides nothing"


def test_a_judge_that_agrees_too_little_stays_advisory(project: Project) -> None:
    few = compare(project, labels(project, ("right", "yes", 10), ("wrong", "no", 10)))
    assert few.returncode == 2
    assert "20 labels, and 50 are needed" in few.stdout
    mumbled = labels(project, ("right", "yes", 25), ("mumble", "no", 25))
    done = compare(project, mumbled, "--format", "json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["unparsable"], found["kappa"]) == (2, 25, 0.0)
    assert found["differs"][0] == {"id": "l25", "label": "no", "judge": "neither"}
    assert "its kappa is 0.00 on 50 labels, and 0.6 is needed" in gate(project)["reason"]


def test_a_judge_that_agrees_decides(project: Project, court: Peer) -> None:
    good = labels(project, ("right", "yes", 30), ("wrong", "no", 27), ("wrong", "yes", 3))
    done = compare(project, good)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kappa          0.90" in done.stdout
    assert "It may decide gates of acme." in done.stdout
    court.asked.clear()
    found = gate(project)
    assert len(court.asked) == 80, "forty items of two versions"
    assert (found["verdict"], found["counts"]["items"]) == ("PASS", 40)


def test_a_judge_that_is_away_or_a_client_that_is_not_says_so(project: Project) -> None:
    path = labels(project, ("right", "yes", 1))
    done = call(project, "eval", "judge", str(path), "--client", "acne")
    assert "Did you mean `acme`?" in done.stderr
    fleet = project.root / "fleet.yaml"
    text = fleet.read_text(encoding="utf-8")
    fleet.write_text(text.replace("model: critic", "model: other, key: env:NOT_SET"), "utf-8")
    assert "FC4510" in compare(project, path).stderr
    lines = (line for line in text.splitlines() if not line.startswith("evals:"))
    fleet.write_text("\n".join(lines) + "\n", "utf-8")
    assert "FC4511" in compare(project, path).stderr
    fleet.write_text(text, encoding="utf-8")
