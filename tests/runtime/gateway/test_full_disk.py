"""A usage log that takes no rows: clients are told, and served again once it does."""

import asyncio
import errno
import os
import sys
from pathlib import Path

import pytest

from runtime.usage.log import UsageLog
from tests.runtime.gateway.sockets import asked, connected, on, post, raw, told
from tests.runtime.gateway.stage import HEAD, Stage, chat, until

pytestmark = pytest.mark.usefixtures("serving_loop")


class Full:
    """A disk that may be full, for rows as for the log of the process."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        write = os.write
        usage = UsageLog

        def limited(self_: UsageLog, data: bytes) -> None:
            before = os.write
            try:
                if self.is_full:
                    os.write = self._refuse
                real(self_, data)
            finally:
                os.write = before

        real = usage._write
        patch.setattr(usage, "_write", limited)
        patch.setattr(sys, "stderr", self)
        assert write is os.write

    def _refuse(self, *_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def write(self, text: str) -> int:
        return self._refuse() if self.is_full else len(text)

    def flush(self) -> None:
        """Nothing is kept back."""


async def ready(ours: Stage, status: int) -> None:
    async with asyncio.timeout(60):
        while (await ours.send(path="/readyz", method="GET")).status != status:  # noqa: ASYNC110 (over HTTP)
            await asyncio.sleep(0)


def test_whoever_cannot_be_put_on_record_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Full(monkeypatch)
    event, may_end = b"9\r\ndata: x\n\n\r\n", asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            if b'"stream":true' in await asked(reader):
                writer.write(HEAD % b"text/event-stream" + event)
                await may_end.wait()
                writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
            else:
                await may_end.wait()
                writer.write(told("answered"))

    async def scenario(ours: Stage) -> None:
        async with connected(ours) as (reader, writer):
            writer.write(post(raw(stream=True)))
            await reader.readuntil(b"data: x")
            whole = asyncio.create_task(ours.send(chat()))
            await until(ours, 2)
            disk.is_full = True
            may_end.set()
            assert (await whole).status == 503
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readuntil(b"[DONE]")
            reply = await ours.send(chat())
            assert (reply.status, reply.headers["Retry-After"]) == (503, "2")
            await ready(ours, 503)
            assert (await ours.send(path="/v1/models", method="GET")).status == 200
            assert ours.rows() == []
            await until(ours, 0)
            disk.is_full = False
            await ready(ours, 200)
            assert (await ours.send(chat())).status == 200
            assert [row["status"] for row in ours.rows()] == [200]

    on(tmp_path, script, scenario)
