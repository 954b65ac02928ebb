"""The clients of `tests.bench.gateway`: reads one JSON line of orders each, prints one of results.

Orders: port, seconds, connections, requests (with body and key each; a connection takes those of
one key in turn), requests a second (0: a connection sends the next once the last is answered).
Results: requests completed and failed, seconds, events of streams; in µs the median and 99th
percentile of latencies, and the medians until the first event and between two events.
"""

import asyncio
import itertools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
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
    firsts: list[float] = field(default_factory=list)
    """Times until the first event of a stream."""
    gaps: list[float] = field(default_factory=list)
    """Times between two events of a stream."""


class Client(asyncio.Protocol):
    """One connection; sends its next request when the last one is answered.

    Where there are `free` connections, it is one of them instead until it is told to send.
    """

    def __init__(
        self, requests: Iterator[bytes], results: Results, free: "list[Client] | None" = None
    ) -> None:
        self.requests = requests
        self.results = results
        self.free = free
        self.event_at = 0.0
        self.parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport | None = None
        self.began = 0.0
        self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.go_on()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.stopped:
            self.results.failed += 1

    def go_on(self) -> None:
        if self.free is None:
            self.next()
        else:
            self.free.append(self)

    def next(self) -> None:
        assert self.transport is not None
        self.began = time.perf_counter()
        self.event_at = 0.0
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        events = body.count(b"data: ")
        if not events:
            return
        now, last = time.perf_counter(), self.event_at
        self.results.parts += events
        self.event_at = now
        found = self.results.gaps if last else self.results.firsts
        found.append((now - (last or self.began)) * 1e6)

    def on_message_complete(self) -> None:
        if self.stopped:
            return
        if self.parser.get_status_code() == 200:
            self.results.completed += 1
            self.results.latencies.append((time.perf_counter() - self.began) * 1e6)
        else:
            self.results.failed += 1
        self.go_on()


def request(port: int, body: str, key: str, more: str = "") -> bytes:
    """Return a request; `more` are further lines of its head."""
    raw = body.encode()
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n{more}"
        f"Content-Length: {len(raw)}\r\n\r\n"
    ).encode() + raw


SDK_HEAD = (
    "Accept: application/json\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n"
    "User-Agent: OpenAI/Python 2.8.1\r\nX-Stainless-Lang: python\r\n"
    "X-Stainless-Package-Version: 2.8.1\r\nX-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\n"
    "X-Stainless-Runtime: CPython\r\nX-Stainless-Runtime-Version: 3.12.3\r\n"
    "X-Stainless-Async: async:asyncio\r\nX-Stainless-Retry-Count: 0\r\n"
    "X-Stainless-Read-Timeout: 600\r\n"
)


def sdk_head(number: int) -> str:
    """Return the lines of a head as a client library sends them, with a trace of its own."""
    return f"{SDK_HEAD}traceparent: 00-{number + 1:032x}-{number + 1:016x}-01\r\n"


async def window(orders: dict[str, Any]) -> Results:
    results, loop = Results(), asyncio.get_running_loop()
    by_key: dict[str, list[bytes]] = {}
    for body, key, more in orders["requests"]:
        by_key.setdefault(key, []).append(request(orders["port"], body, key, more))
    turns = [itertools.cycle(made) for made in by_key.values()]
    free: list[Client] | None = [] if orders["rate"] else None
    clients = [Client(turns[n % len(turns)], results, free) for n in range(orders["connections"])]
    began = time.perf_counter()
    for each in clients:
        await loop.create_connection(lambda each=each: each, "127.0.0.1", orders["port"])  # type: ignore[misc]
    if free is None:
        await asyncio.sleep(orders["seconds"])
    else:
        await paced(free, results, orders["rate"], orders["seconds"])
    results.seconds = time.perf_counter() - began
    for each in clients:
        each.stopped = True
        if each.transport is not None:
            each.transport.abort()
    return results


async def paced(free: list[Client], results: Results, rate: int, seconds: float) -> None:
    """Send so many requests a second, whatever becomes of those before."""
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        if free:
            free.pop().next()
        else:
            results.failed += 1


@dataclass
class Load:
    """The process that plays the clients."""

    process: "subprocess.Popen[str]"

    def run(
        self,
        port: int,
        bodies: Sequence[dict[str, Any]],
        keys: Sequence[str],
        connections: int,
        seconds: float,
        *,
        rate: int = 0,
        lifelike: bool = False,
    ) -> dict[str, Any]:
        """Load a port and return what came of it; `lifelike`: with the heads of a library."""
        requests = [
            (_compact(body), keys[n % len(keys)], sdk_head(n) if lifelike else "")
            for n, body in enumerate(bodies)
        ]
        orders = {"port": port, "seconds": seconds, "connections": connections, "rate": rate}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(orders | {"requests": requests}) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    @classmethod
    @contextmanager
    def running(cls, cores: set[int]) -> "Iterator[Load]":
        """Run it on these cores."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.gateway_load"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        os.sched_setaffinity(process.pid, cores)
        try:
            yield cls(process)
        finally:
            process.kill()
            process.wait()


def _compact(body: dict[str, Any]) -> str:
    """Write a body as OpenAI's client libraries do."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)


def percentile(values: list[float], part: float) -> float:
    made = sorted(values)
    return made[min(len(made) - 1, int(len(made) * part))] if made else math.nan


def main() -> None:
    for line in sys.stdin:
        results = uvloop.run(window(json.loads(line)))
        told: dict[str, float] = {"completed": results.completed, "failed": results.failed}
        told |= {
            "parts": results.parts,
            "seconds": results.seconds,
            "p50": percentile(results.latencies, 0.5),
        }
        told |= {"p99": percentile(results.latencies, 0.99)}
        told |= {"first": percentile(results.firsts, 0.5), "gap": percentile(results.gaps, 0.5)}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
