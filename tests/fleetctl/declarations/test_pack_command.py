"""`fleetctl pack` on files."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleet.errors import ConfigError
from fleetctl.cli import main_group

VBP = "2\n10 10\n3\n6 2 2\n4 8 1\n4 7 1\n"
FLEET = {"bases": ["tiny"], "items": [[0, 0, 0, [5, 1]], [0, 0, 0, [5, 1]], [1, 0, 0, [1, 9]]]}
CAPACITY = {
    "gpus": {"L4": {"cost": 0.8}, "H100": {"cost": 3.9}},
    "capacity_tenths": {"tiny": {"L4": [[10, 10, 10, 0]], "H100": [[99, 99, 99, 99]]}},
}


def run(*arguments: str) -> tuple[str, str]:
    result = CliRunner().invoke(main_group, ["pack", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    (tmp_path / "capacity.json").write_text(json.dumps(CAPACITY))
    (tmp_path / "fleet.json").write_text(json.dumps(FLEET))
    return tmp_path / "fleet.json"


def test_vectors_are_packed_and_summed_up(tmp_path: Path) -> None:
    (tmp_path / "a.vbp").write_text(VBP)
    lines = run(str(tmp_path / "a.vbp"))[0].splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [
        ["bins", "2"],
        ["bound", "2"],
        ["status", "optimal"],
    ]


def test_json_is_the_bin_of_each_item_and_the_summary_goes_to_stderr(tmp_path: Path) -> None:
    (tmp_path / "a.vbp").write_text(VBP)
    data, summary = run(str(tmp_path / "a.vbp"), "--json")
    home = json.loads(data)
    assert len(home) == 4
    assert home[0] != home[1]
    assert home[2] != home[3]
    assert "optimal" in summary


def test_a_fleet_finds_its_capacity_beside_it(fleet: Path) -> None:
    data = json.loads(run(str(fleet), "--json")[0])
    assert data["cost"] == data["bound"] == 1.6
    assert data["status"] == "optimal"
    assert sorted(item for each in data["servers"] for item in each["items"]) == [0, 1, 2]
    assert {each["gpu"] for each in data["servers"]} == {"L4"}


@pytest.mark.parametrize(
    ("text", "line", "detail"),
    [
        ("", 1, "starts with the number of dimensions"),
        ("2\n10\n", 2, "2 capacities and the number of rows follow"),
        ("1\n10\n2\n3 1\n", 4, "makes 4; there are 2"),
        ("1\n10\n1\n3 x\n", 4, "`x` is not an integer"),
        ("1\n10\n2\n3 1\n11 1\n", 5, "[11] exceed the capacities [10]"),
        ("1\n10\n1\n3 -1\n", 4, "Demand -1 is negative"),
        ("1\n-10\n0\n", 2, "Capacity -10 is negative"),
    ],
)
def test_a_malformed_vector_file_is_shown_by_line(
    tmp_path: Path, text: str, line: int, detail: str
) -> None:
    (tmp_path / "a.vbp").write_text(text)
    with pytest.raises(ConfigError) as caught:
        run(str(tmp_path / "a.vbp"))
    (found,) = caught.value.diagnostics
    assert found.code == "FC2050"
    assert found.place is not None
    assert (found.place.file, found.place.line) == (str(tmp_path / "a.vbp"), line)
    assert detail in found.detail


SETUPS = "4 2 10 1\n-3 2 2\n3 2 2\n4\n4\n4\n4\n"


@pytest.mark.parametrize("name", ["a.bpps", "a.txt"])
def test_classes_with_set_ups_are_packed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(SETUPS)
    data, summary = run(str(tmp_path / name), "--json")
    assert json.loads(data) == [0, 0, 1, 1]
    assert [line.split() for line in summary.splitlines()[:4]] == [
        ["bins", "2"], ["cost", "8"], ["bound", "8"], ["status", "optimal"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "detail"),
    [
        ("", 1, "The line `items classes capacity bin_cost` is expected here"),
        ("1 1 10\n", 1, "The line `items classes capacity bin_cost` is expected here"),
        ("1 1 -10 1\n", 1, "A number of the first line is negative"),
        ("1 1 10 1\n3 2\n4\n", 2, "Class 1 of 1, `cost weight items`, is expected here"),
        ("1 1 10 1\n3 -2 1\n4\n", 2, "-2 is negative"),
        ("2 1 10 1\n3 2 1\n4\n", 1, "2 items are announced, and classes have 1"),
        ("2 1 10 1\n3 2 2\n4\n", 3, "Item 2 of 2, its weight, is expected here"),
        ("1 1 10 1\n3 2 1\n9\n", 3, "Weight 9 with 2 for its class is not between 0 and"),
        ("1 1 10 1\n3 2 1\nx\n", 3, "`x` is not an integer"),
    ],
)
def test_a_malformed_file_with_set_ups_is_shown_by_line(
    tmp_path: Path, text: str, line: int, detail: str
) -> None:
    (tmp_path / "a.bpps").write_text(text)
    with pytest.raises(ConfigError) as caught:
        run(str(tmp_path / "a.bpps"))
    (found,) = caught.value.diagnostics
    assert (found.code, found.place and found.place.line) == ("FC2053", line)
    assert detail in found.detail


@pytest.mark.parametrize(
    ("file", "text", "detail"),
    [
        ("fleet.json", "{", "Expecting"),
        ("fleet.json", '{"items": []}', "`bases` is missing"),
        ("fleet.json", '{"bases": ["big"], "items": []}', "lacks base `big`"),
        ("fleet.json", '{"bases": ["tiny"], "items": [[0, 1, 0, [1]]]}', "Item 0 is not"),
        ("fleet.json", '{"bases": ["tiny"], "items": [[0, 0, 0, [100]]]}', "fits no GPU type"),
        ("capacity.json", '{"gpus": {}}', "`capacity_tenths` is missing"),
    ],
)
def test_a_malformed_fleet_is_refused(fleet: Path, file: str, text: str, detail: str) -> None:
    (fleet.parent / file).write_text(text)
    with pytest.raises(ConfigError) as caught:
        run(str(fleet))
    (found,) = caught.value.diagnostics
    assert found.code == ("FC2052" if "fits" in detail else "FC2051")
    assert detail in found.detail
