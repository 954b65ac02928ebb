"""A version on its only server is loaded afresh under load: clients wait, and none is refused."""

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event, Thread

import pytest

from fleet.history import StepFinished
from runtime.gateway.admin.state_dir import read_table, write_table
from runtime.ledger.file import FileLedger
from tests.faults import servers
from tests.faults.actions import APPLY, RECONCILE
from tests.faults.client import ask
from tests.faults.stage import DATES, Stage
from tests.fleetctl.project_on_disk import REPOSITORY

ALIAS = "corvid-dates"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A fleet of a single fake server behind a gateway."""
    stage = Stage.raise_up(tmp_path_factory.mktemp("reload") / "fleet", None, servers=1)
    yield stage
    stage.clean_up()


@dataclass
class Crowd:
    """Clients that ask an alias at a steady pace, whether they are answered or not."""

    stage: Stage
    answers: list[Future[tuple[float, int, bool]]] = field(default_factory=list)

    def _one(self, number: int) -> tuple[float, int, bool]:
        """Return when a request was sent, its status, and whether its answer is right."""
        client, began = self.stage.client, time.time()
        question = client.questions[ALIAS][number % len(client.questions[ALIAS])]
        status, text, _ = ask(client.url, ALIAS, question, client.keys[ALIAS])
        return began, status, text == client.answers[DATES][question]

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask twenty times a second while the block runs, and then until all are answered."""
        stop = Event()
        with ThreadPoolExecutor(200) as pool:

            def work() -> None:
                while not stop.wait(0.05):
                    self.answers.append(pool.submit(self._one, len(self.answers)))

            thread = Thread(target=work)
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join()

    def results(self) -> list[tuple[float, int, bool]]:
        return [future.result() for future in self.answers]


def taken_off(stage: Stage) -> datetime:
    """Return when every gateway had acknowledged that the version is on no server."""
    ledger = FileLedger(stage.state, run="r", by="me", clock=datetime.now)
    return max(
        entry.time
        for entry in ledger.read()
        if isinstance(entry.event, StepFinished) and entry.event.step == f"divert route/{ALIAS}"
    )


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        (servers.overwritten_resident, RECONCILE),
        (servers.overwritten_and_read, RECONCILE),
        (servers.overwritten_and_read, APPLY),
        (servers.deleted_resident, RECONCILE),
        (servers.other_path, APPLY),
        (servers.wrong_path, APPLY),
    ],
    ids=["resident", "read", "read, apply", "deleted", "another path", "wrong path"],
)
def test_no_request_fails_while_the_only_server_loads_a_version_again(
    one: Stage, fault: object, remedy: tuple[str, ...]
) -> None:
    assert callable(fault)
    before, crowd = one.copy(DATES), Crowd(one)
    fault(one)
    with crowd.asking():
        done = one.must(*remedy)
        known, asked = taken_off(one), len(crowd.answers)
        while len(crowd.answers) < asked + 20:
            time.sleep(0)
    found = crowd.results()
    assert {status for _, status, _ in found} == {200}, done.stderr
    late = [is_right for began, _, is_right in found if began > known.timestamp()]
    assert len(late) >= 20
    assert all(late)
    assert one.copy(DATES) != before or "path" in str(fault)
    assert one.run("drift").returncode == 0
    assert one.run("plan", "--detailed-exitcode").returncode == 0


@pytest.mark.parametrize("at", ["divert", "load", "smoke"])
def test_a_round_that_is_killed_while_a_version_is_away_is_taken_up_by_the_next(
    one: Stage, at: str
) -> None:
    servers.overwritten_resident(one)
    command = one.project.command("reconcile", "--once", "--format", "json")
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            event = json.loads(line)
            if event["type"] == "step_done" and event["step"].startswith(at):
                running.kill()
                break
    found = one.run("drift")
    assert found.returncode == 2
    assert f"heal] route/{ALIAS}: a run that has not ended took its traffic off" in found.stdout
    assert "no server answers its requests" in found.stdout
    assert one.run("reconcile", "--once").returncode == 0
    assert one.client.probe(ALIAS)
    assert one.run("drift").returncode == 0
    assert one.run("plan", "--detailed-exitcode").returncode == 0


def test_traffic_stays_off_a_version_in_doubt_whose_bytes_are_nowhere_good(one: Stage) -> None:
    servers.overwritten_resident(one)
    table = read_table(one.state)
    assert table is not None
    entry = table.aliases[ALIAS]
    away = entry.model_copy(
        update={"shares": (entry.shares[0].model_copy(update={"servers": ()}),)}
    )
    library = one.file("models/adapters/corvid/dates-v1.0.0")
    ledger = FileLedger(one.state, run="r", by="me", clock=lambda: datetime.now(UTC))
    with ledger.lease("a run that was killed") as lease:
        update = {"revision": table.revision + 1, "token": lease.token}
        write_table(
            one.state, table.model_copy(update={"aliases": {**table.aliases, ALIAS: away}} | update)
        )
    library.rename(library.with_name("aside"))
    done = one.run("reconcile", "--once")
    assert done.returncode == 2, done.stderr
    assert f"Left alone: route/{ALIAS}: a run that has not ended" in done.stderr
    newest = read_table(one.state)
    assert newest is not None
    assert newest.aliases[ALIAS] == away
    library.with_name("aside").rename(library)
    assert one.run("reconcile", "--once").returncode == 0
    assert one.client.probe(ALIAS)
    assert one.run("drift").returncode == 0
