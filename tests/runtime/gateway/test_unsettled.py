"""Rows that wait for their tokens: a gateway that is killed meanwhile loses and doubles none."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from fleet.spec import GatewaySpec
from runtime.gateway import processes
from runtime.gateway.control import LocalGateways
from runtime.gateway.endpoints import MESSAGES
from runtime.gateway.running import Running, find
from runtime.gateway.unsettled import FOLDER, Unsettled
from runtime.gateway.usage import Row
from runtime.gateway.usagelog import UsageLog
from tests.ports import free_port
from tests.runtime.gateway.sockets import scripted
from tests.runtime.gateway.stage import table
from tests.runtime.gateway.test_recounts import PIECES, Server, begin, counts


def row(number: int) -> Row:
    return Row("2030-01-01T00:00:00.000+00:00", f"{number:032}", output_tokens=number)


def logged(path: Path) -> list[int]:
    return [json.loads(line)["output_tokens"] for line in path.read_bytes().splitlines()]


def test_what_is_left_goes_into_the_log_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = Unsettled(tmp_path)
    with UsageLog(tmp_path / "usage.jsonl") as log:
        waiting.recover(log)  # there is nothing
        for number in range(5):
            waiting.keep(row(number))
        waiting.settle(row(0).request_id)
        log.append(json.dumps({"request_id": row(1).request_id, "output_tokens": 9}).encode())
        (tmp_path / FOLDER / f"{row(2).request_id}.json").write_bytes(b'{"time":"20')
        waiting.recover(log)
        waiting.recover(log)
    assert logged(tmp_path / "usage.jsonl") == [9, 3, 4]
    assert list((tmp_path / FOLDER).iterdir()) == []
    (tmp_path / FOLDER).rmdir()
    (tmp_path / FOLDER).touch()
    waiting.keep(row(1))  # the request goes on
    assert "is not kept" in capsys.readouterr().err


def test_a_killed_gateway_has_the_rows_of_streams_that_were_left(tmp_path: Path) -> None:
    state = tmp_path / ".fleetctl"
    gateway = GatewaySpec("main", f"127.0.0.1:{free_port()}", "")
    folder = state / "gateways/main" / FOLDER

    async def start() -> Running:
        return await asyncio.to_thread(processes.start, state, gateway)

    async def scenario() -> list[dict[str, Any]]:
        server = Server(fails=1000)
        async with scripted(server.play) as url:
            gateways = LocalGateways(state, {"main": gateway})
            await gateways.publish(table({"s1": url}))
            found = await start()
            port = int(found.url.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await begin(reader, writer, MESSAGES)
            writer.transport.abort()
            while not any(each.stat().st_size for each in folder.glob("*")):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            os.kill(found.pid, signal.SIGKILL)
            while find(state, "main") is not None:  # noqa: ASYNC110 (the kernel ends it)
                await asyncio.sleep(0.001)
            await start()
            await asyncio.to_thread(processes.stop, state, "main")
            await gateways.close()
        text = (state / "gateways/main/usage.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    (kept,) = asyncio.run(scenario())
    assert counts(kept) == (499, 7, PIECES, "pieces")
    assert list(folder.iterdir()) == []
