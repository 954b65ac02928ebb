"""Backups of the state folder: whole or refused, restored whole or not at all, and tried."""

import json
import shutil
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runtime.ledger.file import FileLedger
from tests.fleetctl.backups import content, members, state
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    yield from applied(tmp_path_factory.mktemp("fleet"))


def entries(project: Project) -> list[dict[str, Any]]:
    shown = call(project, "history", "--limit", "0", "--steps", "--format", "json")
    assert shown.returncode == 0, shown.stderr
    return [json.loads(line) for line in shown.stdout.splitlines()]


def test_a_backup_is_for_its_owner_and_holds_no_secret(project: Project, backup: Path) -> None:
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    found = members(backup)
    whole = b"".join(found.values())
    keys = list((project.root / ".fleetctl/keys").iterdir())
    assert len(keys) == 7
    for path in [*keys, project.root / ".fleetctl/operator.secret"]:
        if path.exists():
            assert path.read_bytes().strip() not in whole
    manifest = json.loads(found["manifest.json"])
    assert set(manifest["fingerprints"]) == {f"key/{path.name.replace('-', '/')}" for path in keys}
    assert all(manifest["fingerprints"].values())
    assert manifest["left_out"]["store"] > 0
    assert not any(name.startswith("state/store") for name in found)


def test_a_file_that_is_there_is_not_overwritten(project: Project, backup: Path) -> None:
    before = backup.read_bytes()
    refused = call(project, "state", "backup", str(backup))
    assert (refused.returncode, "FC6070" in refused.stderr) == (1, True)
    assert backup.read_bytes() == before
    assert [path.name for path in backup.parent.iterdir()] == [backup.name]


def test_keys_are_in_a_backup_if_asked(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "keys.tar.gz"
    assert call(project, "state", "backup", str(file), "--with-keys").returncode == 0
    key = (project.root / ".fleetctl/keys/acme-prod").read_bytes()
    assert members(file)["state/keys/acme-prod"] == key
    moved = Project(project.root, (*project.options, "--state-dir", str(tmp_path / "state")))
    assert call(moved, "state", "restore", str(file)).returncode == 0
    restored = tmp_path / "state/keys/acme-prod"
    assert (restored.read_bytes(), stat.S_IMODE(restored.stat().st_mode)) == (key, 0o600)


def test_a_lost_state_comes_back_with_its_ledger_and_goes_on(
    project: Project, backup: Path, elsewhere: Project
) -> None:
    done = call(elsewhere, "state", "restore", str(backup), "--format", "json")
    assert done.returncode == 0, done.stderr
    seq = json.loads(done.stdout)["entries"]
    found = entries(elsewhere)
    assert [entry["hash"] for entry in found[:seq]] == [e["hash"] for e in entries(project)[:seq]]
    assert found[seq]["kind"] == "restored"
    assert call(elsewhere, "evidence", "verify").returncode == 0
    for command in (("status",), ("drift",), ("plan",)):
        assert call(elsewhere, *command).returncode in (0, 2)


def test_the_state_of_a_running_fleet_is_restored_under_it(project: Project, backup: Path) -> None:
    before = json.loads(call(project, "server", "list", "--format", "json").stdout)
    restored = call(project, "state", "restore", str(backup))
    assert restored.returncode == 0, restored.stderr
    assert json.loads(call(project, "server", "list", "--format", "json").stdout) == before
    drift = call(project, "drift")
    assert drift.returncode == 0, drift.stdout
    assert call(project, "plan", "--detailed-exitcode").returncode == 0


def test_a_state_that_is_ahead_needs_force_and_is_set_aside(
    backup: Path, elsewhere: Project
) -> None:
    assert call(elsewhere, "state", "restore", str(backup)).returncode == 0
    assert call(elsewhere, "freeze", "--reason", "later").returncode == 0
    before = content(state(elsewhere))
    refused = call(elsewhere, "state", "restore", str(backup))
    assert (refused.returncode, "FC6073" in refused.stderr) == (1, True)
    assert "has 1 entries that it lacks" in " ".join(refused.stderr.split())
    assert content(state(elsewhere)) == before
    forced = call(elsewhere, "state", "restore", str(backup), "--force", "--format", "json")
    assert forced.returncode == 0, forced.stderr
    aside = state(elsewhere) / json.loads(forced.stdout)["aside"]
    assert aside.read_bytes() == before["ledger.jsonl"]
    assert "froze" not in call(elsewhere, "history", "--limit", "0").stdout


def test_a_lost_ledger_whose_copy_is_ahead_needs_force(backup: Path, elsewhere: Project) -> None:
    assert call(elsewhere, "state", "restore", str(backup)).returncode == 0
    assert call(elsewhere, "freeze", "--reason", "later").returncode == 0
    (state(elsewhere) / "ledger.jsonl").unlink()
    refused = call(elsewhere, "state", "restore", str(backup))
    assert (refused.returncode, "FC6073" in refused.stderr) == (1, True)


def test_a_damaged_ledger_is_replaced_and_set_aside(backup: Path, elsewhere: Project) -> None:
    assert call(elsewhere, "state", "restore", str(backup)).returncode == 0
    ledger = state(elsewhere) / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join([lines[0].replace(b"apply", b"appll"), *lines[1:-1]]))
    assert "FC5102" in call(elsewhere, "history").stderr
    restored = call(elsewhere, "state", "restore", str(backup), "--format", "json")
    assert restored.returncode == 0, restored.stderr
    assert json.loads(restored.stdout)["aside"]
    assert call(elsewhere, "history").returncode == 0


