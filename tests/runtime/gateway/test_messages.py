"""Clients of the Anthropic API: their way to show a key, and their errors."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from fleet.traffic import LimitPolicy, TrafficPolicy
from runtime.gateway.body.endpoints import MESSAGES, PATHS
from runtime.gateway.http.incoming import MAX_BODY
from tests.runtime.gateway.sockets import asked, on, told
from tests.runtime.gateway.stage import (
    ACME,
    CHAT,
    GLOBEX,
    OLD,
    Reply,
    Stage,
    alias,
    chat,
    stage,
    table,
)

pytestmark = pytest.mark.usefixtures("serving_loop")
BOTH = {"Authorization": f"Bearer {ACME}", "x-api-key": ACME}


def kind(reply: Reply) -> str:
    """Return the type of an error in the shape of messages, which has no other members."""
    assert reply.headers["Content-Type"] == "application/json"
    error = reply.json
    assert (set(error), error["type"]) == ({"type", "error"}, "error")
    assert set(error["error"]) == {"type", "message"}
    return str(error["error"]["type"])


async def well(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
    while True:
        await asked(reader)
        writer.write(told("well"))


def test_a_key_may_come_as_x_api_key_on_each_path(tmp_path: Path) -> None:
    async def scenario(ours: Stage) -> None:
        shown = {"x-api-key": ACME, "anthropic-version": "2023-06-01"}
        for path in sorted(PATHS):
            reply = await ours.send(chat(), path=path, secret=None, headers=shown)
            assert (path, reply.status, reply.version) == (path, 200, OLD)
            foreign = await ours.send(chat(), path=path, secret=None, headers={"X-API-Key": GLOBEX})
            assert foreign.status == 404
        listed = await ours.send(path="/v1/models", method="GET", secret=None, headers=shown)
        assert [each["id"] for each in listed.json["data"]] == ["acme-support"]
        served = [row["client"] for row in ours.rows() if row["status"] == 200]
        assert served == ["acme"] * len(PATHS)

    on(tmp_path, well, scenario)


@pytest.mark.parametrize(
    "headers", [BOTH, {**BOTH, "x-api-key": GLOBEX}, {**BOTH, "x-api-key": ""}], ids=str
)
def test_who_shows_two_keys_shows_none(tmp_path: Path, headers: dict[str, str]) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            for path in (CHAT, MESSAGES):
                assert (await ours.send(chat(), path=path, headers=headers)).status == 401
            assert ours.asked == []

    asyncio.run(scenario())


def test_refusals_on_messages_have_its_own_shape_save_for_the_one_404(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:

            async def ask(body: Any, **more: Any) -> tuple[int, str]:
                reply = await ours.send(body, path=MESSAGES, **more)
                return reply.status, kind(reply)

            assert await ask(chat(), secret="wrong") == (401, "authentication_error")
            assert await ask(b"{") == (400, "invalid_request_error")
            assert await ask(b"x" * (MAX_BODY + 1)) == (413, "request_too_large")
            assert await ask(None, method="GET") == (405, "invalid_request_error")
            policy = TrafficPolicy(limits=LimitPolicy(requests_per_minute=1))
            entry = alias("acme", (OLD, 100, ("s1",)), policy=policy)
            given = table(ours.servers, revision=2)
            await ours.gateways.publish(
                given.model_copy(update={"aliases": {"acme-support": entry}})
            )
            await ours.replicas["s1"].stop()
            assert await ask(chat()) == (503, "overloaded_error")
            limited = await ours.send(chat(), path=MESSAGES)
            assert (limited.status, kind(limited)) == (429, "rate_limit_error")
            assert int(limited.headers["Retry-After"]) > 0
            foreign = [
                await ours.send(chat(name), path=path)
                for path in PATHS
                for name in ("globex-dates", "nobody", OLD)
            ]
            assert {each.status for each in foreign} == {404}
            (told,) = {each.body for each in foreign}  # OpenAI's shape, readable to both
            assert set(json.loads(told)) == {"type", "error"}
            assert set(json.loads(told)["error"]) == {"message", "type", "param", "code"}

    asyncio.run(scenario())


def test_a_server_that_breaks_off_is_an_error_of_that_api_too(tmp_path: Path) -> None:
    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        await asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")

    async def scenario(ours: Stage) -> None:
        reply = await ours.send(chat(), path=MESSAGES)
        assert (reply.status, kind(reply)) == (502, "api_error")

    on(tmp_path, breaks, scenario)
