"""Which releases of fleetctl may read a fleet."""

from pathlib import Path

import pytest

from fleet.config.scalars.texts import allows, refusal
from fleet.errors import ConfigError
from fleetctl import __version__
from fleetctl.cli import main
from runtime.project.load import declared_aliases, load_project
from tests.broken.project import FLEET, valid, write


@pytest.mark.parametrize(
    ("requirement", "running", "allowed"),
    [
        (">=0.1,<2", "0.1.0", True),
        (">=0.1,<2", "1.99.7", True),
        (">=0.1,<2", "2.0.0", False),
        (">=0.1,<2", "2.0.0rc1", False),
        (">=0.1,<2", "0.0.9", False),
        (">=0.1", "0.1rc1", False),
        ("<=0.1", "0.1rc1", True),
        ("<=0.1", "0.1.1", False),
        (">0.1", "0.1.0", False),
        (">0.1", "0.1.1", True),
        ("==0.1", "0.1.0", True),
        ("==0.1", "0.1.0.dev3", False),
        ("!=0.1", "0.1.0", False),
        ("!=0.1", "0.1.1", True),
        ("~=1.4", "1.9.0", True),
        ("~=1.4", "1.3.9", False),
        ("~=1.4", "2.0", False),
        ("~=1.4.2", "1.4.9", True),
        ("~=1.4.2", "1.5.0", False),
        (" >= 0.9 , < 0.10 ", "0.9.5", True),
        ("<0.10", "0.9", True),
        (">=1", "1.2.0+local.7", True),
    ],
)
def test_a_requirement_lets_releases_in(requirement: str, running: str, *, allowed: bool) -> None:
    assert allows(requirement, running) is allowed
    assert (refusal(requirement, running) == "") is allowed


@pytest.mark.parametrize("requirement", [None, "", "1", ">=x", ">=0.1,", "=>1", 0.1])
def test_what_is_no_requirement_refuses_no_release(requirement: object) -> None:
    assert refusal(requirement, "0.1.0") == ""


def project(root: Path, line: str, **others: str) -> Path:
    write(root, valid() | {"fleet.yaml": f"{line}\n{FLEET}"} | others)
    return root


def found_in(root: Path, environment: str | None = None) -> list[tuple[str, str, str]]:
    with pytest.raises(ConfigError) as caught:
        load_project(root, environment, {})
    return [(each.code, str(each.place), each.detail) for each in caught.value.diagnostics]


def test_a_release_that_is_required_reads_the_fleet(tmp_path: Path) -> None:
    root = project(tmp_path, 'required_version: ">=0.1,<2"')
    assert load_project(root, None, {}).declarations.required_version == ">=0.1,<2"


@pytest.mark.parametrize(
    "others",
    [{}, {"clients/acme.yaml": "clients: ["}, {"x.yaml": "no_such_key: 1\n"}],
)
def test_another_release_says_nothing_but_that(tmp_path: Path, others: dict[str, str]) -> None:
    root = project(tmp_path, 'unknown_key: 1\nrequired_version: ">=7,<8"', **others)
    ((code, place, detail),) = found_in(root)
    assert (code, place) == ("FC1016", "fleet.yaml:2:19")
    assert f"This is fleetctl {__version__}, and the fleet requires `>=7,<8`." in detail
    with pytest.raises(ConfigError, match="Another release of fleetctl is required"):
        declared_aliases(root, None, {})


def test_an_overlay_and_a_further_file_can_require_a_release_too(tmp_path: Path) -> None:
    root = project(tmp_path, "", **{"env/prod.yaml": 'required_version: ">=7"\n'})
    assert [each[:2] for each in found_in(root, "prod")] == [("FC1016", "env/prod.yaml:1:19")]
    write(root, {"x.yaml": 'required_version: "<0.1"\n'})
    assert [each[:2] for each in found_in(root)] == [("FC1016", "x.yaml:1:19")]


@pytest.mark.parametrize("value", ["0.1", '">=0.1,"', '"latest"', '"~=1"', "[1]"])
def test_a_malformed_requirement_is_reported_at_its_place(tmp_path: Path, value: str) -> None:
    root = project(tmp_path, f"required_version: {value}\nunknown_key: 1")
    codes = {code: place for code, place, _ in found_in(root)}
    assert codes["FC1104"] == ("fleet.yaml:1:19" if value != "[1]" else codes["FC1104"])
    assert "FC1003" in codes


def test_validate_shows_the_requirement_and_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = project(tmp_path, 'required_version: ">=7"')
    with pytest.raises(SystemExit) as stopped:
        main(["-C", str(root), "validate"])
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("Error: Another release of fleetctl is required [FC1016]\n")
    assert "at fleet.yaml:1:19\n" in said
    assert '1 | required_version: ">=7"' in said
