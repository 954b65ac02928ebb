"""The demo's story, which checks itself: each command's exit code, the split, the answers."""

import re
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

TOLD = (
    "No changes.",
    "2.2.0 0 % -> 10 %, 2.1.0 100 % -> 90 %",
    "every user got the same version both times",
    "acme-support back on 2.1.0 in",
    "Drift: 1 cause, 10 resources, 1 outage.",
    "No drift",
    "http://127.0.0.1:8090/",
    "Cost: 0.00 per hour",
)
USUAL = (8080, 8100)
"""Ports of the example's gateway and server."""
ANSWERS = ("queue=billing priority=P1", "2031-03-14", "battery=pos")


def play() -> str:
    """Play the story, and see that it leaves no port taken."""
    command = [sys.executable, "-m", "fleetctl", "demo"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    declared = (REPOSITORY / ".demo/quickstart/fleet.yaml").read_text(encoding="utf-8")
    ports = [int(port) for port in re.findall(r"(?:port: |127\.0\.0\.1:)(\d+)", declared)]
    told = [int(port) for port in re.findall(r"here it is (\d+)\.", done.stdout)]
    assert len(ports) == len(USUAL)
    assert [port for port in ports if listens(port) and port not in USUAL] == []
    assert set(told) == set(ports) - set(USUAL)
    return done.stdout + done.stderr  # the version moves on in a round, which tells of it there


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.live
@pytest.mark.long
def test_the_story_on_a_real_vllm_while_its_usual_ports_are_taken(vllm_python: Path) -> None:
    assert vllm_python.exists()
    with ExitStack() as stack:
        for port in USUAL:
            with suppress(OSError):  # then it is taken already
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
        told = play()
    expected = (*TOLD, *ANSWERS, "Port 8080 is taken")
    assert [line for line in expected if line not in told] == []
