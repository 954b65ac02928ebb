"""Evaluations through a gateway: counted apart, billed by policy, open to the operator alone."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

OLD, NEW = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet; evaluations are counted, and premium clients pay for them."""
    made = Project.copy(tmp_path_factory.mktemp("fleet") / "project", None)
    fleet, acme = made.root / "fleet.yaml", made.root / "clients/acme.yaml"
    text = fleet.read_text(encoding="utf-8")
    text = text.replace("{retrain_every: 30d}", "{retrain_every: 30d, bill_evals: true}")
    gates = "careful: {weights: [10%, 50%, 100%], bake: 24h, retain: 7d, gates: []}"
    assert gates in text
    text = text.replace(gates, gates.replace("gates: []", "gates: [answers]"))
    text += "\nevals: {through: gateway}\ngates: {answers: {metric: accuracy_drop, max: 9pp}}\n"
    fleet.write_text(text, encoding="utf-8")
    for path in (made.root / "golden").glob("*.jsonl"):
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))
    assert call(made, "gateway", "start").returncode == 0
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    acme.write_text(acme.read_text("utf-8").replace('"2.1.0"', '"2.2.0"'), encoding="utf-8")
    done = call(made, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    yield made
    made.clean_up()


def rows(project: Project) -> list[dict[str, Any]]:
    path = project.root / ".fleetctl/gateways/main/usage.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def asked(project: Project, headers: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """Ask as a client; return who answered, and the newest row."""
    body = {"messages": [{"role": "user", "content": "hello"}]}
    _, answered = project.completion("/v1/chat/completions", body, headers)
    return str(answered["x-fleetctl-version"]), rows(project)[-1]


def test_both_versions_of_a_rollout_are_asked_and_counted_for_their_client(
    project: Project,
) -> None:
    done = call(project, "reconcile", "--once")
    assert done.returncode == 0, done.stderr
    found = rows(project)
    assert {(each["client"], each["version"]) for each in found} == {("acme", OLD), ("acme", NEW)}
    assert {(each["purpose"], each["status"]) for each in found} == {("eval", 200)}
    assert all(each["output_tokens"] for each in found)
    ledger = (project.root / ".fleetctl/ledger.jsonl").read_text(encoding="utf-8")
    secret = (project.root / ".fleetctl/operator.secret").read_text(encoding="utf-8").strip()
    assert secret not in ledger
    kept = project.root / ".fleetctl/evals"
    assert not any(secret in each.read_text(encoding="utf-8") for each in kept.glob("*.jsonl"))


def test_a_client_s_key_opens_no_version_and_counts_as_no_evaluation(project: Project) -> None:
    headers = {"X-Fleetctl-Version": NEW, "X-Fleetctl-Purpose": "eval"}
    version, row = asked(project, headers)
    assert (version, row["version"], row["purpose"]) == (OLD, OLD, "live")


def test_evaluations_are_billed_to_whom_the_policy_says(project: Project) -> None:
    for alias in ("acme-triage", "fjord-reviews"):
        done = call(project, "eval", "run", alias)
        assert done.returncode == 0, done.stderr
    said = {}
    for option in ("--purpose=live", "--purpose=eval", "--billed"):
        shown = json.loads(call(project, "usage", "summary", option, "--format", "json").stdout)
        counts: Counter[tuple[str, str]] = Counter()
        for each in shown:  # a line for each version
            counts[each["client"], each["alias"]] += each["requests"]
        said[option] = counts
    assert {client for client, _ in said["--purpose=eval"]} == {"acme", "fjord"}
    paid = Counter({who: n for who, n in said["--purpose=eval"].items() if who[0] == "acme"})
    assert said["--billed"] == paid + said["--purpose=live"]


def test_a_person_may_ask_the_server_instead(project: Project) -> None:
    before = len(rows(project))
    done = call(project, "eval", "run", "acme-triage", "--through", "server")
    assert done.returncode == 0, done.stderr
    assert len(rows(project)) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("acme-support", "--version", "2.0.0"), "FC4507"),
        (("acme-support", "--engine", "command"), "FC4535"),
        (("x", "--url", "http://127.0.0.1:9", "--through", "server"), "--url names the receiver"),
    ],
)
def test_what_cannot_be_asked_through_a_gateway_says_why(
    project: Project, arguments: tuple[str, ...], says: str
) -> None:
    done = call(project, "eval", "run", *arguments)
    assert done.returncode != 0
    assert says in done.stdout + done.stderr
