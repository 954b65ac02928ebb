"""The attacks of `make bench-attack`: what one client with a valid key can send.

    .venv/bin/python -m tests.bench.attacks NAME URL MODEL    # plays an attack until it is killed

An attack is a coroutine that goes on for ever; `attack` starts it `connections` times. Bodies are
made before the attack begins.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import uvloop

from tests.runtime.gateway.stage import ACME, CHAT, TEXT, chat

PIECE: Final = 2**20
"""Bytes that are written at a time."""
LARGE: Final = 15_000_000
PATIENCE_S: Final = 3.0
PATTERN: Final = {"type": "string", "pattern": "^[a-z]{3,40}$"}


@dataclass(frozen=True)
class Target:
    """The gateway under attack, and the attacker's model there."""

    url: str
    model: str


@dataclass(frozen=True)
class Attack:
    """An attack: `make` makes what is sent, which `connections` send again and again."""

    make: Callable[[str], list[bytes]]
    """From the model to requests."""
    connections: int = 4
    is_for_engines: bool = False
    """Whether an engine is the target, so that a real vLLM is worth the time."""
    play: Callable[[Target, list[bytes]], Awaitable[None]] | None = None
    """None: the requests are sent one after the other, each on a connection of its own."""


def posted(body: dict[str, Any] | bytes, key: str = ACME, path: str = CHAT) -> bytes:
    """Return a request as bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
    )
    return head.encode() + raw


async def exchange(url: str, pieces: Iterable[bytes]) -> int:
    """Send a request on a new connection, read the answer to its end, and return its status.

    Raises:
        OSError, asyncio.IncompleteReadError: the connection ended without an answer.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        with suppress(ConnectionError):  # refused early; the answer may be there all the same
            for piece in pieces:
                for start in range(0, len(piece), PIECE):
                    writer.write(piece[start : start + PIECE])
                    await writer.drain()
        status = int((await reader.readuntil(b"\r\n")).split()[1])
        while await reader.read(PIECE):
            pass
        return status
    finally:
        writer.transport.abort()


async def again(target: Target, requests: list[bytes]) -> None:
    """Send the requests one after the other, for ever."""
    while True:
        for request in requests:
            with suppress(OSError, asyncio.IncompleteReadError):
                await exchange(target.url, [request])


