"""Four eval engines on a real vLLM agree; a version is trained, added, rolled out and evaluated."""

import json
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import QUICKSTART, Project

pytestmark = [pytest.mark.live, pytest.mark.long]
NAME = "corvid-dates-tiny-v0.9.0"
ITEMS, TRIAGE = 20, 60
SCRIPT = """\
import json, sys, urllib.request
url, model, golden = sys.argv[1:]
for line in open(golden, encoding="utf-8"):
    item = json.loads(line)
    body = {"model": model, "temperature": 0, "max_tokens": 64,
            "messages": [{"role": "user", "content": item["input"]}]}
    request = urllib.request.Request(url + "/v1/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    said = json.load(urllib.request.urlopen(request))
    choice = said["choices"][0]
    print(json.dumps({"item": item["id"], "answer": choice["message"]["content"],
                      "finish": choice["finish_reason"], "model": said["model"],
                      "fingerprint": said["system_fingerprint"]}))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, vllm_python: Path) -> Iterator[Project]:
    """The quickstart fleet on vLLM with an undertrained version, some of the questions, and
    the example's own training script as the hook."""
    made = Project.copy(tmp_path_factory.mktemp("fleet") / "project", vllm_python)
    shutil.copytree(QUICKSTART / "training", made.root / "training")
    dates = made.root / "clients" / "corvid.yaml"
    text = dates.read_text("utf-8")
    dates.write_text(text.replace('version: "1.0.0"', 'version: "0.9.0"'), encoding="utf-8")
    for name, most in (("dates", ITEMS), ("triage", TRIAGE)):
        golden = made.root / "golden" / f"{name}.jsonl"
        golden.write_bytes(b"".join(golden.read_bytes().splitlines(keepends=True)[:most]))
    (made.root / "ask.py").write_text(SCRIPT, encoding="utf-8")
    ask = [sys.executable, "ask.py", "{url}", "{model}", "{golden}"]
    train = [
        str(vllm_python), "training/retrain.py", "{alias}", "{version}", "--out", "{folder}",
        "--steps", "150", "--threads", "1",
    ]  # fmt: skip
    fleet = made.root / "fleet.yaml"
    text = fleet.read_text("utf-8")
    lines = [each for each in text.splitlines(keepends=True) if "  retrain: [" not in each]
    text = "".join(lines).replace("defaults:\n", f"defaults:\n  retrain: {json.dumps(train)}\n")
    text = text.replace("bake: 24h, retain: 7d, gates: []", "bake: 1s, gates: [answers]")
    text += "gates: {answers: {metric: accuracy_drop, max: 5pp}}\n"
    fleet.write_text(f"{text}evals: {{command: {json.dumps(ask)}}}\n", encoding="utf-8")
    done = call(made, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    yield made
    made.clean_up()


def evaluated(project: Project, *arguments: str) -> dict[str, Any]:
    done = call(project, "eval", "run", *arguments, "--purpose", "smoke", "--format", "json")
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)["evaluations"]
    assert found["adapter"] == NAME
    summary: dict[str, Any] = found["summary"]
    assert (summary["valid"], summary["n"], summary["scored"]) == (True, ITEMS, ITEMS)
    assert summary["fingerprint"]
    run = json.loads(
        call(project, "eval", "show", found["run"], "--wrong", "0", "--format", "json").stdout
    )
    return {each["item"]: each["answer"] for each in run["wrong"]} | {"version": run["engine"]}


@pytest.fixture(scope="module")
def native(project: Project) -> dict[str, Any]:
    """What our own engine finds wrong; the version is undertrained, so something is."""
    found = evaluated(project, "corvid-dates")
    assert 3 < len(found) < ITEMS
    return found


@pytest.mark.parametrize(
    ("engine", "version"),
    [
        pytest.param("inspect", "inspect-ai 0.3.", marks=pytest.mark.needs("inspect")),
        pytest.param("lm_eval", "lm-eval 0.4.", marks=pytest.mark.needs("lmeval")),
        ("command", "command python"),
    ],
)
def test_every_engine_finds_the_same_answers_wrong(
    engine: str, version: str, project: Project, native: dict[str, Any]
) -> None:
    found = evaluated(project, "corvid-dates", "--engine", engine)
    assert found.pop("version").startswith(version)
    assert found == {item: said for item, said in native.items() if item != "version"}


