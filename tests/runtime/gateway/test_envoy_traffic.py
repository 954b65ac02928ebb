"""Requests through an Envoy: split, kept, streamed, counted, logged; revisions taken under them."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fleet.errors import EngineRejectedError
from fleetctl.envoys import envoys_of
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.envoy.admin import Envoys
from runtime.gateway.envoy.files import ROUTES
from runtime.usage.read import UsageReader
from runtime.usage.row import to_usage_row
from tests.runtime.gateway.envoy_stage import (
    ENVOY,
    SECRETS,
    EnvoyStage,
    envoy_stage,
    healthy_server,
    needs_envoy,
)
from tests.runtime.gateway.stage import (
    ACME,
    CHAT,
    EVENT,
    GLOBEX,
    HEAD,
    LASTING,
    NEW,
    OLD,
    alias,
    chat,
    key,
    long,
    running,
    table,
)
from tests.runtime.gateway.test_row_fields import PARENT, TRACE, table_with_a_digest
from tests.runtime.usage.sums import summed

pytestmark = needs_envoy
USERS = 1000


async def versions(ours: EnvoyStage, **how: str) -> list[str]:
    """Return the versions that users get, by user."""
    free = asyncio.Semaphore(16)

    async def ask(number: int) -> str:
        async with free:
            named = {name: f"{value}{number}" for name, value in how.items()}
            return (await ours.send(chat(max_tokens=1, **named))).version

    return list(await asyncio.gather(*map(ask, range(USERS))))


def test_a_share_that_grows_keeps_its_users(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path, new=10) as ours:
            canary: set[int] = set()
            cohorts = {}
            for revision, share in ((1, 10), (2, 50), (3, 90)):
                if revision > 1:
                    await ours.publish(table(ours.servers, new=share, revision=revision))
                given = await versions(ours, user="user-")
                assert set(given) == {OLD, NEW}
                users = {number for number, version in enumerate(given) if version == NEW}
                assert abs(len(users) / USERS - share / 100) < 0.05
                assert canary <= users
                canary = cohorts[share] = users
            salted = table(ours.servers, new=10, revision=4)
            names = tuple(ours.servers)
            entry = alias("acme", (NEW, 10, names), (OLD, 90, names), salt="another")
            aliases = {**salted.aliases, "acme-support": entry}
            await ours.publish(salted.model_copy(update={"aliases": aliases}))
            given = await versions(ours, user="user-")
            again = {number for number, version in enumerate(given) if version == NEW}
            assert len(again & cohorts[10]) < 40  # 10 by chance: no user is always the first

    asyncio.run(scenario())


def test_a_stream_arrives_as_it_is_generated_and_is_counted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path, token_seconds=0.2) as ours:
            async with ours.http.post(
                ours.url + CHAT,
                json=long(20, stream=True),
                headers={"Authorization": f"Bearer {ACME}"},
            ) as reply:
                assert reply.content_type == "text/event-stream"
                assert reply.headers["x-fleetctl-version"] == OLD
                first = await reply.content.readuntil(b"\n\n")
                assert running(ours) == 1  # it arrives while the server works
                ours.replicas["s1"].pace(0)
                rest = await reply.content.read()
            events = (first + rest).decode().split("\n\n")
            assert events[-2:] == ["data: [DONE]", ""]
            last = json.loads(events[-3].removeprefix("data: "))
            assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 20)
            given = {"X-Session-Id": "a", "traceparent": PARENT, "tracestate": "vendor=1"}
            whole = (await ours.send(chat(), headers=given)).json["usage"]
            stats = (await ours.ask("/stats/prometheus")).splitlines()
            served = f'client="acme",alias="acme-support",version="{OLD}"'
            tokens = 20 + whole["completion_tokens"]
            assert f"envoy_fleetctl_output_tokens{{{served}}} {tokens}" in stats
            assert f'envoy_fleetctl_requests{{{served},status="200"}} 2' in stats
            streamed, counted = map(to_usage_row, await ours.ended())
            assert (streamed["stream"], streamed["output_tokens"]) == (True, 20)
            assert (counted["stream"], counted["output_tokens"]) == (False, tokens - 20)
            assert counted["input_tokens"] == whole["prompt_tokens"]
            assert (streamed["trace_id"], counted["trace_id"]) == (None, TRACE)
            sent = ours.replicas["s1"].headers[-1]
            assert (sent["traceparent"], sent["tracestate"]) == (PARENT, "vendor=1")
            assert 0 < streamed["first_byte_us"] < streamed["latency_us"]
            for row in (streamed, counted):
                kept = (row["client"], row["alias"], row["version"], row["status"])
                assert kept == ("acme", "acme-support", OLD, 200)
                assert (row["server"], row["path"], row["revision"]) == ("s1", CHAT, 1)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "answer", [b"", HEAD % b"text/event-stream" + EVENT], ids=["waiting", "in a stream"]
)
def test_a_client_that_leaves_ends_its_request_on_the_server(tmp_path: Path, answer: bytes) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path) as ours, healthy_server(answer, waits=True) as (url, seen):
            await ours.publish(table({"s1": url}, revision=2))
            headers = {"Authorization": f"Bearer {ACME}"}
            async with aiohttp.ClientSession() as leaving:
                request = asyncio.create_task(
                    leaving.post(ours.url + CHAT, json=chat(stream=bool(answer)), headers=headers)
                )
                async with asyncio.timeout(60):
                    while not seen:  # noqa: ASYNC110 (written by a server in this loop)
                        await asyncio.sleep(0)
                    if answer:
                        reply = await request
                        assert await reply.content.readuntil(b"\n\n") == b"data: x\n\n"
                        reply.close()
                    else:
                        request.cancel()
                    while seen[-1] != b"left":  # noqa: ASYNC110 (as above)
                        await asyncio.sleep(0)
            (left,) = map(to_usage_row, await ours.ended())
            assert (left["status"], left["version"], left["server"]) == (499, OLD, "s1")
            assert 0 <= left["latency_s"] < 60  # in whole milliseconds

    asyncio.run(scenario())


def test_a_row_names_the_bytes_that_the_table_states(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path) as ours:
            await ours.publish(table_with_a_digest(ours.servers))
            assert (await ours.send(chat())).status == 200
            assert (await ours.send(chat("globex-dates"), secret=GLOBEX)).status == 200
            found = {row["alias"]: row["digest"] for row in map(to_usage_row, await ours.ended())}
            assert found == {"acme-support": "0a" * 6, "globex-dates": None}

    asyncio.run(scenario())


def test_no_request_fails_or_strays_while_revisions_are_taken(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path, servers=2) as ours:
            taking = True
            replies = []

            async def client(number: int) -> None:
                while taking:
                    replies.append(await ours.send(chat(user=f"user-{number}", max_tokens=1)))

            clients = [asyncio.create_task(client(number)) for number in range(4)]
            for revision in range(2, 22):
                share = (0, 10, 50, 100)[revision % 4]
                left = dict(list(ours.servers.items())[: 1 + revision % 2])  # servers come and go
                await ours.publish(table(left, new=share, revision=revision))
            taking = False
            await asyncio.gather(*clients)
            assert {reply.status for reply in replies} == {200}
            assert set(ours.asked) == {OLD, NEW}

    asyncio.run(scenario())


def test_a_file_that_envoy_refuses_leaves_the_old_routes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path) as ours:
            broken = LocalGateways(ours.state, {"main": ENVOY}, Envoys(_misprinted, SECRETS.get))
            with pytest.raises(EngineRejectedError, match="refuses the files"):
                await broken.publish(table(ours.servers, revision=2))
            await broken.close()
            assert (await ours.send(chat())).version == OLD
            (sight,) = await ours.gateways.statuses()
            assert sight.revision == 1
            await ours.publish(table(ours.servers, new=100, revision=3))
            assert (await ours.send(chat())).version == NEW

    asyncio.run(scenario())


def _misprinted(*given: Any) -> Mapping[str, str]:
    files = dict(envoys_of(Path()).render(*given))
    return files | {ROUTES: files[ROUTES].replace('"timeout":"3600s"', '"timeout":"-1s"')}


def test_requests_at_work_are_counted_by_server_and_version(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path, servers=2, token_seconds=0.01) as ours:
            leaving = aiohttp.ClientSession()
            bodies = [long(LASTING, stream=stream) for stream in (True, False, True, False)]
            headers = {"Authorization": f"Bearer {ACME}"}
            asking = [
                asyncio.create_task(leaving.post(ours.url + CHAT, json=body, headers=headers))
                for body in bodies
            ]

            async def count(adapter: str) -> int:
                return sum([await ours.gateways.in_flight(name, adapter) for name in ours.servers])

            async with asyncio.timeout(60):
                while await count(OLD) < len(bodies):  # noqa: ASYNC110 (over HTTP)
                    await asyncio.sleep(0.01)
                await ours.publish(table(ours.servers, new=100, revision=2))
                assert (await ours.send(chat())).version == NEW  # new requests go elsewhere
                assert await count(OLD) == len(bodies)  # counted across the swap
                for each in asking:
                    each.cancel()
                await leaving.close()  # clients that leave end their requests
                while await count(OLD) or await count(NEW):  # noqa: ASYNC110 (over HTTP)
                    await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_another_server_is_asked_only_where_the_first_has_not_worked_on_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path, servers=2) as ours:
            ours.replicas["s1"].memory.listed.pop(OLD)  # it was restarted, and has it no more
            assert {(await ours.send(chat())).status for _ in range(10)} == {200}
            await ours.replicas["s1"].stop()
            assert {(await ours.send(chat())).status for _ in range(10)} == {200}
            async with healthy_server(b"", waits=False) as (url, seen):
                await ours.publish(table({"s3": url}, revision=2))
                assert (await ours.send(chat())).status in {502, 503}
                assert len(seen) == 1
            await ours.publish(table({}, revision=3))
            refused = await ours.send(chat())
            assert (refused.status, refused.headers["retry-after"]) == (503, "2")
            assert refused.json["error"]["code"] == "unavailable"

    asyncio.run(scenario())


def test_a_revoked_key_opens_nothing_and_a_lost_secret_is_found_where_it_is_served(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path) as ours:
            kept = table(ours.servers, revision=2)
            moved = {
                name: each.model_copy(update={"reference": "env:GONE"})
                for name, each in kept.keys.items()
            }
            await ours.publish(kept.model_copy(update={"keys": moved}))
            assert (await ours.send(chat())).status == 200  # read from the files that it serves
            del moved["acme/prod"]
            await ours.publish(kept.model_copy(update={"revision": 3, "keys": moved}))
            assert (await ours.send(chat())).status == 401
            assert ACME not in (ours.folder / ROUTES).read_text("utf-8")
            lost = kept.model_copy(update={"revision": 4, "keys": key("acme", "another")})
            with pytest.raises(EngineRejectedError, match="not the secret in the routing table"):
                await ours.gateways.publish(lost)
            metrics = (await ours.shown())["the metrics"]  # of Envoy's end, too
            assert [row["status"] for row in ours.rows()] == [200]
            assert b'status="401"' in metrics
            assert [each["alias"] for each in summed(ours.state)] == ["acme-support"]
            counted, since = UsageReader(ours.state), datetime.now(UTC) - timedelta(minutes=9)
            assert [each["status"] for each in counted.rows(since)] == [200]
            (ours_row,) = counted.rows(since, "acme-support")
            assert (counted.damaged, type(ours_row["latency_s"])) == (0, float)
            assert (ours.folder / ROUTES).stat().st_mode & 0o077 == 0

    asyncio.run(scenario())
