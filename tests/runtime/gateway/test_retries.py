"""Servers in trouble under load: what is asked anew stays within its budget."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from runtime.gateway.traffic import concurrency, shares
from runtime.gateway.traffic.limits import MIN_RETRIES, RETRY_SHARE, RetryBudget
from tests.ports import free_port
from tests.runtime.gateway.sockets import asked, scripted, told
from tests.runtime.gateway.stage import Stage, chat, stage, table

CLIENTS = 60
ALLOWED = int(RETRY_SHARE * CLIENTS)
BUSY = b"HTTP/1.1 %d Busy\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
NO_MODEL = b'{"error":{"message":"The model does not exist.","code":404}}'
LOST = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(NO_MODEL), NO_MODEL)


@pytest.mark.parametrize(
    ("in_flight", "most"),
    [(0, MIN_RETRIES), (1, MIN_RETRIES), (39, MIN_RETRIES), (40, 4), (100, 10), (109, 10)],
)
def test_a_tenth_of_what_is_in_flight_is_asked_anew_and_never_less_than_three(
    in_flight: int, most: int
) -> None:
    made = RetryBudget(Counter(a=in_flight // 2, b=in_flight - in_flight // 2))
    assert [made.acquire() for _ in range(most + 2)] == [True] * most + [False] * 2
    made.release()
    assert [made.acquire(), made.acquire()] == [True, False]


async def all_at_once(ours: Stage, sick: bytes) -> tuple[Counter[str], Counter[int]]:
    """Ask two servers at once, of which the first answers `sick` to all, once both are at work.

    Returns how many requests reached each server, and the statuses that clients got.
    """
    came: Counter[str] = Counter()
    full, ended = asyncio.Event(), asyncio.Event()

    def server(name: str, answer: bytes, until: asyncio.Event) -> Callable[..., object]:
        async def script(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int
        ) -> None:
            while True:
                await asked(reader)
                came[name] += 1
                if came.total() == CLIENTS:
                    full.set()
                await until.wait()
                writer.write(answer)

        return script

    statuses: Counter[int] = Counter()

    async def client() -> None:
        statuses[(await ours.send(chat())).status] += 1
        if statuses.total() == CLIENTS // 2 - ALLOWED:
            ended.set()

    async with AsyncExitStack() as stack:
        urls = {
            name: await stack.enter_async_context(scripted(server(name, *more)))  # type: ignore[arg-type]
            for name, *more in (("s1", sick, full), ("s2", told("well"), ended))
        }
        await ours.gateways.publish(table(urls, revision=2))
        async with asyncio.timeout(60):
            await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return came, statuses


@pytest.mark.usefixtures("serving_loop")
@pytest.mark.parametrize(
    ("sick", "status"), [(BUSY % 503, 503), (BUSY % 429, 429), (LOST, 503)], ids=str
)
def test_a_sick_replica_under_load_does_not_double_the_load_on_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sick: bytes, status: int
) -> None:
    # The servers tell nothing of their room.
    monkeypatch.setattr(concurrency, "FIRST_LIMIT", 10 * CLIENTS)
    monkeypatch.setattr(shares, "FIRST_LIMIT", 10 * CLIENTS)
    monkeypatch.setattr(shares, "SILENT_PLACES", 10 * CLIENTS)

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            came, statuses = await all_at_once(ours, sick)
            half = CLIENTS // 2
            assert came == {"s1": half, "s2": half + ALLOWED}
            assert statuses == {200: half + ALLOWED, status: half - ALLOWED}
            rows = ours.rows()
            assert Counter(row["retries"] for row in rows if row["status"] == 200) == {
                0: half,
                1: ALLOWED,
            }
            assert len(rows) == CLIENTS
            assert NO_MODEL.decode() not in json.dumps(rows)

    asyncio.run(scenario())


@pytest.mark.usefixtures("serving_loop")
def test_a_replica_that_is_gone_fails_nobody_and_adds_no_load(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            urls = ours.servers | {"s0": f"http://127.0.0.1:{free_port()}"}
            await ours.gateways.publish(table(urls, revision=2))
            replies = await asyncio.gather(*(ours.send(chat()) for _ in range(CLIENTS)))
            assert {reply.status for reply in replies} == {200}
            assert len(ours.asked) == CLIENTS

    asyncio.run(scenario())


@pytest.mark.usefixtures("serving_loop")
def test_a_replica_that_is_always_busy_is_soon_asked_last(tmp_path: Path) -> None:
    came: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            came.append(await asked(reader))
            writer.write(BUSY % 503)

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, scripted(script) as url:
            await ours.gateways.publish(table(ours.servers | {"s2": url}, revision=2))
            assert {(await ours.send(chat())).status for _ in range(30)} == {200}
            assert len(came) < 10
            assert len(ours.asked) == 30

    asyncio.run(scenario())
