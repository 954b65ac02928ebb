"""More connections than there is room for: those on which nothing is at work give way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.gateway.http import timeouts
from runtime.gateway.http.connection_limit import ConnectionLimit, Slot, address_of
from tests.runtime.gateway.sockets import (
    Connection,
    answered,
    asked,
    at_most,
    connected,
    post,
    raw,
    scripted,
    told,
)
from tests.runtime.gateway.stage import GLOBEX, LASTING, Stage, long, stage, table

SEATS = 8


@asynccontextmanager
async def crowded(tmp_path: Path, token_seconds: float = 0.0) -> AsyncIterator[Stage]:
    """Run a gateway that has room for eight connections."""
    async with AsyncExitStack() as stack:
        with at_most(64 + 2 * SEATS):
            ours = await stack.enter_async_context(
                stage(tmp_path / ".fleetctl", token_seconds=token_seconds)
            )
        yield ours


async def ask(connection: Connection) -> int:
    reader, writer = connection
    writer.write(post(raw()))
    return (await answered(reader))[0]


async def is_open(connection: Connection) -> bool:
    """Return whether an idle connection is still open, by a request on the connection."""
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        return await ask(connection) == 200
    return False


@pytest.mark.usefixtures("serving_loop")
@pytest.mark.parametrize(
    "first",
    [b"", post(raw())[:40], post(raw(), key="nobody's")[:-1], b"GET /healthz HTTP/1.1\r\nHost: x"],
    ids=["silent", "half a head", "half a body of nobody", "half a request without a key"],
)
def test_idle_connections_give_way_the_longest_idle_first(tmp_path: Path, first: bytes) -> None:
    async def scenario() -> None:
        async with crowded(tmp_path) as ours, AsyncExitStack() as stack:
            made = []
            for sent in [first] * (SEATS // 2) + [b""] * (SEATS // 2):
                made.append(await stack.enter_async_context(connected(ours)))
                made[-1][1].write(sent)
                assert sent or await ask(made[-1]) == 200
            for _ in range(SEATS // 2 + 1):
                newcomer = await stack.enter_async_context(connected(ours))
                assert await ask(newcomer) == 200
            for each in made[: SEATS // 2]:
                with suppress(ConnectionError):
                    await each[0].read()
                assert each[0].at_eof() or each[0].exception()
            assert [await is_open(each) for each in made[SEATS // 2 :]] == [False, True, True, True]
            await ours.publish(table(ours.servers, new=100, revision=2))  # the admin side has room

    asyncio.run(scenario())


@pytest.mark.usefixtures("serving_loop")
@pytest.mark.parametrize("kept_open", [False, True], ids=["new connections", "repeated heads"])
def test_a_client_has_two_thirds_of_the_connections_at_work_and_others_get_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, kept_open: bool
) -> None:
    monkeypatch.setattr(timeouts, "SWEEP_S", 0.01)

    async def scenario() -> None:
        async with crowded(tmp_path, 0.01) as ours, AsyncExitStack() as stack:
            lasting = post(raw(**long(LASTING)))
            made = [await stack.enter_async_context(connected(ours)) for _ in range(SEATS - 1)]
            if kept_open:
                assert [await ask(connection) for connection in made] == [200] * len(made)
            for number, (_, writer) in enumerate(made):
                writer.write(
                    lasting[: -1 if number % 2 else None]
                )  # half of the bodies come slowly
            ends = [asyncio.create_task(answered(reader)) for reader, _ in made]
            async with asyncio.timeout(60):
                while sum(task.done() for task in ends) < 2:  # noqa: ASYNC110 (in this loop)
                    await asyncio.sleep(0.01)
            other = await stack.enter_async_context(connected(ours))
            other[1].write(post(raw(model="globex-dates"), key=GLOBEX))
            assert (await answered(other[0]))[0] == 200
            refused = [(await task)[0] for task in ends if task.done()]
            assert refused == [503] * 2  # and five are at work, which is two thirds of eight
            for _, writer in made:
                writer.write(lasting[-1:])
            ours.replicas["s1"].pace(0)
            found = await asyncio.gather(*ends, return_exceptions=True)
            assert sum(isinstance(each, tuple) and each[0] == 200 for each in found) == 5
            newcomer = await stack.enter_async_context(connected(ours))
            assert await ask(newcomer) == 200

    asyncio.run(scenario())


@pytest.mark.usefixtures("serving_loop")
def test_one_that_reads_its_answer_slowly_is_not_cut_off(tmp_path: Path) -> None:
    large = told("x" * 2**24)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        await asked(reader)
        writer.write(large)
        await writer.drain()
        await reader.read()

    async def scenario() -> None:
        async with crowded(tmp_path) as ours, scripted(answer) as url, AsyncExitStack() as stack:
            await ours.publish(table({"s1": url}, revision=2))
            slow, writer = await stack.enter_async_context(connected(ours))
            writer.write(post(raw()))
            await slow.readuntil(b"\r\n\r\n")
            for _ in range(2 * SEATS):
                await stack.enter_async_context(connected(ours))
            assert len(await slow.readexactly(2**24)) == 2**24

    asyncio.run(scenario())


@pytest.mark.usefixtures("serving_loop")
def test_who_opens_many_connections_displaces_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with crowded(tmp_path) as ours, AsyncExitStack() as stack:
            others = [
                await stack.enter_async_context(connected(ours, f"127.0.0.{number}"))
                for number in (2, 3, 3)
            ]
            for _ in range(5 * SEATS):
                await stack.enter_async_context(connected(ours))
            assert [await is_open(other) for other in others] == [True] * 3

    asyncio.run(scenario())


class Sock(asyncio.Transport):
    """A connection from an address, which has been ended or not."""

    def __init__(self, address: str) -> None:
        super().__init__({"peername": (address, 1)})
        self.told = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.told += data

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Any will do."""

    def close(self) -> None:
        """The client was told."""


