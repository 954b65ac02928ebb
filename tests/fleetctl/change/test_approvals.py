"""A plan that needs a decision is carried out once a person has approved that plan."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied: a single server, whose restart is an outage for all."""
    yield from applied(tmp_path_factory.mktemp("fleet"))


def declare(project: Project, tokens: int) -> None:
    file = project.root / "fleet.yaml"
    lines = file.read_text("utf-8").splitlines(keepends=True)
    (number,) = (n for n, line in enumerate(lines) if "max_model_len:" in line)
    lines[number] = f"    max_model_len: {tokens}\n"
    file.write_text("".join(lines), "utf-8")


def test_an_outage_is_carried_out_with_an_approval_for_its_clients_alone(
    project: Project, tmp_path: Path
) -> None:
    """Before, `approve` with fewer clients than the plan has exited with 0."""
    file = str(tmp_path / "plan.json")
    declare(project, 256)
    shown = call(project, "plan", "--out", file)
    document = json.loads(Path(file).read_text("utf-8"))
    plan, out = document["plan_id"], document["needs_decision"]["clients_out"]
    command = f"fleetctl approve {plan} --accept-outage {out} --reason TEXT"
    assert out > 1
    assert ("needs a decision" in shown.stdout, f"To approve: {command}" in shown.stdout) == (
        True,
        True,
    )
    for arguments in ((file,), ("--auto",), ("--plan-id", plan)):
        refused = call(project, "apply", *arguments, "--yes")
        assert refused.returncode == 5
        assert "FC5126" in refused.stderr
        assert "Nobody has approved it" in refused.stderr
        assert command in refused.stderr
    for torn in ("0" * 64, "f" * 64):  # a run that was killed left them
        (project.root / ".fleetctl/plans" / torn).write_text("")
    few = str(out - 1)
    accept = ("--accept-outage", few, "--reason", "a")
    refused = call(project, "approve", plan, *accept, actor="bo")
    assert (refused.returncode, "FC5128" in refused.stderr) == (1, True)
    assert command in refused.stderr
    assert "Nobody has approved it" in call(project, "apply", file, "--yes").stderr
    (kept,) = (p for p in (project.root / ".fleetctl/plans").iterdir() if plan in p.read_text())
    kept.write_text(kept.read_text().rpartition(" ")[0])  # as earlier releases wrote it
    for other, accepted in ((plan, few), ("0" * 16, str(out))):
        done = call(
            project, "approve", other, "--accept-outage", accepted, "--reason", "a", actor="bo"
        )
        assert done.returncode == 0, done.stderr
        unknown = f"Warning: no plan with the id {other} was made with this state folder."
        assert (unknown in done.stderr) == (other != plan)
        for arguments in ((file,), ("--plan-id", plan)):
            assert call(project, "apply", *arguments, "--yes").returncode == 5
    assert f"bo accepts an outage of {few} client" in call(project, "apply", file, "--yes").stderr
    again = call(project, "plan", "--format", "json").stdout
    assert json.loads(again)["plan_id"] == plan
    accept = ("--accept-outage", str(out), "--reason", "for\n Sunday")
    done = call(project, "approve", plan, *accept, actor="al")
    assert f"approved by al, with an outage of {out} clients" in done.stderr
    assert call(project, "apply", file, "--yes").returncode == 0
    told = call(project, "history").stdout
    assert f"approved plan {plan} with an outage of {out} clients: for Sunday" in told


def test_the_same_plan_at_a_later_time_needs_another_approval(project: Project) -> None:
    ids = []
    for tokens in (384, 256, 384):
        declare(project, tokens)
        document = json.loads(call(project, "plan", "--format", "json").stdout)
        ids.append(document["plan_id"])
        assert call(project, "apply", "--auto", "--yes").returncode == 5
        command = document["needs_decision"]["command"].replace("TEXT", "again").split()
        assert call(project, *command[1:]).returncode == 0
        other = call(project, "apply", "--plan-id", "0" * 16, "--yes")
        assert (other.returncode, "FC3045" in other.stderr) == (5, True)
        assert call(project, "apply", "--plan-id", ids[-1], "--yes").returncode == 0
    assert ids[0] == ids[2]


def test_a_new_version_and_a_client_that_leaves_need_no_approval(project: Project) -> None:
    file = project.root / "clients/acme.yaml"
    text = file.read_text("utf-8")
    assert 'version: "2.1.0"' in text
    file.write_text(text.replace('version: "2.1.0"', 'version: "2.2.0"'), "utf-8")
    (project.root / "clients/fjord.yaml").unlink()
    shown = call(project, "plan")
    assert "To approve" not in shown.stdout
    assert "no longer served: fjord" in shown.stdout
    assert call(project, "apply", "--auto", "--yes").returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("0123", "--reason", "r"),
        ("0123456789ABCDEF", "--reason", "r"),
        ("0123456789abcdef", "--reason", " \n"),
        ("0123456789abcdef",),
        ("0123456789abcdef", "--reason", "r", "--accept-outage", "-1"),
    ],
)
def test_an_approval_names_a_plan_and_a_reason(
    project: Project, arguments: tuple[str, ...]
) -> None:
    assert call(project, "approve", *arguments).returncode == 64


def test_servers_of_which_nothing_is_known_start_when_a_person_assumes_the_rest(
    tmp_path: Path,
) -> None:
    made = Project.copy(tmp_path / "project", None)
    file = made.root / "fleet.yaml"
    file.write_text(file.read_text("utf-8").replace("kind: cpu,", "kind: tpu_v6e,"), "utf-8")
    shown = call(made, "plan")
    assert "nothing is known of the memory or speed of tiny-laptop-cpu0" in shown.stdout
    refused = call(made, "apply", "--auto", "--yes")
    assert (refused.returncode, "FC5126" in refused.stderr) == (5, True)
    assert "speed of tiny-laptop-cpu0" in refused.stderr
    try:
        done = call(made, "apply", "--auto", "--yes", "--assume")
        assert done.returncode == 0, done.stderr
        assert call(made, "plan", "--detailed-exitcode").returncode == 0
    finally:
        made.clean_up()


def test_declared_figures_of_a_device_are_enough(tmp_path: Path) -> None:
    made = Project.copy(tmp_path / "project", None)
    file = made.root / "fleet.yaml"
    figures = "kind: tpu_v6e, memory_bandwidth: 1600, tflops: 918,"
    file.write_text(file.read_text("utf-8").replace("kind: cpu,", figures), "utf-8")
    shown = call(made, "plan")
    assert shown.returncode == 0
    assert "nothing is known" not in shown.stdout + shown.stderr
