"""A server whose clients ask while it is measured: refused, given up early, or told of."""

import json
import re
import subprocess
import threading
import urllib.request
from typing import Self

import pytest

from tests.fleetctl.project_on_disk import Project

SERVER = "tiny-laptop-cpu0"


def quick(project: Project) -> tuple[str, ...]:
    """A short measurement, whose answers are long beside another process's turn."""
    how = (
        ("100", "4") if project.options else ("32", "8")
    )  # the fake server makes 500 tokens a second
    return ("--tokens", how[0], "--largest-batch", how[1])


def out(project: Project) -> tuple[str, ...]:
    """Name the profile: that of a fake server is not kept otherwise."""
    return ("--out", str(project.root / "calibration" / "tiny-cpu-r16.json"))


class Clients:
    """Requests straight to the server, two at a time: one is there while the other ends."""

    def __init__(self, project: Project, tokens: int) -> None:
        text = (project.root / "fleet.yaml").read_text(encoding="utf-8")
        [port] = re.findall(r"port: (\d+)", text)[:1]
        self.url = f"http://127.0.0.1:{port}/v1/completions"
        self.body = json.dumps(
            {"model": "tiny", "prompt": [11, 12, 13], "max_tokens": tokens, "ignore_eos": True}
        ).encode()
        self.stop, self.answered = threading.Event(), threading.Event()
        self.threads = [threading.Thread(target=self.ask, daemon=True) for _ in range(2)]

    def ask(self) -> None:
        while not self.stop.is_set():
            self.one()
            self.answered.set()

    def one(self) -> None:
        head = {"content-type": "application/json"}
        asked = urllib.request.Request(self.url, self.body, head)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            answer.read()

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        assert self.answered.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(60)


@pytest.mark.live
@pytest.mark.long
@pytest.mark.parametrize("applied", ["vllm"], indirect=True)  # the fake answers at once
def test_a_server_that_clients_use_is_left_alone(project: Project) -> None:
    with Clients(project, tokens=400):
        done = project.run("calibrate", SERVER, "--rounds", "2", *quick(project))
    assert done.returncode == 1
    assert "FC4061" in done.stderr
    assert re.search(r"has \d+ requests? of its clients right now", done.stderr)
    assert not [*project.root.glob("calibration/*")]


@pytest.mark.parametrize("applied", ["fake"], indirect=True)
def test_a_client_that_comes_meanwhile_ends_the_measurement_and_nothing_is_kept(
    project: Project,
) -> None:
    measuring = subprocess.Popen(
        project.command("calibrate", SERVER, "--rounds", "9", *quick(project), *out(project)),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert measuring.stderr is not None
    told = []
    for line in measuring.stderr:
        told.append(line)
        if "round 1 of" in line:
            Clients(project, tokens=8).one()
            break
    told += [*measuring.stderr]
    assert measuring.wait(300) == 1
    said = " ".join("".join(told).split())
    assert "FC4061" in said
    assert "1 request of clients ran during the measurement" in said
    assert "round 9 of" not in said  # given up after the round in which it came
    assert not [*project.root.glob("calibration/*")]


@pytest.mark.parametrize("applied", ["fake"], indirect=True)
def test_with_force_it_is_measured_and_the_profile_says_that_clients_were_there(
    project: Project,
) -> None:
    path = project.root / "calibration" / "tiny-cpu-r16.json"
    with Clients(project, tokens=16):
        done = project.run(
            "calibrate", SERVER, "--rounds", "2", *quick(project), "--force", *out(project)
        )
    assert done.returncode == 0, done.stderr
    document = json.loads(path.read_text(encoding="utf-8"))
    [note] = document["notes"]
    assert re.match(r"\d+ requests of clients ran during the measurement; the figures", note)
    assert note[:20] in done.stdout + done.stderr
    assert document["speed"]["step_s"] > 0
