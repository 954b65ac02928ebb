"""A fleet whose ledger lives in a folder or a database that several checkouts share."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from runtime.ledger.file import LEDGER_FILE
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.ports import free_port
from tests.postgres import PASSWORD, PostgresServer


@dataclass(frozen=True)
class SharedFleet:
    """The quickstart fleet with a home, and a canary of acme-support."""

    project: Project
    uri: str
    """Of the database; empty: the home is a folder."""

    @property
    def state(self) -> Path:
        return self.project.root / ".fleetctl"

    def lose(self, last: int) -> None:
        """Lose the last entries, as a backup that is put back does."""
        if self.uri:
            sql = (
                "delete from fleetctl.entry where seq > (select max(seq) from fleetctl.entry) - %s"
            )
            with psycopg.connect(self.uri) as connection:
                connection.execute("set session_replication_role = replica")
                connection.execute(sql, (last,))
            return
        file = self.project.root / "truth" / LEDGER_FILE
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-last]))

    @contextmanager
    def away(self) -> Iterator[None]:
        """Take the home away while the block runs."""
        with pytest.MonkeyPatch.context() as patch:
            if self.uri:
                closed = f"postgresql://x:{PASSWORD}@127.0.0.1:{free_port()}/x"
                patch.setenv("FLEET_DB", closed)
                yield
                return
            file, aside = self.project.root / "truth" / LEDGER_FILE, self.project.root / "aside"
            file.rename(aside)
            file.mkdir()
            try:
                yield
            finally:
                file.rmdir()
                aside.rename(file)


@pytest.fixture(
    scope="module", params=["file", pytest.param("postgresql", marks=pytest.mark.postgresql)]
)
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedFleet]:
    with pytest.MonkeyPatch.context() as patch:
        home, uri = "{file: truth}", ""
        if request.param == "postgresql":
            server: PostgresServer = request.getfixturevalue("postgresql")
            home, uri = "{postgresql: env:FLEET_DB}", server.database().uri
            patch.setenv("FLEET_DB", uri)
        made = Project.copy(tmp_path_factory.mktemp("fleet") / "project", None)
        file, acme = made.root / "fleet.yaml", made.root / "clients/acme.yaml"
        file.write_text(f"{file.read_text('utf-8')}\nstate: {home}\n", "utf-8")
        for version in ("2.1.0", "2.2.0"):
            acme.write_text(acme.read_text("utf-8").replace('"2.1.0"', f'"{version}"'), "utf-8")
            done = call(made, "apply", "--auto", "--yes")
            assert done.returncode == 0, done.stderr
        yield SharedFleet(made, uri)
        made.clean_up()


def test_the_ledger_is_in_its_home_and_the_copy_in_the_state_folder(fleet: SharedFleet) -> None:
    assert not (fleet.state / LEDGER_FILE).exists()
    assert (fleet.state / "ledger-as-last-read.jsonl").is_file()
    assert json.loads((fleet.state / "home.json").read_text())["fleet"] == "quickstart"
    assert (fleet.project.root / "truth" / LEDGER_FILE).is_file() is not bool(fleet.uri)
    assert call(fleet.project, "plan", "--detailed-exitcode").returncode == 0


def test_an_offline_plan_goes_by_the_local_copy_and_reads_no_uri(
    fleet: SharedFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = str(tmp_path / "live.json")
    saved = call(fleet.project, "plan", "--format", "json", "--save-live", live)
    monkeypatch.setenv("FLEET_DB", PASSWORD)
    done = call(fleet.project, "plan", "--offline", "--live", live, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["plan_id"] == json.loads(saved.stdout)["plan_id"]


def test_a_backup_has_the_ledger_and_a_restore_leaves_the_home_alone(
    fleet: SharedFleet, tmp_path: Path
) -> None:
    file = str(tmp_path / "fleet.tar.gz")
    assert call(fleet.project, "state", "backup", file).returncode == 0
    refused = call(fleet.project, "state", "restore", file)
    assert (refused.returncode, "FC6078" in refused.stderr) == (1, True)
    seen = call(fleet.project, "history", "--limit", "0").stdout
    call(fleet.project, "state", "drill", file)
    later = call(fleet.project, "history", "--limit", "0").stdout
    assert later.count("apply") == seen.count("apply"), "the drill has a ledger of its own"


def test_a_home_that_was_put_back_from_a_backup_gets_what_a_checkout_has_read_since(
    fleet: SharedFleet,
) -> None:
    before = call(fleet.project, "history", "--limit", "0", "--steps").stdout
    fleet.lose(3)
    done = call(fleet.project, "ledger", "restore")
    assert done.returncode == 0, done.stderr
    assert "Restored" in done.stderr
    assert call(fleet.project, "history", "--limit", "0", "--steps").stdout.startswith(before)
    assert "whole" in call(fleet.project, "ledger", "restore").stderr
    assert call(fleet.project, "evidence", "verify").returncode == 0


def test_while_the_home_is_away_a_rollback_works_and_is_delivered_once(fleet: SharedFleet) -> None:
    with fleet.away():
        for words in (("plan",), ("apply", "--auto", "--yes")):
            refused = call(fleet.project, *words)
            assert (refused.returncode, "FC5107" in refused.stderr) == (1, True), refused.stderr
            assert PASSWORD not in refused.stdout + refused.stderr
        back = call(fleet.project, "rollback", "acme-support", "--reason", "home away")
        assert back.returncode == 0, back.stderr
        assert len(list((fleet.state / "queued").glob("[!.]*.json"))) >= 1
    for _ in range(2):
        told = call(fleet.project, "history", "acme-support", "--limit", "0").stdout
        assert told.count("home away") == 1, told
    assert not list((fleet.state / "queued").glob("[!.]*.json"))
