"""A gate that fails takes the traffic back while the database of the ledger is away."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.fleetctl.rollouts.test_gate_without_ledger import (
    NEW,
    OLD,
    ask,
    made_with_bad_version,
    shares,
)
from tests.ports import free_port
from tests.postgres import PASSWORD, FreshDatabase

pytestmark = [pytest.mark.postgresql, pytest.mark.long]


@pytest.fixture
def project(
    database: FreshDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    monkeypatch.setenv("FLEET_DB", database.uri)
    yield from made_with_bad_version(tmp_path, "\nstate: {postgresql: env:FLEET_DB}\n")


def test_a_version_that_fails_is_taken_back_and_that_is_delivered_once(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shares(project) == {NEW: 50, OLD: 50}
    with monkeypatch.context() as patch:
        patch.setenv("FLEET_DB", f"postgresql://x:{PASSWORD}@127.0.0.1:{free_port()}/x")
        for _ in range(2):
            done = call(project, "reconcile", "--once")
            assert done.returncode == 1, done.stderr
            assert PASSWORD not in done.stdout + done.stderr
            assert shares(project) == {NEW: 0, OLD: 100}
        assert ask(project, 1)
        status = call(project, "status", "--client", "acme")
        assert "held: 2.2.0" in status.stdout
        assert call(project, "plan").returncode == 1
    for _ in range(2):
        told = call(project, "history", "acme-support", "--limit", "0").stdout
        assert told.count("rolled acme-support back") == 1, told
    assert call(project, "reconcile", "--once").returncode == 0
    assert call(project, "evidence", "verify").returncode == 0
    assert shares(project) == {NEW: 0, OLD: 100}
