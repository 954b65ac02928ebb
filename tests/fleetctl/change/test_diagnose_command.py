"""`diagnose` says whether a project fits and what would make it fit, and `plan` points there."""

import json
import shutil
from pathlib import Path

import pytest

from fleetctl.cli import main
from tests.commands import in_the_project

STORY = Path(__file__).parents[2] / "stories" / "new_version"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(STORY, tmp_path / "project")
    return tmp_path / "project"


def run(project: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["-C", str(project), *words, "--live", str(project / "live.json")])
    shown = capsys.readouterr()
    code = caught.value.code
    assert isinstance(code, int)
    out, err = (in_the_project(text, "-C", str(project)) for text in shown)
    return code, out, err


def cramped(project: Path) -> None:
    """Let both servers start with one LoRA slot only."""
    file = project / "fleet.yaml"
    text = file.read_text("utf-8")
    assert text.count("max_model_len: 8192}") == 1
    slots = "max_model_len: 8192, max_loras: 1}"
    file.write_text(text.replace("max_model_len: 8192}", slots), "utf-8")


def test_a_project_that_fits_exits_0(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(project, capsys, "diagnose")
    assert code == 0
    assert out.startswith("Fleet ")
    assert " fits.\n" in out


def test_a_project_that_does_not_fit_exits_1_with_a_way_out(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cramped(project)
    code, out, _ = run(project, capsys, "diagnose")
    assert code == 1
    assert "declares max_loras 1" in out
    assert "fleetctl plan --what-if 'base llama3_8b max_loras 2'" in out
    assert "fleet.yaml:" in out
    code, out, _ = run(project, capsys, "diagnose", "--format", "json")
    assert code == 1
    assert json.loads(out)["fits"] is False


def test_losses_are_told_with_what_would_keep_every_promise(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(project, capsys, "diagnose", "--loss", "any")
    assert code == 1
    assert out.startswith("Fleet agency: 1 of 2 places can be lost with every promise kept.\n")
    assert "llama3_8b-rack1-gpu1 starts on free devices, +2.50 per hour" in out
    assert "fleetctl plan --what-if 'gpu h100_80g +1'" in out
    code, out, _ = run(project, capsys, "diagnose", "--loss", "gpu", "--format", "json")
    assert code == 0
    found = json.loads(out)
    assert (found["format"], found["kept"]) == ("fleetctl-losses", True)
    assert [loss["place"] for loss in found["losses"]] == ["rack1/gpu0"]


def test_a_plan_that_does_not_fit_names_the_command(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cramped(project)
    code, _, err = run(project, capsys, "plan")
    assert code == 1
    assert "fleetctl diagnose" in err