def test_a_run_that_holds_the_lease_is_not_overtaken(backup: Path, elsewhere: Project) -> None:
    ledger = FileLedger(state(elsewhere), run="r", by="ann", clock=lambda: datetime.now(UTC))
    with ledger.lease("ann (run r)"):
        refused = call(elsewhere, "state", "restore", str(backup))
    assert (refused.returncode, "FC5104" in refused.stderr) == (5, True)
    assert content(state(elsewhere)).keys() == {"lease.json"}


def test_fencing_tokens_go_on_after_a_restore(backup: Path, elsewhere: Project) -> None:
    assert call(elsewhere, "state", "restore", str(backup)).returncode == 0
    newest = json.loads((state(elsewhere) / "routes.json").read_bytes())["token"]
    assert json.loads((state(elsewhere) / "lease.json").read_bytes())["token"] >= newest > 0


class Killed(BaseException):
    """The end of a process, as SIGKILL brings it about."""


@pytest.mark.parametrize("last", range(12))
def test_a_restore_killed_anywhere_leaves_the_old_or_the_new_state(
    last: int, backup: Path, elsewhere: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(elsewhere, "state", "restore", str(backup)).returncode == 0
    assert call(elsewhere, "freeze", "--reason", "old").returncode == 0
    old = content(state(elsewhere))
    moves = 0

    def killed_at(real: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def move(path: Path, target: Path) -> Path:
            nonlocal moves
            moves += 1
            if moves > last:
                raise Killed
            return real(path, target)

        return move

    with monkeypatch.context() as patch:
        for name in ("rename", "replace"):
            patch.setattr(Path, name, killed_at(getattr(Path, name)))
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # a killed process clears nothing
        try:
            call(elsewhere, "state", "restore", str(backup), "--force")
        except Killed:
            pass
        else:
            assert last >= moves
    found = entries(elsewhere)  # the next command
    now = content(state(elsewhere))
    assert not (state(elsewhere) / "restoring").exists()
    if now["ledger.jsonl"] == old["ledger.jsonl"]:
        assert now == old
    else:
        assert found[-1]["kind"] == "restored"
        assert now["ledger.jsonl"] == now["ledger-as-last-read.jsonl"]
        assert (state(elsewhere) / "ledger-before-restore.1.jsonl").exists()
