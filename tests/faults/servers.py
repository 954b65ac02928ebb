"""Faults of servers, and of adapters on servers."""

import os
import shutil
import signal
import time
from threading import Thread

from tests.faults.actions import Person, delete, gateway_killed, overwrite, void
from tests.faults.client import ask
from tests.faults.stage import DATES, REVIEWS, SUPPORT, Stage


def engine_killed(stage: Stage) -> None:
    stage.kill_server(stage.record_of(stage.url_of(DATES)))


def engine_crashed(stage: Stage) -> None:
    stage.kill_server(stage.record_of(stage.url_of(DATES)), signal.SIGABRT)


def replica_dead(stage: Stage) -> None:
    (url,) = set(stage.holders(SUPPORT)) - {stage.url_of(DATES)}
    stage.kill_server(stage.record_of(url))


def frozen(stage: Stage) -> None:
    os.killpg(stage.record_of(stage.url_of(DATES))["pid"], signal.SIGSTOP)


def slow(stage: Stage) -> None:
    """A server gets a fifth of its time for a while: slow is not dead."""
    pid = stage.record_of(stage.url_of(DATES))["pid"]

    def press() -> None:
        for _ in range(25):
            os.killpg(pid, signal.SIGSTOP)
            time.sleep(0.32)
            os.killpg(pid, signal.SIGCONT)
            time.sleep(0.08)

    thread = Thread(target=press)
    thread.start()
    while thread.is_alive():
        stage.run("reconcile", "--once")
    assert stage.record_of(stage.url_of(DATES))["pid"] == pid, "a slow server was replaced"


def by_hand(stage: Stage) -> None:
    record = stage.record_of(stage.url_of(DATES))
    stage.kill_server(record)
    stage.start_by_hand(record)


def by_hand_otherwise(stage: Stage) -> Person:
    record = stage.record_of(stage.url_of(DATES))
    stage.kill_server(record)
    stage.start_by_hand(record, ("--max-loras", "2"), ("--served-model-name", "tiny"))

    def end(stage: Stage) -> None:
        stage.hands[-1].kill()
        stage.hands[-1].wait()

    return end


def reboot(stage: Stage) -> None:
    """Every process ends, and files that live in memory are gone."""
    for record in stage.servers().values():
        stage.kill_server(record)
    gateway_killed(stage)
    for path in stage.state.glob("gateways/*/*"):
        if path.name == "run.lock" or path.is_socket():
            path.unlink()


def unloaded(stage: Stage) -> None:
    stage.post(stage.url_of(DATES), "unload", DATES)


def other_path(stage: Stage) -> None:
    stage.reload(stage.url_of(DATES), DATES, stage.library(DATES))


def wrong_path(stage: Stage) -> Person | None:
    """Other bytes from a folder that has the right digest as its name."""
    folder = stage.project.root.with_name("elsewhere") / stage.digest(DATES)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(stage.library(REVIEWS), folder)
    stage.client.paused.add("corvid-dates")
    stage.reload(stage.url_of(DATES), DATES, folder)
    return None


def rogue(stage: Stage) -> Person:
    url = stage.url_of(DATES)
    stage.post(url, "load", "somebody-else", stage.library(REVIEWS))
    return lambda stage: void(stage.post(url, "unload", "somebody-else"))


def overwritten_resident(stage: Stage) -> None:
    overwrite(stage.copy(DATES), stage.library(REVIEWS))


def overwritten_evicted(stage: Stage) -> None:
    stage.client.paused.add("corvid-dates")
    stage.evict(stage.url_of(DATES))
    overwrite(stage.copy(DATES), stage.library(REVIEWS))


def overwritten_and_read(stage: Stage) -> None:
    """The server reads the damaged copy again before anybody looks."""
    overwritten_evicted(stage)
    ask(stage.url_of(DATES), DATES, "Invoice dated May 4 2011")
    stage.client.paused.clear()


def deleted_resident(stage: Stage) -> None:
    delete(stage.copy(DATES))


def deleted_evicted(stage: Stage) -> None:
    stage.client.paused.add("corvid-dates")
    stage.evict(stage.url_of(DATES))
    delete(stage.copy(DATES))
    stage.client.paused.clear()
