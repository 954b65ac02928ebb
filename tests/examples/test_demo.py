"""The demo's story, which checks itself: each command's exit code, the split, the answers."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

TOLD = (
    "No changes.",
    "2.2.0 0 % -> 10 %, 2.1.0 100 % -> 90 %",
    "every user got the same version both times",
    "acme-support back on 2.1.0 in",
    "Drift: 1 cause, 10 resources.",
    "No drift",
)
PORTS = (8080, 8100)
"""The gateway's and the server's; both are free again afterwards."""
ANSWERS = ("queue=billing priority=P1", "2031-03-14", "battery=pos")


def play(engine: str) -> str:
    command = [sys.executable, "examples/demo.py", "--engine", engine]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert [port for port in PORTS if taken(port)] == []
    return done.stdout


def taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_story_on_the_fake_server() -> None:
    told = play("fake")
    assert [line for line in TOLD if line not in told] == []


@pytest.mark.live
def test_the_story_on_a_real_vllm(vllm_python: Path) -> None:
    assert vllm_python.exists()
    told = play("vllm")
    assert [line for line in (*TOLD, *ANSWERS) if line not in told] == []
