"""A checkpoint that a person edited decides, until `evidence verify` names it."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

from fleet.history import RetrainClaimed
from fleetctl.wiring import open_workspace
from runtime.ledger.checkpoint import CHECKPOINT_FILE, EVERY
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

LATER = datetime(2099, 1, 1, tzinfo=UTC)


def test_evidence_verify_names_a_checkpoint_that_was_edited(tmp_path: Path) -> None:
    project = Project(tmp_path, ())
    workspace = open_workspace(tmp_path, None, {}, tmp_path / ".fleetctl")
    workspace.ledger.open().append([RetrainClaimed("acme-x", "bert", LATER, "data")] * EVERY)
    assert set(workspace.ledger.history().claims) == {"acme-x"}
    path = tmp_path / ".fleetctl" / CHECKPOINT_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert call(project, "evidence", "verify").returncode == 0
    document = json.loads(path.read_bytes().partition(b"\n")[2])
    document["history"]["claims"] = {}
    body = json.dumps(document).encode()
    path.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    again = open_workspace(tmp_path, None, {}, tmp_path / ".fleetctl")
    assert not again.ledger.history().claims
    found = call(project, "evidence", "verify")
    assert found.returncode == 1
    assert f"{path} was edited" in found.stdout
    shown = call(project, "evidence", "verify", "--format", "json")
    assert json.loads(shown.stdout)["checkpoint_forged"] is True
    path.unlink()
    assert call(project, "evidence", "verify").returncode == 0
