"""A notice that is not taken stops nothing, and nobody waits for it longer than it may take."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from runtime.notify.delivery import deliver
from runtime.trust import Trust, dump_trust, trust_path, write_trust
from tests.ports import free_port


def _trust(monkeypatch: pytest.MonkeyPatch, home: Path, host: str) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    trust_path().parent.mkdir(mode=0o700)
    write_trust(trust_path(), dump_trust(Trust(hosts={host: ()})), home / "project")


@pytest.fixture
def silent() -> Any:
    """A webhook that takes a connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/hook"


def test_one_that_does_not_answer_is_given_up(silent: str) -> None:
    assert asyncio.run(deliver(silent, {"text": "x"}, 0.2)) == "no answer within 0.2 s"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (lambda: f"http://127.0.0.1:{free_port()}/T0K3N", "no connection"),
        (lambda: "http://no-such-host.invalid/T0K3N", "no connection"),
        (lambda: "http://[broken/T0K3N", "its URL is none"),
    ],
)
def test_why_it_was_not_taken_never_says_where_it_was_sent(
    url: Callable[[], str], why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _trust(monkeypatch, tmp_path, "no-such-host.invalid:80")
    assert asyncio.run(deliver(url(), {"text": "x"})) == why


def test_a_resolver_that_hangs_keeps_neither_the_caller_nor_the_end_of_the_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _trust(monkeypatch, tmp_path, "hook.example:80")
    answered, asked = Event(), Event()

    def hangs(*_: object, **__: object) -> list[Any]:
        asked.set()
        answered.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    found: list[str] = []
    program = Thread(
        target=lambda: found.append(asyncio.run(deliver("http://hook.example/x", {}, 0.2))),
        daemon=True,
    )
    program.start()
    program.join(60)
    ended = not program.is_alive()
    answered.set()
    assert (asked.is_set(), ended, found) == (True, True, ["no answer within 0.2 s"])
