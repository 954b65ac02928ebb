"""Requests that are allowed on the paths, and the bodies that servers get."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from fleet.traffic import TrafficPolicy
from runtime.gateway.body.body import parse_body
from runtime.gateway.body.endpoints import (
    ANTHROPIC,
    CHAT,
    EMBEDDINGS,
    MESSAGES,
    NOT_SERVED,
    PATHS,
    RESPONSES,
    TEXT,
    check_fields,
)
from runtime.gateway.body.errors import ApiError
from tests.runtime.gateway.admin_side import ask_admin
from tests.runtime.gateway.sockets import scripted
from tests.runtime.gateway.stage import ACME, OLD, Stage, alias, chat, stage, table
from tests.runtime.gateway.test_body import for_server


@pytest.mark.parametrize(
    ("path", "fields", "says"),
    [
        (CHAT, {"n": 3}, "At most 2"),
        (CHAT, {"n": "3"}, "At most 2"),  # which vLLM reads as a number
        (CHAT, {"n": 1e9}, "At most 2"),
        (CHAT, {"n": 2}, ""),
        (CHAT, {"n": None}, ""),
        (CHAT, {"n": " 1_0.0 "}, "At most 2"),
        (CHAT, {"n": 1e300}, "At most 2"),
        (CHAT, {"n": "inf"}, "At most 2"),
        (CHAT, {"n": 10**400}, "not a number"),
        (CHAT, {"n": "many"}, "not a number"),
        (CHAT, {"n": [3]}, "not a number"),
        (CHAT, {"n": "nan"}, "not a number"),
        (CHAT, {"prompt": ["a", "b", "c"]}, ""),
        (TEXT, {"prompt": ["a", "b", "c"]}, "At most 2"),
        (TEXT, {"prompt": [[1, 2], [3], [4]]}, "At most 2"),
        (TEXT, {"prompt": ["a", "b"], "n": 2}, "At most 2"),
        (TEXT, {"prompt": [1, 2, 3]}, ""),  # one prompt, as tokens
        (TEXT, {"prompt": "abc", "n": 2}, ""),
        (EMBEDDINGS, {"input": ["a", "b", "c"]}, ""),
        (RESPONSES, {"previous_response_id": "resp_1"}, "no conversation"),
        (RESPONSES, {"conversation": {"id": "x"}}, "no conversation"),
        (RESPONSES, {"background": True}, "no conversation"),
        (RESPONSES, {"n": 2, "background": True}, "no conversation"),
        (RESPONSES, {"n": 2, "tools": [{"type": "mcp"}]}, "Only tools"),
        (RESPONSES, {"background": False, "previous_response_id": None}, ""),
        (RESPONSES, {"tools": [{"type": "mcp", "server_url": "http://10.0.0.1"}]}, "Only tools"),
        (RESPONSES, {"tools": [{"type": "function"}, {"type": "code_interpreter"}]}, "Only tools"),
        (RESPONSES, {"tools": [{"type": "function"}]}, ""),
        (CHAT, {"previous_response_id": "resp_1"}, ""),
    ],
)
def test_what_one_request_may_not_ask_for(path: str, fields: dict[str, Any], says: str) -> None:
    body = parse_body(json.dumps({"model": "acme-support", **fields}).encode())
    if not says:
        check_fields(path, body.fields, max_answers=2)
        return
    with pytest.raises(ApiError, match=says):
        check_fields(path, body.fields, max_answers=2)


@pytest.mark.parametrize(
    "asked",
    [
        rb'"n":"\u0031\u0030\u0030"',
        rb'"n":"1\u00300"',
        rb'"n":"\n100"',
        b'"n":1e2',
        b'"prompt":[' + b" " * 70 + b'"a","b","c"]',
        b'"prompt":[' + b"\n\t\r " * 5000 + b"[1],[2],[3]]",
        b'"n":"\\u0032","prompt":[' + b" " * 63 + b'"a","b"]',
    ],
)
def test_no_way_of_writing_makes_many_answers_look_like_few(asked: bytes) -> None:
    body = parse_body(b'{"model":"acme-support",%b}' % asked)
    with pytest.raises(ApiError, match="At most 2"):
        check_fields(TEXT, body.fields, max_answers=2)


@pytest.mark.parametrize(
    ("path", "priority", "more"),
    [
        (CHAT, None, {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}),
        (TEXT, -4, {"stream_options": {"include_usage": True, "continuous_usage_stats": True},
                    "priority": -4}),
        (RESPONSES, None, {"store": False}),
        (MESSAGES, None, {}),
    ],
)  # fmt: skip
def test_what_a_path_adds_to_a_body(path: str, priority: int | None, more: dict[str, Any]) -> None:
    asked = {"model": "acme-support", "stream": True, "priority": -9, "temperature": 0.5}
    body = parse_body(json.dumps(asked).encode())
    sent = json.loads(for_server(body, OLD, "acme", path, priority))
    kept = {"model": OLD, "cache_salt": "acme", "stream": True, "temperature": 0.5}
    assert sent == kept | more


NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.usefixtures("serving_loop")
@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("path", sorted(PATHS))
def test_a_path_that_a_base_does_not_serve_costs_no_replica_its_version(
    tmp_path: Path, path: str, *, streams: bool
) -> None:
    served: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            served.append(head.split()[1] + await reader.readexactly(length))
            body = NOT_SERVED
            writer.write(NOT_FOUND % len(body) + body)

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, scripted(script) as url:
            await ours.gateways.publish(table({"s1": url, "s2": url}, revision=2))
            reply = await ours.send(chat(stream=streams), path=path)
            error = reply.json["error"]
            says = error["type"] if path in ANTHROPIC else error["code"]
            assert (reply.status, says) == (
                404,
                ("unknown_url", "not_found_error")[path in ANTHROPIC],
            )
            assert len(served) == 1  # another replica would say the same
            assert served[0].startswith(path.encode())
            assert await missing(ours) == []
            (row,) = ours.rows()
            assert (row["status"], row["path"], row["version"]) == (404, path, OLD)

    asyncio.run(scenario())


async def missing(ours: Stage) -> list[dict[str, Any]]:
    config = await ask_admin(ours.state, "/-/config")
    found: list[dict[str, Any]] = config["missing"]
    return found


@pytest.mark.usefixtures("serving_loop")
def test_many_answers_at_once_are_refused_by_the_alias_own_limit(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            given = table(ours.servers, revision=2)
            entry = alias("acme", (OLD, 100, ("s1",)), policy=TrafficPolicy(choices=2))
            await ours.gateways.publish(
                given.model_copy(update={"aliases": {"acme-support": entry}})
            )
            assert (await ours.send(chat(n=2))).status == 200
            reply = await ours.send(chat(n=3))
            assert (reply.status, reply.json["error"]["param"]) == (400, "n")
            assert len(ours.asked) == 1
            foreign = await ours.send(chat("globex-dates", n=3))
            assert foreign.json["error"]["code"] == "model_not_found"  # and not whose limit it is
            assert ACME not in foreign.body.decode()

    asyncio.run(scenario())