def test_a_version_goes_from_training_to_traffic_by_commands_alone(project: Project) -> None:
    done = call(project, "retrain", "run", "acme-triage", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["adapter"] == "acme-triage-tiny-v1.0.1"
    folder = project.root / "models" / "adapters" / "acme" / "triage-v1.0.1"
    assert json.loads((folder / "training.json").read_text("utf-8"))["steps"] == 150
    applied = call(project, "apply", "--auto", "--yes")
    assert applied.returncode == 0, applied.stderr
    seen = []
    for _ in range(40):
        done = call(project, "reconcile", "--once")
        assert done.returncode == 0, done.stderr
        status = json.loads(call(project, "status", "--format", "json").stdout)
        [route] = [each for each in status["aliases"] if each["alias"] == "acme-triage"]
        seen.append({each["version"]: each["percent"] for each in route["versions"]}["1.0.1"])
        if seen[-1] == 100:
            break
    assert seen == sorted(seen)
    assert seen[-1] == 100
    assert {10, 50} <= {*seen}
    done = call(project, "eval", "run", "acme-triage", "--version", "1.0.1", "--format", "json")
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)["evaluations"][0]
    assert (first["adapter"], first["summary"]["n"]) == ("acme-triage-tiny-v1.0.1", TRIAGE)
    kept = json.loads((folder / "evals" / "triage.after_training.json").read_text("utf-8"))
    assert kept["accuracy"] == first["summary"]["accuracy"]
    again = call(project, "eval", "run", "acme-triage", "--version", "1.0.1", "--format", "json")
    compared = json.loads(again.stdout)["evaluations"][0]["summary"]["compared"]["accuracy"]
    assert compared["n"] == TRIAGE
    assert compared["changed"] <= 2


def test_a_judge_that_talks_nonsense_is_refused_and_passes_nothing(project: Project) -> None:
    """The base itself as a judge: a tiny model that says neither YES nor NO."""
    port = (project.root / "fleet.yaml").read_text("utf-8").partition("port: ")[2].split()[0]
    fleet = project.root / "fleet.yaml"
    text = fleet.read_text(encoding="utf-8")
    judge = f"evals: {{judge: {{url: 'http://127.0.0.1:{port}', model: BASE}}, "
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=60) as reply:
        cards = json.load(reply)["data"]
    base = next(each["id"] for each in cards if not each.get("parent"))
    assert "evals: {command:" in text
    fleet.write_text(text.replace("evals: {", judge.replace("BASE", base)), encoding="utf-8")
    labels = project.root / "labels.jsonl"
    said = [
        {"id": f"l{n}", "input": f"Is {n} even?", "answer": "yes", "expected": word, "label": word}
        for n in range(60)
        for word in ["no" if n % 2 else "yes"]
    ]
    labels.write_text("".join(json.dumps(each) + "\n" for each in said), encoding="utf-8")
    done = call(project, "eval", "judge", str(labels), "--client", "corvid", "--format", "json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["decides"], found["n"]) == (2, False, 60), done.stderr
    assert found["unparsable"] >= 50
    assert found["kappa"] < 0
    golden = project.root / "golden" / "judged.jsonl"
    item = {"id": "j", "input": "Is 2 even?", "expected": "yes", "metric": "judge"}
    golden.write_text(json.dumps(item) + "\n", encoding="utf-8")
    run = call(project, "eval", "run", "corvid-dates", "--golden", "golden/judged.jsonl")
    fleet.write_text(text, encoding="utf-8")
    assert run.returncode == 1
    assert "FC4503" in run.stderr
    assert "the judge said neither YES nor NO" in " ".join(run.stderr.split())


def test_through_a_gateway_the_same_answers_come_and_are_counted(project: Project) -> None:
    assert call(project, "gateway", "start").returncode == 0
    found = []
    for way in ("server", "gateway"):
        done = call(
            project, "eval", "run", "corvid-dates", "--through", way, "--purpose", "smoke",
            "--format", "json",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (made,) = json.loads(done.stdout)["evaluations"]
        found.append(made["summary"])
    direct, counted = found
    assert (direct["accuracy"], direct["n"]) == (counted["accuracy"], ITEMS)
    assert direct["fingerprint"] == counted["fingerprint"]
    usage = project.root / ".fleetctl/gateways/main/usage.jsonl"
    rows = [json.loads(line) for line in usage.read_text(encoding="utf-8").splitlines()]
    assert {(each["client"], each["purpose"]) for each in rows} == {("corvid", "eval")}
    answers = [each for each in rows if each["output_tokens"] > 1]
    assert sum(each["output_tokens"] for each in answers) == counted["output_tokens"]
