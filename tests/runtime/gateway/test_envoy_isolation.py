"""Through an Envoy, a client reaches its own aliases only, whatever it sends."""

import asyncio
import json
from pathlib import Path
from typing import Any

from runtime.gateway.rewrite import DROPPED
from tests.runtime.gateway.envoy_stage import EnvoyStage, envoy_stage, needs_envoy
from tests.runtime.gateway.probes import FOREIGN, MALFORMED, NO_KEY, PATHS
from tests.runtime.gateway.stage import ACME, CHAT, GLOBEX, NEW, OLD, OTHERS, TEXT, Reply, chat

pytestmark = needs_envoy
OWN = {OLD, NEW}
KEYS_ALONE = [{"Authorization": ACME}]
"""What our gateway refuses and Envoy takes: the right key without `Bearer`."""


def clean(ours: EnvoyStage, reply: Reply) -> None:
    """Nothing of another client's, and no secret, is in an answer."""
    said = reply.body + "".join(reply.headers.values()).encode()
    for word in (b"globex", ACME.encode(), GLOBEX.encode()):
        assert word not in said
    assert set(ours.asked) <= OWN


def test_no_body_reaches_what_is_not_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path) as ours:
            replies = {name: await ours.send(raw) for name, raw in FOREIGN.items()}
            assert {n: each.status for n, each in replies.items()} == dict.fromkeys(FOREIGN, 404)
            assert len({each.body for each in replies.values()}) == 1
            assert next(iter(replies.values())).json["error"]["code"] == "model_not_found"
            assert ours.asked == []
            for name, raw in MALFORMED.items():
                replies[name] = reply = await ours.send(raw)
                assert reply.status in {200, 400, 404}, name
                assert (reply.status == 200) == (len(ours.asked) > 0), name
                ours.replicas["s1"].bodies.clear()
            for reply in replies.values():
                clean(ours, reply)
            rows = await ours.ended()
            assert "globex" not in json.dumps(rows)
            assert len(rows) == len(replies)

    asyncio.run(scenario())


def test_no_path_but_those_of_the_list_exists(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path) as ours:
            for path in PATHS:
                for method in ("POST", "GET", "DELETE"):
                    reply = await ours.send(chat(), path=path, method=method)
                    assert (path, reply.status) == (path, 404)
                    assert reply.json["error"]["code"] == "unknown_url"
            assert (await ours.send(path=CHAT, method="GET")).status == 405
            assert (await ours.send(path="/healthz", method="GET", secret=None)).status == 200
            assert ours.asked == []

    asyncio.run(scenario())


def test_whoever_has_no_key_gets_401(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path) as ours:
            for headers in (each for each in NO_KEY if each not in KEYS_ALONE):
                for path, method in ((CHAT, "POST"), (TEXT, "POST"), ("/v1/models", "GET")):
                    reply = await ours.send(
                        chat(), path=path, method=method, secret=None, headers=headers
                    )
                    assert (headers, reply.status) == (headers, 401)
                    assert reply.json["error"]["code"] == "invalid_api_key"
                    clean(ours, reply)
            assert ours.asked == []

    asyncio.run(scenario())


def test_headers_of_a_client_never_reach_a_server(tmp_path: Path) -> None:
    spoofed = {
        "X-Amzn-SageMaker-Adapter-Identifier": OTHERS,
        "X-Request-Id": "mine",
        "X-Fleetctl-Version": OTHERS,
        "X-Fleetctl-Client": "globex",
        "X-Fleetctl-Asked": "globex/globex-dates",
        "X-Fleetctl-Stream": "true",
        "X-Data-Parallel-Rank": "1",
        "X-Envoy-Original-Path": "/v1/load_lora_adapter",
        "X-Envoy-Retry-On": "5xx",
        "X-Forwarded-For": "10.0.0.1",
        "Cookie": "a=b",
        "Host": "globex.example",
    }

    async def scenario() -> None:
        async with envoy_stage(tmp_path) as ours:
            reply = await ours.send(chat(), headers=spoofed)
            assert (reply.status, reply.version) == (200, OLD)
            (sent,) = ours.replicas["s1"].headers
            assert set(sent) <= {
                *("host", "accept", "content-type", "x-request-id"),
                *("content-length", "transfer-encoding"),
            }
            assert sent["x-request-id"] == reply.headers["x-request-id"] != "mine"
            assert "globex" not in json.dumps(sent)
            clean(ours, reply)

    asyncio.run(scenario())


def test_fields_that_cross_tenants_are_overwritten(tmp_path: Path) -> None:
    crossing: dict[str, Any] = dict.fromkeys(DROPPED, 7)

    async def scenario() -> None:
        async with envoy_stage(tmp_path) as ours:
            assert (await ours.send(chat(**crossing, temperature=0.5, stop=[]))).status == 200
            (sent,) = ours.replicas["s1"].bodies
            read = json.loads(sent)
            assert 7 not in read.values()
            assert (read["model"], read["cache_salt"], read["priority"]) == (OLD, "acme", 0)
            assert (read["temperature"], read["stop"]) == (0.5, [])
            refused = {"model": "acme-support", "prompt": "x", "echo": True, "logprobs": 0}
            for echo in (True, 1, "yes"):
                assert (await ours.send(refused | {"echo": echo}, path=TEXT)).status == 400
            for fine in ({"echo": False}, {"logprobs": None}):
                assert (await ours.send(refused | fine, path=TEXT)).status == 200

    asyncio.run(scenario())


def test_a_client_lists_its_own_aliases_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path) as ours:
            listed = {}
            for secret in (ACME, GLOBEX):
                reply = await ours.send(path="/v1/models", method="GET", secret=secret)
                listed[secret] = [each["id"] for each in reply.json["data"]]
            assert listed == {ACME: ["acme-support"], GLOBEX: ["globex-dates"]}
            own, foreign, version = [
                await ours.send(path=f"/v1/models/{name}", method="GET")
                for name in ("acme-support", "globex-dates", OLD)
            ]
            assert own.json["id"] == "acme-support"
            assert foreign.status == version.status == 404
            assert foreign.body == version.body

    asyncio.run(scenario())
