"""A server for `tests.bench.attack` that answers at once; listens on the port that it is given.

It runs 64 requests at a time, the others wait inside in the order of their arrival, and `/metrics`
says how many do. `suffix` of a request asks for what no vLLM would send by itself: `answer` for
JSON of 600 MB, `line` for a stream whose first line has no end, `slow` for an answer of 8 seconds,
`fail` for 500.
"""

import asyncio
import json
import sys
from contextlib import suppress
from typing import Final

import uvloop

from tests.bench.gateway_stub import WHOLE

PIECE: Final = b"x" * 2**16
LARGE: Final = 600_000_000
_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n\r\n"
_LENGTH: Final = b"content-length: %d"
RUNS: Final = 64
SLOW_S: Final = 8.0
_METRICS: Final = b"vllm:num_requests_running %d.0\nvllm:num_requests_waiting %d.0\n"
_places: Final = asyncio.Semaphore(RUNS)
_waiting: Final[set[object]] = set()


async def work(seconds: float) -> None:
    """Take a place, as soon as it is free, and hold it."""
    _waiting.add(waits := object())
    try:
        await _places.acquire()
    finally:
        _waiting.discard(waits)
    try:
        await asyncio.sleep(seconds)
    finally:
        _places.release()


async def is_worked(seconds: float, reader: asyncio.StreamReader) -> bool:
    """Work on a request; return whether to its end, else the other side has left."""
    task, gone = asyncio.create_task(work(seconds)), asyncio.create_task(reader.read(1))
    await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    is_done = task.done()
    for other in (task, gone):
        other.cancel()
    await asyncio.gather(task, gone, return_exceptions=True)
    return is_done


def metrics() -> bytes:
    running = RUNS - _places._value
    return _METRICS % (running, len(_waiting))


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of a connection."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r")[0] or 0)
            raw = await reader.readexactly(length)
            if head.startswith(b"get"):
                page = metrics() if b"/metrics" in head else b""
                writer.write(_HEAD % (b"text/plain", _LENGTH % len(page)) + page)
                continue
            asked = json.loads(raw).get("suffix") if b'"suffix"' in raw[-4096:] else None
            if asked not in {"answer", "line"} and not await is_worked(
                SLOW_S if asked == "slow" else 0.0, reader
            ):
                break
            if asked == "fail":
                writer.write(b"HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n")
                continue
            if asked in {"answer", "line"}:
                await flood(writer, asked)
                break
            writer.write(_HEAD % (b"application/json", _LENGTH % len(WHOLE)) + WHOLE)
    writer.transport.abort()


async def flood(writer: asyncio.StreamWriter, asked: str) -> None:
    """Send for as long as the other side reads."""
    if asked == "answer":
        writer.write(_HEAD % (b"application/json", _LENGTH % LARGE) + b'{"x": "')
    else:
        writer.write(_HEAD % (b"text/event-stream", b"connection: close") + b"data: ")
    for _ in range(LARGE // len(PIECE)):
        writer.write(PIECE)
        await writer.drain()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), limit=2**25)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
