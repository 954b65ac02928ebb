"""Refused requests fill no disk: without a valid key they leave no row, with one a few an hour."""

import asyncio
import json
import re
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from runtime.gateway.traffic.accounting import ROWS_AN_HOUR, RefusalQuota
from runtime.usage.row import UsageRow
from tests.ports import free_port
from tests.runtime.gateway.sockets import answered, connected, post, raw
from tests.runtime.gateway.stage import (
    ACME,
    CHAT,
    LASTING,
    NEW,
    OLD,
    Stage,
    alias,
    chat,
    long,
    raw_server,
    stage,
    table,
    until,
)

LARGE = str(16 * 2**20)
"""Length of the largest body that is allowed, bytes."""


def unlogged(metrics: str) -> Counter[tuple[str, str]]:
    found = re.findall(
        r'^fleetctl_unlogged_requests_total\{client="(\w*)",status="(\d+)"\} (\d+)$',
        metrics,
        re.MULTILINE,
    )
    return Counter({(client, status): int(count) for client, status, count in found})


async def asked(ours: Stage, request: bytes, times: int) -> Counter[int]:
    """Send a request again and again on a connection; return how often each status came."""
    seen: Counter[int] = Counter()
    async with connected(ours) as (reader, writer):
        for _ in range(times):
            writer.write(request)
            seen[(await answered(reader))[0]] += 1
    return seen


def test_senders_without_a_key_leave_no_row(tmp_path: Path) -> None:
    """Each 401 was a row of 459 bytes: a volume of 20 MB was full in 3.7 s."""

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            assert await asked(ours, post(raw(), key="wrong"), 500) == {401: 500}
            # A body that breaks off, and a body with too many bytes around the few that it has.
            for _ in range(20):
                async with connected(ours) as (_, writer):
                    writer.write(post(b"{", key="wrong", length="99"))
            assert (await ours.send(chat())).status == 200
            assert [row["status"] for row in ours.rows()] == [200]
            metrics = (await ours.shown())["the metrics"].decode()
            assert unlogged(metrics)["", "401"] == 500
            assert 'alias="",version="",status="401"} 500' in metrics

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("body", "status"), [(json.dumps(chat("globex-dates")).encode(), 404), (b"{", 400)]
)
def test_refused_requests_of_a_key_are_rows_up_to_a_quota(
    body: bytes, status: int, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            more = 50
            seen = await asked(ours, post(body, key=ACME), ROWS_AN_HOUR + more)
            assert seen == {status: ROWS_AN_HOUR + more}
            assert (await ours.send(chat())).status == 200
            counted = Counter((row["client"], row["status"]) for row in ours.rows())
            assert counted == {("acme", status): ROWS_AN_HOUR, ("acme", 200): 1}
            metrics = (await ours.shown())["the metrics"].decode()
            assert unlogged(metrics) == {("acme", str(status)): more}
            total = f'version="",status="{status}"}} {ROWS_AN_HOUR + more}'
            assert total in metrics  # the counters of requests have all of them
            (gateway,) = await ours.gateways.statuses()
            assert gateway.unlogged == (("acme", more),)

    asyncio.run(scenario())


def test_bodies_that_their_client_leaves_are_rows_up_to_a_quota(tmp_path: Path) -> None:
    """A head with the key and a byte of 99, then the end: 1,500 rows of 499 in 1.1 s."""

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            for _ in range(1500):
                async with connected(ours) as (reader, writer):
                    writer.write(post(b"{", length="99"))
                    writer.write_eof()
                    assert await reader.read() == b""
            assert (await ours.send(chat())).status == 200
            counted = Counter((row["status"], row["server"]) for row in ours.rows())
            assert counted == {(499, ""): ROWS_AN_HOUR, (200, "s1"): 1}
            metrics = (await ours.shown())["the metrics"].decode()
            assert unlogged(metrics) == {("acme", "499"): 1500 - ROWS_AN_HOUR}

    asyncio.run(scenario())


def test_bodies_without_memory_are_rows_up_to_a_quota(tmp_path: Path) -> None:
    """Heads of 16 MiB beside 12 that are held: 1,304 rows of 503 in 1.0 s."""

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, AsyncExitStack() as held:
            for _ in range(12):
                _, writer = await held.enter_async_context(connected(ours))
                writer.write(post(b"", length=LARGE))
            refused = 0
            while refused < 1304:
                async with connected(ours) as (reader, writer):
                    writer.write(post(b"", length=LARGE))
                    status, body = await answered(reader)
                    assert (status, json.loads(body)["error"]["code"]) == (503, "overloaded")
                    refused += 1
            counted = Counter((row["client"], row["status"]) for row in ours.rows())
            assert counted == {("acme", 503): ROWS_AN_HOUR}

    asyncio.run(scenario())


def test_requests_that_no_server_answers_are_rows_without_end(tmp_path: Path) -> None:
    """Gates, alerts and promises count them: that no server answers is not the client's doing."""

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            await ours.publish(table({"s1": f"http://127.0.0.1:{free_port()}"}, revision=2))
            more = ROWS_AN_HOUR + 50
            assert await asked(ours, post(raw()), more) == {503: more}
            counted = Counter((row["alias"], row["version"], row["status"]) for row in ours.rows())
            assert counted == {("acme-support", OLD, 503): more}

    asyncio.run(scenario())


def test_a_row_names_the_server_that_had_a_request_without_an_answer(tmp_path: Path) -> None:
    """Broken off, or left at work: `server` was empty, as of requests that no server had."""

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.01) as ours:
            async with connected(ours) as (_, writer):
                writer.write(post(json.dumps(long(LASTING)).encode()))
                await until(ours, 1)
            await until(ours, 0)
            async with raw_server(b"") as (url, _):
                dying = table({**ours.servers, "dying": url}, revision=2)
                dying.aliases["acme-support"] = alias("acme", (NEW, 100, ("dying",)))
                await ours.publish(dying)
                assert (await ours.send(chat())).status == 502
            kept = [(row["status"], row["version"], row["server"]) for row in ours.rows()]
            assert kept == [(499, OLD, "s1"), (502, NEW, "dying")]

    asyncio.run(scenario())


