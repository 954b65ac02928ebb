"""Responses, messages and embeddings before servers that have them all: split, counted, guarded."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from fleet.traffic import TrafficPolicy
from runtime.gateway.body.fields import DROPPED
from runtime.usage.row import to_usage_row
from tests.runtime.gateway.envoy_stage import EnvoyStage
from tests.runtime.gateway.fronts import Front
from tests.runtime.gateway.stage import CHAT, NEW, OLD, Stage, alias, chat, stage, table
from tests.runtime.gateway.typed_server import EMBEDDINGS, MADE, MESSAGES, READ, RESPONSES

PATHS = (RESPONSES, MESSAGES, EMBEDDINGS)


def asks(**more: Any) -> dict[str, Any]:
    """Bodies by path."""
    return chat(input="hello", max_tokens=1, **more)


async def all_rows(ours: Stage) -> list[dict[str, Any]]:
    """Return the logged rows in the form of a gateway; an Envoy is stopped for that."""
    return (
        [to_usage_row(row) for row in await ours.ended()]
        if isinstance(ours, EnvoyStage)
        else ours.rows()
    )


def test_a_user_is_on_the_same_version_on_every_path(tmp_path: Path, front: Front) -> None:
    async def scenario() -> None:
        async with front.stage(tmp_path, new=50) as ours:
            for number in range(16):
                user = {"user": f"user-{number}", "metadata": {"user_id": f"user-{number}"}}
                given = {
                    (await ours.send(asks(**user, stream=stream), path=path)).version
                    for path in (CHAT, *PATHS)
                    for stream in (False, True)
                }
                assert len(given) == 1
                named = {"metadata": user["metadata"]}  # all that messages can say
                first, again = [await ours.send(asks(**named), path=MESSAGES) for _ in "12"]
                assert first.version == again.version
            assert set(ours.asked) == {NEW, OLD}

    asyncio.run(scenario())


def test_tokens_are_counted_on_every_path_in_answers_and_streams(
    tmp_path: Path, front: Front
) -> None:
    asked = [(path, stream) for path in PATHS for stream in (False, True)]

    async def scenario() -> None:
        async with front.stage(tmp_path) as ours:
            for path, stream in asked:
                reply = await ours.send(asks(stream=stream), path=path)
                events = stream and path != EMBEDDINGS
                kind = "text/event-stream" if events else "application/json"
                assert (reply.status, reply.version) == (200, OLD)
                assert reply.headers["content-type"].partition(";")[0] == kind
            rows = await all_rows(ours)
            counted = [
                (r["path"], r["stream"], r["input_tokens"], r["output_tokens"]) for r in rows
            ]
            assert counted == [
                (path, stream, READ, 0 if path == EMBEDDINGS else MADE) for path, stream in asked
            ]

    asyncio.run(scenario())


@pytest.mark.parametrize("path", PATHS)
def test_no_field_that_crosses_tenants_reaches_a_server(
    tmp_path: Path, front: Front, path: str
) -> None:
    crossing: dict[str, Any] = dict.fromkeys(DROPPED, 7)

    async def scenario() -> None:
        async with front.stage(tmp_path) as ours:
            assert (await ours.send(asks(**crossing, temperature=0.5), path=path)).status == 200
            (sent,) = ours.replicas["s1"].bodies
            read = json.loads(sent)
            assert 7 not in read.values()
            assert (read["model"], read["cache_salt"]) == (OLD, "acme")
            assert (read["temperature"], "stream_options" in read) == (0.5, False)
            assert read.get("store") == (False if path == RESPONSES else None)

    asyncio.run(scenario())


@pytest.mark.usefixtures("serving_loop")
@pytest.mark.parametrize("path", [CHAT, *PATHS])
def test_a_server_that_looks_at_priorities_is_told_one_on_every_path(
    tmp_path: Path, path: str
) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            for revision, prioritized in ((2, True), (3, False)):
                entry = alias(
                    "acme",
                    (OLD, 100, ("s1",)),
                    policy=TrafficPolicy(prioritized=prioritized, turns=8),
                )
                given = table(ours.servers, revision=revision)
                await ours.publish(given.model_copy(update={"aliases": {"acme-support": entry}}))
                own = {"X-Vllm-Priority": "-99"}
                assert (await ours.send(asks(), path=path, headers=own)).status == 200
            urgent, plain = ours.replicas["s1"].headers
            assert urgent["x-vllm-priority"] == "-8"
            assert "x-vllm-priority" not in plain

    asyncio.run(scenario())


def test_many_tools_of_its_own_are_taken_and_one_of_the_servers_among_them_is_not(
    tmp_path: Path, front: Front
) -> None:
    tools: list[dict[str, Any]] = [
        {"type": "function", "name": f"f{n}", "description": "x" * 1000} for n in range(200)
    ]

    async def scenario() -> None:
        async with front.stage(tmp_path) as ours:
            assert (await ours.send(asks(tools=tools), path=RESPONSES)).status == 200
            (sent,) = ours.replicas["s1"].bodies
            assert json.loads(sent)["tools"] == tools
            foreign = [*tools, {"type": "mcp", "server_url": "http://10.0.0.1"}]
            refused = await ours.send(asks(tools=foreign), path=RESPONSES)
            assert (refused.status, refused.json["error"]["param"]) == (400, "tools")
            taken = await ours.send(asks(tools=foreign), path=CHAT)  # for the server to refuse
            assert taken.version == OLD

    asyncio.run(scenario())