async def drip(target: Target, requests: list[bytes]) -> None:
    """Send a request a byte a second, and again on a new connection once it is refused."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", int(target.url.rpartition(":")[2])
            )
            head, _, body = requests[0].partition(b"\r\n\r\n")
            writer.write(head + b"\r\n\r\n")
            for place in range(len(body)):
                if reader.at_eof() or writer.is_closing():
                    break
                writer.write(body[place : place + 1])
                await asyncio.sleep(1.0)
            writer.transport.abort()


async def leave(target: Target, requests: list[bytes]) -> None:
    """Send a request and leave after a while, for ever."""
    while True:
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await exchange(target.url, requests)


def _slow(model: str) -> list[bytes]:
    return [posted(chat(model, suffix="slow"))]


def _drops(model: str) -> list[bytes]:
    return [posted(chat(model, "x" * 10_000))]


def _fails(model: str) -> list[bytes]:
    return [posted(chat(model, suffix="fail"))]


def _bodies(model: str) -> list[bytes]:
    texts = ("x" * LARGE, "é" * (LARGE // 2), "\\" * (LARGE // 2))
    return [
        posted(json.dumps(chat(model, text), ensure_ascii=False).encode()) for text in texts
    ] + [
        posted(
            b'{"model": "%b", "prompt": [%b""]}' % (model.encode(), b'"",' * 5_000_000), path=TEXT
        )
    ]


def _names(model: str) -> list[bytes]:
    start, count = json.dumps(chat(model)).encode()[:-1], 900_000
    many = b",".join(b'"%d":1' % number for number in range(count))
    some = b",".join(b'"%d":1' % number for number in range(99_000))
    long = b'"%b":1' % (b"x" * LARGE)
    return [posted(b"%b,%b}" % (start, names)) for names in (many, long, some)]


def _in_chunks(model: str, size: int) -> list[bytes]:
    text = json.dumps(chat(model, "x" * 4_000_000)).encode()
    head = posted(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    parts = (text[start : start + size] for start in range(0, len(text), size))
    return [head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"]


def _extended(_: str) -> list[bytes]:
    head = posted(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    head = head.replace(b"Connection: close\r\n", b"")
    chunks = b"".join(b"1;%b\r\n%c\r\n" % (b"x" * 10_000, byte) for byte in b'{"a":1')
    return [(head + chunks + b"0\r\n\r\n") * 100]


def _ahead(model: str) -> list[bytes]:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ACME}\r\nContent-Length: 2"
    return [f"{head}\r\n\r\n{{}}".encode() * 10_000 + posted(chat(model))]


def _answers(model: str) -> list[bytes]:
    return [posted(chat(model, suffix="answer"))]


def _lines(model: str) -> list[bytes]:
    return [posted(chat(model, suffix="line", stream=True))]


def _schemas(model: str) -> list[bytes]:
    def formed(schema: dict[str, Any]) -> bytes:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        return posted(chat(model, max_tokens=4, response_format=form))

    def properties(count: int, inner: dict[str, Any], **more: Any) -> dict[str, Any]:
        named = {f"p{number}": inner for number in range(count)}
        return {"type": "object", "properties": named, **more}

    return [
        formed(properties(3000, PATTERN)),
        formed(properties(256, {"type": "string"}, minProperties=1)),
        formed(properties(60, PATTERN)),
        formed(properties(256, {"type": "string"})),
        posted(chat(model, max_tokens=4, structured_outputs={"regex": "[a-z]?" * 80})),
        posted(chat(model, max_tokens=4, structured_outputs={"regex": "([a-z]*)*" * 50})),
    ]


def _engine(model: str) -> list[bytes]:
    fields: list[dict[str, Any]] = [
        {"stop_token_ids": list(range(200)), "min_tokens": 2},
        {"allowed_token_ids": list(range(2000))},
        {"logit_bias": {str(number): 1 for number in range(2000)}},
        {"bad_words": ["abcdefgh"] * 300},
        {"min_tokens": 2**31},
        {"thinking_token_budget": 2**31},
        {"stop_token_ids": list(range(120)), "min_tokens": 2},
    ]
    return [posted(chat(model, max_tokens=4, **field)) for field in fields]


ATTACKS: Final[dict[str, Attack]] = {
    "large bodies": Attack(_bodies),
    "names of bodies": Attack(_names),
    "chunks of 2 bytes": Attack(partial(_in_chunks, size=2), connections=8),
    "60 KB of extensions around 6 bytes": Attack(_extended, connections=8),
    "chunks of 8 bytes": Attack(partial(_in_chunks, size=8), connections=200),
    "requests sent ahead": Attack(_ahead, connections=200),
    "answers of 600 MB": Attack(_answers, connections=2),
    "lines without end": Attack(_lines, connections=2),
    "bodies on 600 connections": Attack(_drops, connections=600, play=drip),
    "300 answers of 8 s": Attack(_slow, connections=300),
    "500s": Attack(_fails, connections=12),
    "100 that leave after 3 s": Attack(_slow, connections=100, play=leave),
    "schemas": Attack(_schemas, is_for_engines=True),
    "fields that end an engine": Attack(_engine, is_for_engines=True),
}
"""By name, in the order of the table."""


async def _play(name: str, target: Target) -> None:
    attack = ATTACKS[name]
    requests, play = attack.make(target.model), attack.play or again
    print("ready", flush=True)
    await asyncio.gather(*(play(target, requests) for _ in range(attack.connections)))


if __name__ == "__main__":
    uvloop.run(_play(sys.argv[1], Target(*sys.argv[2:4])))
