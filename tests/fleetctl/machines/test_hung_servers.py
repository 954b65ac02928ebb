"""A server that hangs is replaced by rounds of reconcile, not by looking, and not for ever."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.processes import start_mark
from tests.faults.stage import DATES, Stage
from tests.fleetctl.in_process import call
from tests.fleetctl.outage_checks import left, outages, the_outage
from tests.fleetctl.project_on_disk import Project, applied


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied, with a gateway that fleetctl started."""
    for made in applied(tmp_path_factory.mktemp("fleet")):
        assert call(made, "gateway", "start").returncode == 0
        yield made


@pytest.fixture
def impatient(project: Project) -> Iterator[str]:
    """The server's name, where `reconcile` replaces it after a moment of silence."""
    file = project.root / "fleet.yaml"
    kept = file.read_text("utf-8")
    file.write_text(kept.replace("    port:", "    restart_after: 1s\n    port:", 1), "utf-8")
    yield "tiny-laptop-cpu0"
    file.write_text(kept, "utf-8")


def freeze_server(project: Project) -> int:
    (pid,) = project.server_processes()
    os.kill(pid, signal.SIGSTOP)
    return pid


@pytest.mark.long
def test_a_frozen_server_is_replaced_twice_an_hour_and_then_given_up(
    project: Project, impatient: str
) -> None:
    for _ in range(2):
        pid = freeze_server(project)
        assert left(project) == [("server_hung", f"server/{impatient}")]
        (told,) = outages(project)  # 10 seconds of waiting for answers pass meanwhile
        assert told["since"] is not None
        assert (told["remedy"], told["command"]) == ("heal", "fleetctl reconcile --once")
        assert left(project) == []
        assert start_mark(pid) is None
        assert project.server_processes() != [pid]
    history = call(project, "history", "--steps", "--limit", "0").stdout
    assert history.count(f"done  stop server/{impatient}") == 2
    pid = freeze_server(project)
    assert left(project) == [("server_hung", f"server/{impatient}")]
    assert left(project) == [("server_hung", f"server/{impatient}")]
    assert "given up, as it was replaced 2 times within the hour" in the_outage(project)[2]
    os.kill(pid, signal.SIGCONT)
    assert left(project) == []


@pytest.mark.long
def test_a_server_is_replaced_by_rounds_and_not_by_looking(
    project: Project, impatient: str
) -> None:
    pid = freeze_server(project)
    (told,) = outages(project)  # drift and status look, three times in all
    assert (told["subject"], told["remedy"]) == (f"server/{impatient}", "alert")
    os.kill(pid, signal.SIGCONT)
    assert project.server_processes() == [pid]


@pytest.mark.long
def test_a_server_with_room_answers_while_a_hung_one_is_replaced(tmp_path: Path) -> None:
    stage = Stage.raise_up(tmp_path / "fleet", None)
    try:
        hung = stage.record_of(stage.url_of(DATES))
        (other,) = (each for each in stage.servers().values() if each["name"] != hung["name"])
        host = f"  {hung['host']}:\n"
        stage.edit("fleet.yaml", (host, f"{host}    restart_after: 1s\n"))
        os.killpg(hung["pid"], signal.SIGSTOP)
        assert left(stage.project) == [("server_hung", f"server/{hung['name']}")]
        time.sleep(1)
        assert left(stage.project) == []
        history = stage.must("history", "--steps", "--limit", "0").stdout
        steps = re.findall(r"(begins|done) +(\S.*)", history)
        diverted = steps.index(("done", "divert route/corvid-dates"))
        assert ("done", f"load adapter/{DATES}@{other['name']}") in steps[:diverted]
        assert ("done", "set route/corvid-dates") in steps[diverted:]
        assert DATES in stage.listed(other["url"])
        plan = stage.run("plan").stdout
        assert "Changes: 1 adapter to unload." in plan
        assert f"- unload  adapter/{DATES}@{other['name']}" in plan
    finally:
        stage.clean_up()
