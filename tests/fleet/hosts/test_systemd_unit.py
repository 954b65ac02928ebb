"""Units of systemd, as systemd itself reads them."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.hardware import DeviceSpec, HostSpec
from fleet.hosts import SystemdUnit, forward_unit, unit_text
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

WORDS = [
    "two words",
    "50% of %h",
    "$HOME ${HOME} $$",
    """'single' "double\"""",
    r"back\slash \n \x41 \\",
    "é ; # | & * ~",
    " leading and trailing ",
    "tab\tand\nExecStartPre=/bin/sh",
]


Verify = Callable[..., str]


@pytest.fixture
def verify(tmp_path: Path) -> Verify:
    """Return what systemd says about units; the exit code is 0 for most errors."""

    def said(*files: Path, manager: str = "--user") -> str:
        command = ["systemd-analyze", manager, "verify", *map(str, files)]
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.stderr

    return said


def written(folder: Path, text: str) -> Path:
    file = folder / "x.service"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("word", WORDS)
def test_systemd_reads_back_the_word_that_was_quoted(
    tmp_path: Path, verify: Verify, word: str
) -> None:
    """A name with a space is refused, and the message shows the whole assignment as read."""
    unit = SystemdUnit("x.service", "X", ["/bin/true"], str(tmp_path), 1, {"A B": word})
    said = verify(written(tmp_path, unit_text(unit)))
    assert f"Invalid environment assignment, ignoring: A B={word}\n" in said
    assert "Unknown key" not in said


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("word", WORDS[:-1])
def test_a_program_that_is_not_there_is_named_as_it_was_given(
    tmp_path: Path, verify: Verify, word: str
) -> None:
    unit = SystemdUnit("x.service", "X", [f"/no/{word}", ";"], str(tmp_path), 1, {})
    assert f"/no/{word}" in verify(written(tmp_path, unit_text(unit)))


@pytest.mark.needs("systemd-analyze")
def test_a_line_break_ends_no_setting(tmp_path: Path, verify: Verify) -> None:
    text = unit_text(
        SystemdUnit(
            "x.service", "X\nUser=root", ["/bin/true", "a\nUser=root"], "/a\nUser=root", 1, {}
        ),
        user="fleet\nUser=root",
    )
    assert "\nUser=root" not in text
    assert text.count("\nUser=") == 1
    assert "Unknown key" not in verify(written(tmp_path, text))


@pytest.mark.needs("systemd-analyze")
def test_systemd_has_nothing_against_the_units_of_the_quickstart(
    tmp_path: Path, verify: Verify
) -> None:
    project = Project.copy(tmp_path / "my 50% \"$project's", None)
    units = tmp_path / "units"
    for options, manager in (((), "--user"), (("--system-user", "daemon"), "--system")):
        done = call(project, "compile", "--target", "systemd", "--out", str(units), *options)
        assert done.returncode == 0, done.stderr
        files = sorted(units.iterdir())
        assert [file.name for file in files] == [
            "fleetctl-gateway-main.service",
            "fleetctl-reconcile.service",
            "fleetctl-tiny-laptop-cpu0.service",
        ]
        assert verify(*files, manager=manager) == ""
        _, _, enabled = done.stderr.partition("enable --now ")
        assert sorted(enabled.split()) == [file.name for file in files]


@pytest.mark.needs("systemd-analyze")
def test_systemd_has_nothing_against_the_units_of_boxes(tmp_path: Path, verify: Verify) -> None:
    devices = tuple(DeviceSpec(f"gpu{n}", "rtx4090_24g", 24 << 30, 0, 8100 + n) for n in range(8))
    box = HostSpec("box1", "ssh", devices, address="fleet@[fd00::5]:2222")
    words = forward_unit(box, "/").arguments
    unit = replace(forward_unit(box, str(tmp_path)), arguments=["/bin/true", *words[1:]])
    for made in (unit, replace(unit, folder="~")):
        for user, manager in (("", "--user"), ("daemon", "--system")):
            assert verify(written(tmp_path, unit_text(made, user)), manager=manager) == ""
    assert sum(word == "-L" for word in words) == 32
    assert words[-1] == "ssh://fleet@[fd00::5]:2222"


def test_a_unit_holds_no_secret_and_no_roundabout_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project.copy(tmp_path / "project", None)
    secrets = [path.read_text().strip() for path in project.root.glob(".fleetctl/keys/*")]
    monkeypatch.chdir(project.root / "clients")
    around = Project(Path("../clients/.."), project.options)
    text = call(around, "compile", "--target", "systemd").stdout
    assert text == call(project, "compile", "--target", "systemd").stdout
    assert secrets
    assert not [secret for secret in secrets if secret in text]
    assert "/../" not in text
    older = call(project, "compile", "--format", "systemd").stdout
    assert older.startswith("# Fleet quickstart\n# fleetctl-tiny-laptop-cpu0.service\n")
    assert text.startswith(older)
    assert text.count(".service\n[Unit]") == older.count(".service\n[Unit]") + 2
