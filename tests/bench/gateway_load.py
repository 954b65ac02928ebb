"""The clients of `tests.bench.gateway`: reads one JSON line of orders each, prints one of results.

Orders: port, seconds, connections, requests (each with its body and key, taken in turn).
Results: requests completed, failed, seconds, latencies of completed ones in µs, parts of streams.
"""

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
import uvloop


@dataclass
class Results:
    completed: int = 0
    failed: int = 0
    parts: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)


class Client(asyncio.Protocol):
    """One connection; sends its next request when the last one is answered."""

    def __init__(self, requests: Iterator[bytes], results: Results) -> None:
        self.requests = requests
        self.results = results
        self.parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport | None = None
        self.began = 0.0
        self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.next()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.stopped:
            self.results.failed += 1

    def next(self) -> None:
        assert self.transport is not None
        self.began = time.perf_counter()
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.results.parts += body.count(b"data: ")

    def on_message_complete(self) -> None:
        if self.stopped:
            return
        if self.parser.get_status_code() == 200:
            self.results.completed += 1
            self.results.latencies.append((time.perf_counter() - self.began) * 1e6)
        else:
            self.results.failed += 1
        self.next()


def request(port: int, body: str, key: str) -> bytes:
    raw = body.encode()
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(raw)}\r\n\r\n"
    ).encode() + raw


async def window(orders: dict[str, Any]) -> Results:
    results, loop = Results(), asyncio.get_running_loop()
    made = [request(orders["port"], body, key) for body, key in orders["requests"]]
    turns = itertools.cycle(made)
    clients = [Client(turns, results) for _ in range(orders["connections"])]
    began = time.perf_counter()
    for each in clients:
        await loop.create_connection(lambda each=each: each, "127.0.0.1", orders["port"])  # type: ignore[misc]
    await asyncio.sleep(orders["seconds"])
    results.seconds = time.perf_counter() - began
    for each in clients:
        each.stopped = True
        if each.transport is not None:
            each.transport.abort()
    return results


def main() -> None:
    for line in sys.stdin:
        results = uvloop.run(window(json.loads(line)))
        print(json.dumps(vars(results)), flush=True)


if __name__ == "__main__":
    main()
