"""Servers that are asked how many tokens a stream had: those that fail, are slow, or are others."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from runtime.gateway import recounts
from runtime.gateway.endpoints import MESSAGES, RESPONSES
from runtime.gateway.recounts import HELD, Recounts, Stopped
from runtime.gateway.typed_events import KEPT, Sent, TypedEvents
from runtime.gateway.unsettled import Unsettled
from runtime.gateway.usage import Tokens
from tests.runtime.gateway.sockets import Script, scripted
from tests.runtime.gateway.stage import OLD
from tests.runtime.gateway.test_recounts import Server

LENGTH = KEPT // 1000 - 1
"""Of a piece of which a thousand are kept."""


async def recounted(
    tmp_path: Path, sent: Sent, *scripts: Script, path: str = MESSAGES, patience_s: float = 20
) -> list[tuple[Tokens, str]]:
    """Return what is found out, with servers of its own."""
    found: list[tuple[Tokens, str]] = []
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(scripted(each)) for each in scripts]
        asking = Recounts(Unsettled(tmp_path), patience_s)
        told = 7 if path == MESSAGES else None
        stopped = Stopped("1", tuple(urls), path, OLD, b"{}", sent, told)
        assert asking.start(stopped, lambda tokens, how: found.append((tokens, how)))
        while asking._running:
            await asyncio.wait(asking._running)
        await asking.close()
    return found


async def silent(reader: asyncio.StreamReader, *_: object) -> None:
    await reader.read()


SENT = Sent(b"one two", [3, 7], 0)


@pytest.mark.parametrize(
    ("per_token", "beyond", "made", "how"),
    [(LENGTH, 0, 1000, "text"), (LENGTH, 7, 1007, "pieces"), (None, 7, 1007, "pieces")],
)
def test_of_a_very_long_answer_the_end_is_counted_by_pieces(
    tmp_path: Path, per_token: int | None, beyond: int, made: int, how: str
) -> None:
    events = TypedEvents()
    event = json.dumps({"type": "a.delta", "delta": "x" * LENGTH})
    for _ in range(1000 + beyond):
        events.feed(f"data: {event}\n".encode())
    sent = events.sent
    assert sent is not None
    assert (len(sent.ends), sent.beyond, len(sent.text)) == (1000, beyond, 1000 * LENGTH)
    found = asyncio.run(recounted(tmp_path, sent, Server(per_token).play))
    assert found == [(Tokens(7, made), how)]


def test_a_server_that_does_not_answer_is_waited_for_so_long(tmp_path: Path) -> None:
    found = asyncio.run(recounted(tmp_path, SENT, silent, patience_s=0.01))
    assert found == [(Tokens(7, 2), "pieces")]


def test_many_are_not_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        stopped = Stopped("1", (), MESSAGES, OLD, bytes(HELD), SENT, 7)
        assert not Recounts(Unsettled(tmp_path)).start(stopped, lambda *_: None)

    asyncio.run(scenario())


def test_a_server_that_fails_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recounts, "PAUSES_S", (0.0,))
    found = asyncio.run(recounted(tmp_path, SENT, Server(fails=3).play))
    assert found == [(Tokens(7, len("one two")), "text")]


def test_another_server_of_the_version_counts_the_answer_and_reads_no_prompt(
    tmp_path: Path,
) -> None:
    first, second = Server(None), Server()
    found = asyncio.run(recounted(tmp_path, SENT, first.play, second.play, path=RESPONSES))
    assert found == [(Tokens(None, len("one two")), "text")]
    assert {path for path, _ in second.asked} == {"/tokenize"}
