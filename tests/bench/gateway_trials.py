"""What a gateway must stand: swaps, kills and clients that leave, under load.

`tests.bench.gateway` prints what comes of it; shorter ones are tests.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from runtime.gateway.control.supervisor import find_process
from tests.bench.gateway_setting import Client, setting
from tests.runtime.gateway.stage import NEW, OLD

CLIENTS = 8
WEIGHTS = (10, 50, 100)


@dataclass
class Traffic:
    """What clients saw that ask all the time."""

    answers: Counter[int] = field(default_factory=Counter)
    """By status."""
    broken: int = 0
    """Connections that ended."""
    request_ids: list[str] = field(default_factory=list)

    async def client(self, url: str, number: int) -> None:
        try:
            async with Client.connected(url) as client:
                while True:
                    answer = await client.ask(user=f"user-{number}")
                    self.answers[answer.status] += 1
                    self.request_ids.append(answer.request_id)
        except (OSError, asyncio.IncompleteReadError):
            self.broken += 1

    @contextmanager
    def flowing(self, url: str) -> "Iterator[list[asyncio.Task[None]]]":
        tasks = [asyncio.create_task(self.client(url, number)) for number in range(CLIENTS)]
        try:
            yield tasks
        finally:
            for each in tasks:
                each.cancel()


@dataclass
class Swaps:
    traffic: Traffic
    seconds: list[float]
    """From the order to publish a table until a client is answered by it, sorted."""


async def swaps(folder: Path, count: int) -> Swaps:
    """Swap the whole table again and again, while clients ask."""
    found = Swaps(Traffic(), [])
    async with setting(folder) as ours, AsyncExitStack() as stack:
        running = await ours.start()
        watcher = await stack.enter_async_context(Client.connected(running.url))
        with found.traffic.flowing(running.url):
            for number in range(count):
                wanted, new = ((NEW, 100), (OLD, 0))[number % 2]
                began = time.perf_counter()
                published = asyncio.create_task(
                    ours.gateways.publish(ours.table(new=new, revision=number + 2))
                )
                while (answer := await watcher.ask()).version != wanted:
                    found.traffic.answers[answer.status] += 1
                found.seconds.append(time.perf_counter() - began)
                assert await published == ()
    found.seconds.sort()
    return found


@dataclass
class Kills:
    answered: int = 0
    lost: int = 0
    """Requests that a client was answered and that have no row."""


async def answered_until_killed(url: str, answers: int, kill: Callable[[], None]) -> list[str]:
    """Have clients ask until they have so many answers, kill the gateway; return all their ids.

    Raises:
        OSError: it has ended all connections before.
    """
    traffic = Traffic()
    with traffic.flowing(url) as tasks:
        while len(traffic.request_ids) < answers:
            if traffic.broken == len(tasks):
                raise OSError(f"the gateway has ended all connections after {traffic.answers}")
            await asyncio.sleep(0)
        kill()
        await asyncio.gather(*tasks)
    return traffic.request_ids


async def kills(folder: Path, count: int, answers: int) -> Kills:
    """Kill the gateway while clients ask, start it again, and so on; then look at the log.

    Raises:
        ValueError: a line of the log cannot be read.
    """
    found, request_ids = Kills(), list[str]()
    async with setting(folder) as ours:
        for _ in range(count):
            running = await ours.start()
            kill = partial(os.kill, running.pid, signal.SIGKILL)
            request_ids += await answered_until_killed(running.url, answers, kill)
            await _until(lambda: find_process(folder, "main") is None)  # the kernel takes a moment
        await ours.start()  # which repairs the log
        rows = {row["request_id"] for row in ours.rows()}
    found.answered = len(request_ids)
    found.lost = len(set(request_ids) - rows)
    return found


@dataclass
class Split:
    users: int
    shares: dict[int, float] = field(default_factory=dict)
    """By the target in percent: the part of all users that got the new version, percent."""
    kept: list[float] = field(default_factory=list)
    """For each step: the part of the users with the new version that stayed there, percent."""

    @property
    def error(self) -> float:
        """The largest difference between a target and what came of it, percentage points."""
        return max(abs(weight - share) for weight, share in self.shares.items())


async def split(folder: Path, users: int) -> Split:
    """Ramp a version up and see who gets it."""
    found, before = Split(users), set[int]()
    async with setting(folder) as ours:
        running = await ours.start()
        for step, weight in enumerate(WEIGHTS):
            await ours.gateways.publish(ours.table(new=weight, revision=step + 2))
            parts = [range(first, users, CLIENTS) for first in range(CLIENTS)]
            now = set().union(*await asyncio.gather(*(_new(running.url, each) for each in parts)))
            found.shares[weight] = 100 * len(now) / users
            if before:
                found.kept.append(100 * len(before & now) / len(before))
            before = now
    return found


async def _new(url: str, users: Iterable[int]) -> set[int]:
    """Return the users that get the new version."""
    async with Client.connected(url) as client:
        return {user for user in users if (await client.ask(user=f"user-{user}")).version == NEW}


async def aborts(folder: Path, count: int, *, streams: bool) -> list[float]:
    """Leave requests that run; return how long the server did not know, seconds, sorted."""
    waits: list[float] = []
    async with setting(folder) as ours:
        running = await ours.start()
        for number in range(count):
            async with Client.connected(running.url) as client:
                client.send(suffix="wait", stream=streams)
                if streams:
                    await client.reader.readuntil(b"\n\n")
                await _until(partial(ours.server.has_begun, number + 1))
                began = time.perf_counter()
            await _until(partial(ours.server.was_left, number + 1))
            waits.append(ours.server.left_at[-1] - began)
    return sorted(waits)


async def _until(condition: Callable[[], bool]) -> None:
    """Wait for what nothing in this loop tells of."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (it has no event to wait for)
            await asyncio.sleep(0)