class Visitor:
    """A connection that may have begun to work without marking its slot."""

    def __init__(self, ended: list["Visitor"], address: str) -> None:
        self.ended, self.address = ended, address
        self.is_secretly_busy = False

    def evict(self) -> bool:
        if not self.is_secretly_busy:
            self.ended.append(self)
        return not self.is_secretly_busy


MOVES = st.lists(
    st.tuples(st.sampled_from(["enter", "work", "hide", "rest", "leave"]), st.integers(0, 9)),
    max_size=40,
)


@settings(max_examples=200)
@given(MOVES)
def test_of_the_address_with_most_idle_connections_the_longest_idle_ends(
    moves: list[tuple[str, int]],
) -> None:
    house, ended = ConnectionLimit(4), list[Visitor]()
    seats: dict[Visitor, Slot] = {}
    idle: list[Visitor] = []
    for move, number in moves:
        one = list(seats)[number % len(seats)] if seats else None
        if move == "enter":
            visitor = Visitor(ended, f"10.0.0.{number % 3}")
            counts = [each.address for each in idle]
            willing = [each for each in idle if not each.is_secretly_busy]
            seat = house.acquire(visitor.evict, Sock(visitor.address))
            if len(seats) == 4 and not willing:
                assert seat is None
                idle.clear()  # each was asked in vain
                continue
            assert seat is not None
            if len(seats) == 4:
                (gone,) = ended
                ended.clear()
                most = max(map(counts.count, counts))
                if not any(each.is_secretly_busy for each in idle):
                    assert counts.count(gone.address) == most
                of_its = [each for each in willing if each.address == gone.address]
                assert gone is of_its[0]
                idle.remove(gone)
                del seats[gone]
            assert ended == []
            seats[visitor] = seat
            idle.append(visitor)
        elif one is not None:
            if move == "leave":
                seats.pop(one).release()
            elif move == "hide":
                one.is_secretly_busy = True
                continue
            else:
                one.is_secretly_busy = False
                seats[one].mark_busy("") if move == "work" else seats[one].mark_idle()
            idle = [each for each in idle if each is not one] + [one] * (move == "rest")


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_an_ipv6_network_counts_as_one_address(peer: str, source: str) -> None:
    assert address_of(Sock(peer)) == source
