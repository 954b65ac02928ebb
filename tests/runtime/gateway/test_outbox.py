"""What one turn of the event loop has made for a connection is sent together, and copied once."""

import asyncio
from typing import Self

from runtime.gateway.transports.outbox import JOINED, Outbox

PARTS = 20_000
SIZE = 200


class Copied(bytes):
    """Bytes that know what was copied to put them behind others."""

    copied = 0

    def __radd__(self, before: bytes) -> Self:
        type(self).copied += len(before) + len(self)
        return type(self)(bytes(before) + bytes(self))


class Sent(asyncio.Transport):
    """Keeps what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))


def test_many_small_parts_of_one_turn_are_joined_once() -> None:
    part = Copied(b"x" * SIZE)

    async def scenario() -> None:
        outbox, to = Outbox(asyncio.get_running_loop()), Sent()
        for _ in range(PARTS):
            outbox.add(to, part)
        await asyncio.sleep(0)
        assert b"".join(to.writes) == b"x" * SIZE * PARTS
        assert len(to.writes) <= PARTS * SIZE // JOINED + 1
        assert max(map(len, to.writes)) <= JOINED + SIZE
        assert Copied.copied == 0

    asyncio.run(scenario())


def test_what_goes_to_several_connections_keeps_its_order_on_each() -> None:
    async def scenario() -> None:
        outbox, first, second = Outbox(asyncio.get_running_loop()), Sent(), Sent()
        large = b"y" * (JOINED + 1)
        for to, data in ((first, b"a"), (first, b"b"), (second, b"c"), (first, large)):
            outbox.add(to, data)
        outbox.add(first, b"d")
        await asyncio.sleep(0)
        assert (first.writes, second.writes) == ([b"ab", large, b"d"], [b"c"])

    asyncio.run(scenario())
