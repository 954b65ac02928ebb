"""Fields of a usage row: the trace, the wait for a turn, the cached part of the prompt."""

import asyncio
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from fleet.traffic import LimitPolicy, TrafficPolicy
from runtime.gateway.body.responses import inspect_response
from runtime.gateway.table.table import RoutingTable
from runtime.usage.parquet import compact
from tests.runtime.gateway.sockets import on
from tests.runtime.gateway.stage import GLOBEX, OLD, Stage, alias, chat, stage, table, until
from tests.runtime.usage.sums import summed

pytestmark = pytest.mark.usefixtures("serving_loop")
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
ANSWER = json.dumps(
    {
        "choices": [{"finish_reason": "stop", "message": {"content": "x"}}],
        "usage": {
            "prompt_tokens": 30,
            "completion_tokens": 1,
            "prompt_tokens_details": {"cached_tokens": 16},
        },
    }
).encode()


def test_a_trace_goes_on_to_the_server_and_its_id_into_the_row(tmp_path: Path) -> None:
    cases = [
        ({"traceparent": PARENT, "tracestate": "vendor=1"}, TRACE, "vendor=1"),
        ({"traceparent": PARENT}, TRACE, None),
        ({"traceparent": PARENT, "tracestate": "ü"}, TRACE, None),
        ({"traceparent": PARENT.upper(), "tracestate": "vendor=1"}, None, None),
        ({"traceparent": f"00-{'0' * 32}-{SPAN}-01"}, None, None),
        ({"traceparent": f"{PARENT}-more"}, None, None),
        ({"tracestate": "vendor=1"}, None, None),
        ({}, None, None),
    ]
    heads: list[dict[str, str]] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            if first.startswith("GET "):
                raise ConnectionResetError
            head = dict(line.lower().split(": ", 1) for line in lines if line)
            await reader.readexactly(int(head["content-length"]))
            heads.append(head)
            kind = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            writer.write(kind + b"Content-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER))

    async def scenario(ours: Stage) -> None:
        for given, _, _ in cases:
            assert (await ours.send(chat(), headers=given)).status == 200
        rows = ours.rows()
        assert [row["trace_id"] for row in rows] == [trace for _, trace, _ in cases]
        assert [(row["cached_tokens"], row["waited_s"]) for row in rows] == [(16, 0.0)] * len(cases)

    on(tmp_path, script, scenario)
    assert [head.get("traceparent") for head in heads] == [
        PARENT if trace else None for _, trace, _ in cases
    ]
    assert [head.get("tracestate") for head in heads] == [state for *_, state in cases]


def test_the_id_that_a_client_gives_is_in_its_answer_and_row_and_goes_to_no_server(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            given = ["7c0e-a.b:1", "7c0e-a.b:1", "two words", "x" * 129, "ü", ""]
            replies = [await ours.send(chat(), headers={"X-Request-Id": text}) for text in given]
            replies.append(await ours.send(chat("none"), headers={"X-Request-Id": "gone"}))
            replies.append(await ours.send(chat(stream=True), headers={"X-Request-Id": "s/1"}))
            rows = ours.rows()
            shown = [reply.headers["x-request-id"] for reply in replies]
            assert [row["given_id"] or row["request_id"] for row in rows] == shown
            kept = ["7c0e-a.b:1", "7c0e-a.b:1", None, None, None, None, "gone", "s/1"]
            assert [row["given_id"] for row in rows] == kept
            assert len({row["request_id"] for row in rows}) == len(rows)
            asked = {head["x-request-id"] for head in ours.replicas["s1"].headers}
            assert asked == {row["request_id"] for row in rows if row["status"] == 200}

    asyncio.run(scenario())


def test_what_no_server_reported_is_null_in_row_and_parquet_and_counted_as_unknown(
    tmp_path: Path,
) -> None:
    state = tmp_path / ".fleetctl"
    unknown = (
        "input_tokens", "output_tokens", "cached_tokens", "counted", "finish", "format_ok", "unit",
        "trace_id", "digest",
    )  # fmt: skip

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if head.startswith("get "):
            raise ConnectionResetError
        await reader.readexactly(int(re.findall(r"content-length: (\d+)", head)[0]))
        kind = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        writer.write(kind + b"Content-Length: 2\r\n\r\n{}")

    async def scenario(ours: Stage) -> None:
        assert (await ours.send(chat())).status == 200
        (row,) = ours.rows()
        assert {row[name] for name in unknown} == {None}

    on(tmp_path, script, scenario)
    (figures,) = summed(state)
    assert (figures["requests"], figures["unknown_tokens"]) == (1, 1)
    assert compact(state, datetime.now(UTC)).rows == 1
    with duckdb.connect() as database:
        found = database.read_parquet(f"{state}/usage/*.parquet").project(", ".join(unknown))
        assert set(found.fetchall()) == {(None,) * len(unknown)}


def test_a_request_that_waits_for_its_turn_notes_how_long(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.01) as ours:
            policy = TrafficPolicy(limits=LimitPolicy(concurrency=1, queue_s=60.0))
            entry = alias("acme", (OLD, 100, ("s1",)), policy=policy)
            given = table(ours.servers, revision=2)
            await ours.publish(given.model_copy(update={"aliases": {"acme-support": entry}}))
            first = asyncio.create_task(ours.send(chat(max_tokens=20, ignore_eos=True)))
            await until(ours, 1)
            assert (await ours.send(chat())).status == 200
            await first
            early, late = sorted(ours.rows(), key=lambda row: str(row["time"]))
            assert early["waited_s"] == 0.0
            assert 0.0 < late["waited_s"] <= late["latency_s"]

    asyncio.run(scenario())


def table_with_a_digest(servers: Mapping[str, str]) -> RoutingTable:
    """Return revision 2 of the usual table, which names the bytes of the version `OLD`."""
    given = table(servers, revision=2)
    entry = given.aliases["acme-support"]
    shares = (entry.shares[0], entry.shares[1].model_copy(update={"digest": "0a" * 6}))
    known = {"acme-support": entry.model_copy(update={"shares": shares})}
    return given.model_copy(update={"aliases": given.aliases | known})


def test_a_row_names_the_bytes_that_the_table_states_and_unknown_ones_stay_null(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            assert '"format"' not in table(ours.servers).canonical()
            given = table_with_a_digest(ours.servers)
            text = given.canonical()
            assert '"format":4' in text
            assert RoutingTable.model_validate_json(text).canonical() == text
            await ours.publish(given)
            assert (await ours.send(chat())).status == 200
            assert (await ours.send(chat("globex-dates"), secret=GLOBEX)).status == 200
            assert (await ours.send(chat("foreign"))).status == 404
            found = {row["alias"]: row["digest"] for row in ours.rows()}
            assert found == {"acme-support": "0a" * 6, "globex-dates": None, "": None}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("usage", "cached", "tokens"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 1}, None, 9),
        ({"prompt_tokens": 9, "prompt_tokens_details": None}, None, 9),
        ({"prompt_tokens": 9, "prompt_tokens_details": {}}, None, 9),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}, 4, 9),
        ({"input_tokens": 9, "input_tokens_details": {"cached_tokens": 0}}, 0, 9),
        ({"input_tokens": 9, "cache_read_input_tokens": 4}, 4, 13),
    ],
)
def test_cached_tokens_are_a_part_of_the_prompt_in_any_shape(
    usage: dict[str, object], cached: int | None, tokens: int
) -> None:
    found = inspect_response(json.dumps({"usage": usage}).encode(), None).tokens
    assert (found.cached_tokens, found.prompt_tokens) == (cached, tokens)
