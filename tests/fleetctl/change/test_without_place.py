"""Where one version has no place, the others are explained and drawn all the same."""

import json
import shutil
from pathlib import Path

import pytest

from fleetctl.cli import main
from tests.commands import in_the_project

STORY = Path(__file__).parents[2] / "stories" / "new_version"


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


def test_replicas_beyond_all_devices_are_an_error_of_validate(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`replicas: 9` with 2 devices was valid."""
    with pytest.raises(SystemExit) as refused:
        main(["-C", str(project), "validate"])
    assert refused.value.code == 1
    shown = capsys.readouterr().err
    assert "[FC2003]\n  at clients/birch.yaml:" in shown
    assert "it wants 9 replicas on distinct devices, and 2 are declared" in shown


def test_a_replica_on_several_devices_takes_them_all(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`replicas: 2` of two devices each was valid with 2 devices; `plan` said "Declare 0 more"."""
    client, fleet = project / "clients" / "birch.yaml", project / "fleet.yaml"
    client.write_text(client.read_text("utf-8").replace("replicas: 9", "replicas: 2"), "utf-8")
    text = fleet.read_text("utf-8")
    fleet.write_text(text.replace("dtype:", "tensor_parallel: 2, dtype:", 1), "utf-8")
    with pytest.raises(SystemExit) as refused:
        main(["-C", str(project), "validate"])
    assert refused.value.code == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert "it wants 2 replicas on 2 devices each, and those declared are enough for 1" in shown


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
