"""Usage of clients behind an Envoy: the same requests sum up to the same as behind our gateway."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from plans.compile.envoy.messages import CLIENT
from runtime.usage.log import USAGE_FILE
from runtime.usage.parquet import compact
from runtime.usage.read import last_rows
from runtime.usage.row import to_usage_row
from tests.runtime.gateway.envoy_stage import (
    EnvoyStage,
    envoy_stage,
    healthy_server,
    needs_envoy,
)
from tests.runtime.gateway.fronts import ENVOY, OURS, Front
from tests.runtime.gateway.sockets import connected
from tests.runtime.gateway.stage import (
    ACME,
    CHAT,
    EVENT,
    GLOBEX,
    HEAD,
    NEW,
    Stage,
    alias,
    chat,
    table,
)
from tests.runtime.gateway.test_row_fields import PARENT, TRACE
from tests.runtime.usage.sums import BEGINNING, summed
from tests.runtime.usage.test_parquet import logged, row

WRITTEN = {
    "alias": "acme-support", "client": "acme", "duration_ms": 1, "first_byte_us": 1206,
    "flags": "-", "input_tokens": 3, "latency_us": 1458, "output_tokens": 2, "path": CHAT,
    "request_id": "03dea4c7-9e2d-4962-a90d-694a738f0ed4", "revision": 1795644744,
    "server": "tiny-laptop-cpu0", "status": 200, "stream": "-",
    "time": "2026-11-25T22:12:28.459+00:00", "version": NEW,
}  # fmt: skip
"""A row that Envoy 1.40 wrote."""
STREAM = HEAD % b"text/event-stream" + EVENT


@pytest.mark.parametrize(
    ("parent", "trace"),
    [(PARENT, TRACE), (f"{PARENT}-", None), ("-", None), (None, None), (5, None)],
)
def test_a_row_of_an_envoy_has_the_trace_that_a_gateway_would_find(
    parent: object, trace: str | None
) -> None:
    assert to_usage_row(WRITTEN | {"traceparent": parent})["trace_id"] == trace
    old = to_usage_row(WRITTEN)  # of an earlier release
    assert (old["trace_id"], old["digest"]) == (None, None)


def test_rows_of_an_envoy_count_beside_ours_before_and_after_compaction(tmp_path: Path) -> None:
    logged(tmp_path, row(1, version=NEW))  # the gateway was ours before it was an Envoy
    left = {"request_id": "2", "flags": "DC", "status": 0, "latency_us": None, "duration_ms": 7}
    more = (left, {"request_id": "3", "flags": "UC"}, {"request_id": "4", "latency_us": "?"})
    with (tmp_path / "gateways/main" / USAGE_FILE).open("a", encoding="utf-8") as stream:
        for each in ({}, *more):
            stream.write(json.dumps(WRITTEN | each, separators=(",", ":")) + "\n")
    before = summed(tmp_path)
    (acme,) = before
    found = (acme["requests"], acme["errors"], acme["left_by_client"], acme["output_tokens"])
    assert found == (4, 1, 1, 11)
    assert acme["latency_p50_s"] == pytest.approx(0.001458, rel=0.02)
    assert compact(tmp_path, datetime.now(UTC)).rows >= 4
    (shown,) = last_rows(tmp_path, lambda _: True, BEGINNING, 1)
    assert (shown.time, shown.stream) == (WRITTEN["time"], False)


@needs_envoy
@pytest.mark.usefixtures("serving_loop")
def test_the_same_requests_sum_up_to_the_same_as_behind_our_gateway(
    tmp_path: Path,
) -> None:
    made = {}
    for name in (OURS, ENVOY):
        project = tmp_path / name
        project.mkdir()
        asyncio.run(_requests(Front(name), project))
        state = project / ".fleetctl"
        rows = summed(state)
        assert compact(state, datetime.now(UTC)).rows == sum(each["requests"] for each in rows)
        made[name] = [{n: v for n, v in each.items() if "_p" not in n} for each in rows]
        timed = [each for each in rows if each["version"]]
        assert all(0 <= (each["latency_p50_s"] or 0) < 60 for each in timed)
    assert made[OURS] == made[ENVOY]
    assert sum(each["requests"] for each in made[ENVOY]) == 7
    assert sum(each["left_by_client"] for each in made[ENVOY]) == 1


async def _requests(front: Front, project: Path) -> None:
    """Ask for whole answers and streams, be refused, leave, and be left."""
    async with (
        front.stage(project) as ours,
        healthy_server(STREAM, waits=True) as (slow, seen),
        healthy_server(STREAM, waits=False) as (dying, _),
    ):
        for each in ({}, {"stream": True}, {"max_tokens": 3}):
            assert (await ours.send(chat(**each))).status == 200
        assert (await ours.send(chat("globex-dates"), secret=GLOBEX)).status == 200
        assert (await ours.send(chat("globex-dates"))).status == 404
        assert (await ours.send(chat(), secret="wrong")).status == 401
        given = table(ours.servers | {"slow": slow, "dying": dying}, revision=2)
        for name, server in (("acme-slow", "slow"), ("acme-dying", "dying")):
            given.aliases[name] = alias("acme", (NEW, 100, (server,)))
        await ours.publish(given)
        await _leave(ours, seen)
        with pytest.raises(aiohttp.ClientError):
            await ours.send(chat("acme-dying", stream=True))
        if isinstance(ours, EnvoyStage):
            await ours.ended()


HEADS = {
    "no Host": "",
    "no Host, with the header that names the client inside": f"{CLIENT}: acme\r\n",
    "two lengths": "Host: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
    "a wrong key": "Host: x\r\nContent-Length: 0\r\nAuthorization: Bearer wrong\r\n",
    "too large": f"Host: x\r\nX-Large: {'x' * 100_000}\r\n",
}
"""Headers of requests without a valid key, each refused in another way."""


@needs_envoy
@pytest.mark.usefixtures("serving_loop")
def test_senders_without_a_key_leave_no_row_whatever_is_wrong(tmp_path: Path) -> None:
    """Without `Host` the status is 400, and 401 alone was left out: a row for each request."""

    async def scenario() -> None:
        async with envoy_stage(tmp_path) as ours:
            statuses = []
            for head in HEADS.values():
                async with connected(ours) as (reader, writer):
                    writer.write(f"POST {CHAT} HTTP/1.1\r\n{head}\r\n".encode())
                    statuses.append(int((await reader.readline()).split()[1]))
            assert statuses == [400, 400, 400, 401, 431]
            assert (await ours.send(chat("globex-dates"))).status == 404
            assert (await ours.send(chat())).status == 200
            counted = (await ours.ask("/stats/prometheus")).splitlines()
            nobody = 'envoy_fleetctl_requests{client="",alias="",version=""'
            assert {f'{nobody},status="400"}} 2', f'{nobody},status="401"}} 1'} < {*counted}
            kept = [(row["client"], row["status"]) for row in await ours.ended()]
            assert kept == [("acme", 404), ("acme", 200)]

    asyncio.run(scenario())


async def _leave(ours: Stage, seen: list[Any]) -> None:
    """Leave in the middle of a stream, and wait until the server has noticed."""
    async with aiohttp.ClientSession() as leaving:
        body, headers = chat("acme-slow", stream=True), {"Authorization": f"Bearer {ACME}"}
        reply = await leaving.post(ours.url + CHAT, json=body, headers=headers)
        await reply.content.readuntil(b"\n\n")
        reply.close()
    async with asyncio.timeout(60):
        while seen[-1:] != [b"left"]:  # noqa: ASYNC110 (written by a server in this loop)
            await asyncio.sleep(0)
