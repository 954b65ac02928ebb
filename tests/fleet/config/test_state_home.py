"""Where the truth of a fleet lives: declared once, found while other files are broken."""

from pathlib import Path

import pytest

from fleet.errors import ConfigError
from runtime.project.load import declared_home, load_project
from runtime.state.home import HomeAddress, remember_home, remembered_home
from tests.broken.project import FLEET, valid, write


def project(root: Path, line: str, **others: str) -> Path:
    write(root, valid() | {"fleet.yaml": f"{line}\n{FLEET}"} | others)
    return root


@pytest.mark.parametrize(("line", "home"), [
    ("", HomeAddress("demo")),
    ("state: {}", HomeAddress("demo")),
    ("state: {postgresql: env:FLEET_DB}", HomeAddress("demo", postgresql="env:FLEET_DB")),
    ("state: {file: '${var.place}'}", HomeAddress("demo", folder="ROOT/truth")),
])  # fmt: skip
def test_a_home_is_declared_by_a_reference_or_a_folder(
    tmp_path: Path, line: str, home: HomeAddress
) -> None:
    root = project(tmp_path, line)
    found = declared_home(root, None, {"place": "truth"})
    assert found == HomeAddress(home.fleet, home.postgresql, home.folder.replace("ROOT", str(root)))
    settings = load_project(root, None, {"place": "truth"}).fleet.settings
    assert any(name.startswith("state.") for name in settings) is not found.is_state_folder


def test_an_overlay_has_a_home_of_its_own(tmp_path: Path) -> None:
    root = project(tmp_path, "state: {postgresql: env:FLEET_DB}")
    (root / "env").mkdir()
    (root / "env" / "prod.yaml").write_text("state: {postgresql: env:PROD_DB}\n")
    assert declared_home(root, "prod", {}).postgresql == "env:PROD_DB"
    assert declared_home(root, None, {}).postgresql == "env:FLEET_DB"


def test_the_home_is_found_while_other_files_are_broken(tmp_path: Path) -> None:
    root = project(tmp_path, "state: {postgresql: env:FLEET_DB}")
    (root / "clients" / "acme.yaml").write_text("clients: [\n")
    assert declared_home(root, None, {}).postgresql == "env:FLEET_DB"


@pytest.mark.parametrize(("line", "more", "code", "words"), [
    ("state: {postgresql: env:A, file: b}", "", "FC1235", "a database and a folder"),
    ("", "state: {postgresql: env:A}", "FC1235", "a rollback reads `fleet.yaml`"),
    ("state: {postgresql: 'postgresql://me:hunter2@db/x'}", "", "FC1110", "A secret in a file"),
    ("state: {s3: bucket}", "", "FC1003", "s3"),
    ("state: {file: ../elsewhere}", "", "FC1285", "leads to"),
    ("state: {file: ''}", "", "FC1101", ""),
])  # fmt: skip
def test_a_home_that_cannot_be_used_is_refused_at_its_place(
    tmp_path: Path, line: str, more: str, code: str, words: str
) -> None:
    root = project(tmp_path / "project", line)
    (root / "more.yaml").write_text(f"{more}\nx-note: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_project(root, None, {})
    found = caught.value.diagnostics[0]
    assert found.code == code
    assert words in found.detail
    assert found.place is not None
    assert found.place.file == ("more.yaml" if more else "fleet.yaml")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("state", "admin", "warned"), [
    ("", "", False), ("state: {file: truth}", "", True),
    ("state: {postgresql: env:A}", ', admin: "https://gw.example.com", secret: env:B', False),
])  # fmt: skip
def test_a_gateway_that_other_checkouts_do_not_reach_is_warned_of(
    tmp_path: Path, state: str, admin: str, *, warned: bool
) -> None:
    root = project(tmp_path, state)
    file = root / "fleet.yaml"
    file.write_text(file.read_text().replace('"127.0.0.1:8080"', f'"127.0.0.1:8080"{admin}'))
    codes = [found.code for found in load_project(root, None, {}).warnings]
    assert ("FC1236" in codes) is warned


def test_the_home_as_last_declared_is_remembered_without_a_secret(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert remembered_home(state) == HomeAddress()
    remember_home(state, HomeAddress("demo"))
    assert not state.exists(), "the state folder is its own home, and needs no note"
    remember_home(state, HomeAddress("demo", postgresql="env:FLEET_DB"))
    assert remembered_home(state) == HomeAddress("demo", postgresql="env:FLEET_DB")
    remember_home(state, HomeAddress("demo"))
    assert remembered_home(state).is_state_folder
    (state / "home.json").write_text("[")
    assert remembered_home(state) == HomeAddress()
