"""A version on its only server is loaded afresh under load: clients wait, and none is refused."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event, Thread

import pytest

from fleet.history import StepFinished
from runtime.ledger.file import FileLedger
from tests.faults import servers
from tests.faults.actions import APPLY, RECONCILE
from tests.faults.client import ask
from tests.faults.stage import DATES, Stage

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
