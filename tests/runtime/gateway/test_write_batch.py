"""The bytes of a turn of the event loop for a connection are sent together, and copied once."""

import asyncio
from pathlib import Path
from typing import Self

from runtime.gateway.http.write_batch import MAX_BATCH, WriteBatch
from runtime.gateway.traffic.accounting import UsageCounters, UsageWriter
from runtime.usage.log import UsageLog

PARTS = 20_000
SIZE = 200


class Copied(bytes):
    """Bytes that count the bytes copied to put them behind others."""

    copied = 0

    def __radd__(self, before: bytes) -> Self:
        type(self).copied += len(before) + len(self)
        return type(self)(bytes(before) + bytes(self))


class Sent(asyncio.Transport):
    """Keeps the sent bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))


def usage(folder: Path) -> UsageWriter:
    return UsageWriter(UsageLog(folder / "usage.jsonl"), UsageCounters())


def test_many_small_parts_of_one_turn_are_joined_once(tmp_path: Path) -> None:
    part = Copied(b"x" * SIZE)

    async def scenario() -> None:
        batch, to = WriteBatch(asyncio.get_running_loop(), usage(tmp_path)), Sent()
        for _ in range(PARTS):
            batch.add(to, part)
        await asyncio.sleep(0)
        assert b"".join(to.writes) == b"x" * SIZE * PARTS
        assert len(to.writes) <= PARTS * SIZE // MAX_BATCH + 1
        assert max(map(len, to.writes)) <= MAX_BATCH + SIZE
        assert Copied.copied == 0

    asyncio.run(scenario())


def test_what_goes_to_several_connections_keeps_its_order_on_each(tmp_path: Path) -> None:
    async def scenario() -> None:
        batch, first, second = (
            WriteBatch(asyncio.get_running_loop(), usage(tmp_path)),
            Sent(),
            Sent(),
        )
        large = b"y" * (MAX_BATCH + 1)
        for to, data in ((first, b"a"), (first, b"b"), (second, b"c"), (first, large)):
            batch.add(to, data)
        batch.add(first, b"d")
        await asyncio.sleep(0)
        assert (first.writes, second.writes) == ([b"ab", large, b"d"], [b"c"])

    asyncio.run(scenario())
