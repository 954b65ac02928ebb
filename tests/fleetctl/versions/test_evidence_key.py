"""Keys that sign evidence: shown, replaced, accepted, and begun anew after a loss."""

import json
from pathlib import Path
from typing import Any

import pytest

from fleet.history import EvalFinished
from fleetctl.wiring import open_workspace
from runtime.ledger.chain import KEY_FILE
from runtime.workspace import Workspace
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import Project

RUN = EvalFinished("run", "acme-support", "acme-support-tiny-v1.0.0", "anchor", {"n": 1}, "0" * 64)


def workspace_of(root: Path) -> Workspace:
    return open_workspace(root, None, {}, root / ".fleetctl")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A state folder with a signed entry."""
    made = Project(tmp_path, ())
    workspace_of(tmp_path).ledger.open().append([RUN])
    return made


def keys(project: Project, *more: str) -> dict[str, Any]:
    done = call(project, "evidence", "key", *more, "--format", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def verified(project: Project) -> Done:
    return call(project, "evidence", "verify")


def test_the_first_signed_entry_names_the_key(project: Project) -> None:
    found = keys(project)
    assert found["is_accepted"]
    assert found["keys"] == [{"key": found["own"], "since": 1, "until": None}]
    shown = call(project, "evidence", "key").stdout
    assert shown == f"Key of this machine: {found['own']}\n{found['own']} signs entries from 1 on\n"


def test_without_a_signed_entry_there_is_no_key(tmp_path: Path) -> None:
    made = Project(tmp_path, ())
    assert call(made, "evidence", "key").stdout == (
        "This machine has no key.\nNo entry is signed yet.\n"
    )
    assert not (tmp_path / ".fleetctl" / KEY_FILE).exists()


def test_a_key_is_replaced_and_entries_of_both_are_believed(project: Project) -> None:
    old = keys(project)["own"]
    found = keys(project, "--replace")
    assert (found["own"] != old, found["is_accepted"]) == (True, True)
    assert found["keys"] == [
        {"key": old, "since": 1, "until": 3}, {"key": found["own"], "since": 2, "until": None},
    ]  # fmt: skip
    workspace_of(project.root).ledger.open().append([RUN])
    done = verified(project)
    assert (done.returncode, "Signed entries that decide: 3." in done.stderr) == (0, True)
    assert (project.root / ".fleetctl" / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_a_replaced_key_signs_nothing_more(project: Project) -> None:
    path = project.root / ".fleetctl" / KEY_FILE
    old = path.read_bytes()
    keys(project, "--replace")
    path.write_bytes(old)
    workspace_of(project.root).ledger.open().append([RUN])
    done = verified(project)
    assert (done.returncode, "which is not accepted" in done.stdout) == (1, True)
    refused = call(project, "evidence", "key", "--replace")
    assert (refused.returncode, "The key cannot be used" in refused.stderr) == (1, True)


def test_a_replacement_that_died_after_its_entry_is_repeated(project: Project) -> None:
    path = project.root / ".fleetctl" / KEY_FILE
    old = path.read_bytes()
    new = keys(project, "--replace")["own"]
    path.rename(path.with_name(f"{KEY_FILE}.next"))
    path.write_bytes(old)
    again = keys(project, "--replace")
    assert (again["own"], again["is_accepted"], len(again["keys"])) == (new, True, 2)


def test_another_machine_signs_once_its_key_is_accepted(project: Project, tmp_path: Path) -> None:
    path = project.root / ".fleetctl" / KEY_FILE
    ours = path.read_bytes()
    path.write_bytes(b"the secret of another machine\n")
    theirs = keys(project)
    assert not theirs["is_accepted"]
    assert "which the ledger does not accept" in call(project, "evidence", "key").stdout
    path.write_bytes(ours)
    found = keys(project, "--accept", theirs["own"])
    assert [its["until"] for its in found["keys"]] == [None, None]
    path.write_bytes(b"the secret of another machine\n")
    workspace_of(tmp_path).ledger.open().append([RUN])
    assert verified(project).returncode == 0


def test_what_is_no_key_is_not_accepted(project: Project) -> None:
    done = call(project, "evidence", "key", "--accept", "bert")
    assert (done.returncode, "64 hex digits" in done.stderr) == (64, True)


def test_a_lost_key_is_replaced_for_a_reason_that_stays_visible(project: Project) -> None:
    (project.root / ".fleetctl" / KEY_FILE).unlink()
    refused = call(project, "evidence", "key", "--replace")
    assert "There is no key here" in refused.stderr
    found = keys(project, "--lost", "the disk is gone")
    assert found["is_accepted"]
    workspace_of(project.root).ledger.open().append([RUN])
    done = verified(project)
    assert done.returncode == 0, done.stdout
    assert "began anew with another key" in done.stderr
    assert "after the loss of all others" in call(project, "history").stdout


def test_an_accepted_key_does_not_begin_anew(project: Project) -> None:
    done = call(project, "evidence", "key", "--lost", "nothing")
    assert (done.returncode, "none has to begin anew" in done.stderr) == (1, True)


def test_a_declared_secret_signs_and_no_file_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Project(tmp_path, ())
    (tmp_path / "fleet.yaml").write_text(
        "fleet: x\nstate: {evidence_key: env:FLEET_KEY}\n", "utf-8"
    )
    workspace_of(tmp_path).ledger.open().append([RUN])
    monkeypatch.setenv("FLEET_KEY", "thirty-two random characters or so")
    workspace_of(tmp_path).ledger.open().append([RUN])
    found = keys(made)
    assert found["keys"] == [{"key": found["own"], "since": 2, "until": None}]
    assert not (tmp_path / ".fleetctl" / KEY_FILE).exists()
    done = verified(made)
    assert "Entries that decide and are not signed: 1." in done.stderr
    refused = call(made, "evidence", "key", "--replace")
    assert "`env:FLEET_KEY` is declared" in refused.stderr
