"""Where one version has no place, the others are explained and drawn all the same."""

import json
import shutil
from pathlib import Path

import pytest

from fleetctl.cli import main
from tests.commands import in_the_project

STORY = Path(__file__).parent.parent / "stories" / "new_version"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Birch wants replicas on more devices than there are."""
    shutil.copytree(STORY, tmp_path / "project")
    file = tmp_path / "project" / "clients" / "birch.yaml"
    text = file.read_text("utf-8")
    file.write_text(text.replace("version:", "replicas: 9\n        version:", 1), "utf-8")
    return tmp_path / "project"


def run(project: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["-C", str(project), *words, "--live", str(project / "live.json")])
    shown = capsys.readouterr()
    code = caught.value.code
    assert isinstance(code, int)
    out, err = (in_the_project(text, "-C", str(project)) for text in shown)
    return code, out, err


def test_what_has_a_place_is_explained(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, capsys, "plan")[0] == 1
    code, out, err = run(project, capsys, "explain", "route/acme-support")
    assert code == 0
    assert "Warning: birch-faq is left out: no place for birch-faq-" in err
    assert "it wants 9 replicas on distinct devices, and 2 may hold one" in err
    assert "~ shift" in out
    code, out, _ = run(project, capsys, "explain", "route/acme-support", "--format", "json")
    (resource,) = json.loads(out)["resources"]
    assert (code, resource["address"]) == (0, "route/acme-support")
    facts = {each["label"]: each["text"] for each in resource["facts"]}
    assert facts["Declared"].startswith("clients/acme.yaml:")


def test_what_has_a_place_is_drawn(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(project, capsys, "draw")
    assert code == 0
    assert "acme-support" in out
    assert "birch-faq is left out" in err
    assert "fleetctl diagnose" in err


def test_what_has_none_says_why(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    live = json.loads((project / "live.json").read_text("utf-8"))
    live["resources"] = [each for each in live["resources"] if "birch" not in json.dumps(each)]
    (project / "live.json").write_text(json.dumps(live), "utf-8")
    code, out, err = run(project, capsys, "explain", "birch-faq")
    assert (code, out) == (1, "")
    assert "Not enough devices for the replicas" in err
