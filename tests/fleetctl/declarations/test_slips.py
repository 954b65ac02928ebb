"""What a person mistypes: each slip is told in a sentence, with what helps."""

import shutil
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import REPOSITORY, Project

NAME = "acme-support-llama3_8b-v9.9.9"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A fleet that was never applied."""
    root = tmp_path_factory.mktemp("fleet") / "one"
    shutil.copytree(REPOSITORY / "examples" / "sizing" / "rtx4090", root)
    return Project(root, ())


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("explain FC1218", 1, "Did you mean `FC1217`?"),
        ("explain FC1210", 0, "FC1210\n  meaning       Version is not in the lock\n"),
        ("history nope", 0, "No entry names `nope`."),
        ("history", 0, "Nothing has been done yet."),
        ("compile --host nope", 1, "No host is called `nope`. There are: desk."),
        ("usage show --purpose nope", 64, "'nope' is not one of 'live', 'eval'"),
        (f"adapter add /nowhere --as {NAME}", 1, "`/nowhere` does not exist."),
        ("apply nofile.json", 1, "nofile.json: No such file or directory."),
        ("compile --target litellm", 1, "    fleetctl apply --auto"),
        ("evidence verify", 0, "0 verdicts follow from their counts; 0 entries in one"),
    ],
)
def test_a_slip_is_told_in_a_sentence(project: Project, words: str, code: int, says: str) -> None:
    done = call(project, *words.split())
    assert says in done.stdout + done.stderr
    assert done.returncode == code


def test_a_malformed_value_has_one_error_and_not_its_consequences(project: Project) -> None:
    file = project.root / "fleet.yaml"
    text = file.read_text("utf-8")
    file.write_text(text.replace("memory: 24GiB", "memory: 80"), "utf-8")
    try:
        done = call(project, "validate")
    finally:
        file.write_text(text, "utf-8")
    assert done.returncode == 1
    shown = done.stdout + done.stderr
    assert shown.count("Error: ") == 1
    assert "`80` has no unit." in shown


def test_a_kind_of_device_of_which_nothing_is_known_is_warned_of(project: Project) -> None:
    file = project.root / "fleet.yaml"
    text = file.read_text("utf-8")
    file.write_text(text.replace("kind: rtx4090_24g", "kind: h1000_80g"), "utf-8")
    try:
        done = call(project, "validate")
    finally:
        file.write_text(text, "utf-8")
    assert done.returncode == 0
    said = " ".join((done.stdout + done.stderr).split())
    assert "a plan that starts servers on it needs a decision" in said
    assert "Did you mean `h100_80g`? Known are" in said


def test_routes_that_cannot_be_read_are_not_told_as_none(project: Project) -> None:
    routes = project.root / ".fleetctl" / "routes.json"
    routes.parent.mkdir(exist_ok=True)
    routes.write_text("{", encoding="utf-8")
    try:
        shown = call(project, "status").stdout
    finally:
        routes.unlink()
    assert "Routes cannot be read: " in shown
    assert "Which version serves is not known" in shown
    assert "No alias is routed." not in shown


def test_logs_that_cannot_be_read_are_told_beside_that_nothing_is_there(
    project: Project, tmp_path: Path
) -> None:
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "usage.jsonl").write_text("half a li\n", encoding="utf-8")
    done = call(project, "demand", "record", "--from", str(tmp_path))
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "No request was logged" in said
    assert "1 line there cannot be read." in said
