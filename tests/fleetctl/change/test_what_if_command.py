"""`plan --what-if`: shown with a banner, in every format, and never to be applied."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetctl.cli import main

TWO_DEVICES = Path(__file__).parents[3] / "examples" / "sizing" / "two_rtx4090"
STORY = Path(__file__).parents[2] / "stories" / "new_version"
BANNER = "What if: client acme x1.5; clients +1. Nothing here can be applied."
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    shutil.copytree(STORY, tmp_path / "project")
    project = str(tmp_path / "project")
    live = f"{project}/live.json"

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["-C", project, "plan", "--live", live, *arguments])
        shown = capsys.readouterr()
        code = caught.value.code
        assert isinstance(code, int)
        return code, shown.out, shown.err

    return call


def supposed(run: Run, *more: str) -> str:
    code, out, _ = run("--what-if", "client acme x1.5", "--what-if", "clients +1", *more)
    assert code == 0
    return out


def table(out: str) -> dict[str, list[str]]:
    """Return the cells of both fleets by title."""
    rows = out.split("\n\n", maxsplit=1)[0].splitlines()[1:]
    cells = [re.split(r" {3,}", row[2:].strip()) for row in rows]
    return {"": cells[0]} | {title: rest for title, *rest in cells[1:]}


def test_the_banner_comes_first_and_the_changed_fleet_is_planned(run: Run) -> None:
    out = supposed(run)
    assert out.startswith(BANNER)
    assert "acme_2-support" in out
    assert table(out) == {
        "": ["As declared", "What if"],
        "Cost per hour": ["2.50", "2.50"],
        "Servers": ["1", "1"],
        "Versions that move": ["0", "0"],
        "Adapters later than promised": ["0", "0"],
        "Adapters later than their class aims at": ["0", "3"],
        "Survives the loss of any one device": ["yes", "yes"],
    }
    assert "It would take " in out
    assert "Apply: " not in out


def test_every_format_says_so(run: Run) -> None:
    page = supposed(run, "--format", "html")
    assert f"<strong>{BANNER}</strong>" in page
    assert "<tr><td>Cost per hour</td><td>2.50</td><td>2.50</td></tr>" in page
    markdown = supposed(run, "--format", "md").splitlines()
    assert markdown[0].startswith("<!-- fleetctl:what-if ")
    assert (
        markdown[1] == "> **What if:** client acme x1.5; clients +1. Nothing here can be applied."
    )
    assert markdown[3:6] == [
        "|  | As declared | What if |",
        "|---|---|---|",
        "| Cost per hour | 2.50 | 2.50 |",
    ]


def test_a_script_can_read_it_and_apply_refuses_it(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = supposed(run, "--format", "json")
    document = json.loads(text)
    assert document["what_if"] == ["client acme x1.5", "clients +1"]
    assert document["decisions"]["changes"]
    both = document["compared"]["declared"], document["compared"]["what_if"]
    assert [facts["cost_per_hour"] for facts in both] == [2.5, 2.5]
    assert [facts["later_than_aimed"] for facts in both] == [0, 3]
    file = tmp_path / "supposed.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as caught:
        main(["-C", str(tmp_path / "project"), "apply", "--yes", str(file)])
    assert caught.value.code == 1
    assert "FC5002" in capsys.readouterr().err


def test_nothing_is_written(run: Run, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    supposed(run)
    assert sorted(tmp_path.rglob("*")) == before
    for option in ("--out", "--save-live"):
        code, out, err = run("--what-if", "clients +1", option, str(tmp_path / "x.json"))
        assert (code, out) == (64, "")
        assert f"omit {option}" in err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_slip_gets_examples_and_a_fleet_that_does_not_fit_is_told(run: Run) -> None:
    code, out, err = run("--what-if", "client acmee x2")
    assert (code, out) == (1, "")
    assert "Did you mean `acme`?" in err
    code, out, err = run("--what-if", "adapter acme-support replicas 9")
    assert code == 1
    assert "it wants 9 replicas on distinct devices, and 2 may hold one" in out
    assert err.startswith("What if: adapter acme-support replicas 9. Then the fleet does not fit.")


def test_a_fleet_that_fits_only_with_the_change_is_told_so(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "project" / "clients" / "acme.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("version:", "replicas: 9\n        version:", 1), encoding="utf-8")
    code, out, _ = run("--what-if", "adapter acme-support replicas 1")
    assert code == 0
    assert table(out)["Servers"] == ["does not fit", "1"]


def test_a_selection_may_name_what_is_only_supposed(run: Run) -> None:
    out = supposed(run, "--select", "client=acme_2")
    assert out.startswith(BANNER)
    assert "route/acme_2-support" in out


def test_one_that_does_not_fit_is_diagnosed_and_the_cause_is_named_not_the_victim(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(TWO_DEVICES, tmp_path / "two")
    change = "adapter acme-support rank 64"
    asked = ("-C", str(tmp_path / "two"), "plan", "--what-if", change)
    with pytest.raises(SystemExit) as caught:
        main([*asked])
    shown = capsys.readouterr()
    assert caught.value.code == 1
    assert f"What if: {change}. Then the fleet does not fit." in shown.err
    why = shown.out.partition("Why:\n")[2].splitlines()
    assert why[0].startswith("  throughput (base llama3_8b): it takes 2 devices, because on one")
    assert why[1].startswith("  devices (base mistral_7b): `desk/gpu0` is taken by")
    command = f"fleetctl -C {tmp_path / 'two'} plan --what-if '{change}'"
    assert f"{command} --what-if 'gpu rtx4090_24g +1'" in shown.out
    with pytest.raises(SystemExit) as caught:
        main([*asked, "--format", "json"])
    document = json.loads(capsys.readouterr().out)
    assert (caught.value.code, document["fits"]) == (1, False)
    assert document["causes"][0]["base"] == "llama3_8b"