def row(
    client: str, status: int, server: str = "", version: str = "", purpose: str = "live"
) -> UsageRow:
    return UsageRow(
        "", "", client, version=version, server=server, path=CHAT, status=status, purpose=purpose
    )


def test_a_quota_is_of_a_client_and_of_an_hour() -> None:
    now = 0.0
    quota = RefusalQuota(lambda: now)
    for client in ("acme", "globex"):
        rows = [quota.leaves_row(row(client, 429)) for _ in range(ROWS_AN_HOUR + 1)]
        assert rows == [*[True] * ROWS_AN_HOUR, False]
    now = 3600.0
    assert quota.leaves_row(row("acme", 429))
    assert quota.by_client() == {"acme": 1, "globex": 1}


@pytest.mark.parametrize(
    "kept",
    [
        row("acme", 200, "s1", OLD), row("acme", 400, "s1", OLD), row("acme", 429, "s1", OLD),
        row("acme", 499, "s1", OLD), row("acme", 502, "s1", OLD), row("acme", 503, version=OLD),
        row("", 404, purpose="eval"),
    ],
)  # fmt: skip
def test_what_reached_a_server_or_found_none_and_the_operators_requests_are_rows_without_end(
    kept: UsageRow,
) -> None:
    quota = RefusalQuota()
    assert all(quota.leaves_row(kept) for _ in range(2 * ROWS_AN_HOUR))
    assert not quota.unlogged


@pytest.mark.parametrize(
    "lost", [row("acme", 499), row("acme", 499, version=OLD), row("acme", 500), row("acme", 503)]
)
def test_what_is_lost_before_a_server_has_the_request_is_a_row_up_to_the_quota(
    lost: UsageRow,
) -> None:
    """Left, or refused by the gateway itself: each had a row, all from 499 on."""
    quota = RefusalQuota()
    assert sum(quota.leaves_row(lost) for _ in range(2 * ROWS_AN_HOUR)) == ROWS_AN_HOUR
