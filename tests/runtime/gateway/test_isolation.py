"""A client reaches its own aliases only, with any request."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from runtime.gateway.body.fields import DROPPED
from tests.runtime.gateway.probe_inputs import FOREIGN, MALFORMED, NO_KEY, PATHS
from tests.runtime.gateway.sockets import answered, connected, post, raw
from tests.runtime.gateway.stage import (
    ACME,
    CHAT,
    GLOBEX,
    NEW,
    OLD,
    TEXT,
    Reply,
    Stage,
    chat,
    stage,
    table,
)

pytestmark = pytest.mark.usefixtures("serving_loop")


def clean(stage: Stage, reply: Reply) -> None:
    """Nothing of another client's, and no secret, is in an answer or the log."""
    log = (stage.state / "gateways/main/usage.jsonl").read_bytes()
    for word in (b"globex", ACME.encode(), GLOBEX.encode()):
        assert word not in reply.body
        assert word not in log
        assert word not in "".join(reply.headers.values()).encode()


def test_every_name_that_is_not_its_own_alias_gets_one_and_the_same_404(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            replies = {name: await ours.send(raw) for name, raw in FOREIGN.items()}
            assert {name: each.status for name, each in replies.items()} == dict.fromkeys(
                FOREIGN, 404
            )
            assert len({each.body for each in replies.values()}) == 1
            for reply in replies.values():
                clean(ours, reply)
            assert ours.asked == []

    asyncio.run(scenario())


def test_bodies_that_two_readers_could_read_differently_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            replies = {name: await ours.send(raw) for name, raw in MALFORMED.items()}
            assert {name: each.status for name, each in replies.items()} == dict.fromkeys(
                MALFORMED, 400
            )
            for reply in replies.values():
                assert reply.json["error"]["type"] == "invalid_request_error"
                clean(ours, reply)
            assert ours.asked == []

    asyncio.run(scenario())


def test_other_encodings_of_a_body_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            for headers in (
                {"Content-Encoding": "gzip"},
                {"Content-Type": "application/json; charset=utf-16"},
                {"Content-Type": "application/x-www-form-urlencoded"},
                {"Content-Type": "multipart/form-data; boundary=x"},
            ):
                assert (await ours.send(chat(), headers=headers)).status == 400
            assert ours.asked == []

    asyncio.run(scenario())


@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "DELETE"])
def test_no_path_but_those_of_the_list_exists(tmp_path: Path, method: str) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            for path in PATHS:
                reply = await ours.send(chat(), path=path, method=method)
                assert (path, reply.status) == (path, 404)
                assert reply.json["error"]["code"] == "unknown_url"
            assert ours.asked == []

    asyncio.run(scenario())


def test_whoever_has_no_key_gets_401(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            for headers in NO_KEY:
                for path, method in ((CHAT, "POST"), (TEXT, "POST"), ("/v1/models", "GET")):
                    reply = await ours.send(
                        chat(), path=path, method=method, secret=None, headers=headers
                    )
                    assert (headers, reply.status) == (headers, 401)
                    assert reply.json["error"]["code"] == "invalid_api_key"
                    clean(ours, reply)
            assert ours.asked == []

    asyncio.run(scenario())


def test_fields_that_cross_tenants_are_dropped_and_all_others_stay_byte_exact(
    tmp_path: Path,
) -> None:
    crossing: dict[str, Any] = dict.fromkeys(DROPPED, 7)
    others = b'"seed":9007199254740993,"temperature":0.10,"documents":{"a": 1e2,"a":"\\u00e4"}'
    raw = json.dumps(chat(**crossing)).encode()[:-1] + b"," + others + b"}"

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            assert (await ours.send(raw)).status == 200
            (sent,) = ours.replicas["s1"].bodies
            assert others in sent
            read = json.loads(sent)
            assert read["model"] == OLD
            assert read["cache_salt"] == "acme"
            assert set(read) & DROPPED == {"cache_salt"}

    asyncio.run(scenario())


def test_a_revoked_key_opens_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            assert (await ours.send(chat())).status == 200
            table, _ = await ours.gateways.read_table()
            kept = {name: key for name, key in table.keys.items() if name != "acme/prod"}
            await ours.gateways.publish(table.model_copy(update={"revision": 2, "keys": kept}))
            assert (await ours.send(chat())).status == 401
            assert (await ours.send(chat("globex-dates"), secret=GLOBEX)).status == 200

    asyncio.run(scenario())


def test_an_answer_names_the_asked_model_and_its_version_in_the_header(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=100) as ours:
            reply = await ours.send(chat())
            assert (reply.json["model"], reply.version) == ("acme-support", NEW)
            assert reply.headers["Server"] == "fleetctl"
            clean(ours, reply)

    asyncio.run(scenario())


def test_metrics_name_what_happened_and_no_secret(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            await ours.send(chat())
            await ours.send(chat(user="somebody"))
            await ours.send(chat("globex-dates"))
            await ours.send(chat(), secret="a-wrong-secret")
            lines = (await ours.shown())["the metrics"].decode().splitlines()
            served = f'client="acme",alias="acme-support",version="{OLD}"'
            assert f'fleetctl_requests_total{{{served},status="200"}} 2' in lines
            assert f"fleetctl_request_seconds_count{{{served}}} 2" in lines
            assert f"fleetctl_output_tokens_total{{{served}}} 12" in lines
            refused = 'client="acme",alias="",version=""'
            assert f'fleetctl_requests_total{{{refused},status="404"}} 1' in lines
            text = "\n".join(lines)
            for word in (ACME, GLOBEX, "a-wrong-secret", "somebody", "globex"):
                assert word not in text

    asyncio.run(scenario())


def test_a_body_above_the_limit_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            reply = await ours.send(chat(text="x" * (16 * 2**20 + 1)))
            assert reply.status == 413
            assert ours.asked == []

    asyncio.run(scenario())


def test_a_key_that_is_revoked_opens_nothing_on_a_connection_that_knew_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, connected(ours) as (reader, writer):
            statuses = []
            keys = table(ours.servers).keys
            others = {name: key for name, key in keys.items() if key.client != "acme"}
            for revision, held in enumerate((keys, others, keys), start=2):
                given = table(ours.servers, revision=revision)
                await ours.gateways.publish(given.model_copy(update={"keys": held}))
                for _ in range(2):
                    writer.write(post(raw()))
                    statuses.append((await answered(reader))[0])
            assert statuses == [200, 200, 401, 401, 200, 200]
            assert len(ours.asked) == 4

    asyncio.run(scenario())
