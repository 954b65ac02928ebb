"""Through an Envoy, a client reaches its own aliases only, whatever it sends."""

import asyncio
import json
from pathlib import Path
from typing import Any

from runtime.gateway.rewrite import DROPPED
from tests.runtime.gateway.envoy_stage import EnvoyStage, envoy_stage, needs_envoy
from tests.runtime.gateway.probes import FORBIDDEN, PROBES, STATUSES, Outcome, Probe
from tests.runtime.gateway.replay import Answer, replay
from tests.runtime.gateway.stage import ACME, GLOBEX, OLD, OTHERS, TEXT, chat, table

pytestmark = needs_envoy
TOLERATED = {"a charset", "an encoding", "single quotes"} | {
    each.name for each in PROBES if ("Authorization", ACME) in each.headers
}
"""Probes that our gateway refuses and Envoy serves by a version of the client's own: what the body
is said to be, JSON in single quotes, and its key without `Bearer`."""


SERVED = [e for e in PROBES if e.outcome is Outcome.SERVED or e.name in TOLERATED]
REFUSED = [each for each in PROBES if each not in SERVED]


async def replayed(ours: EnvoyStage, probe: Probe) -> Answer:
    port = int(ours.url.rpartition(":")[2])
    return await replay("127.0.0.1", port, probe.wire(f"127.0.0.1:{port}"))


def is_as_expected(probe: Probe, answer: Answer) -> bool:
    """Say whether a probe that is not served got what it should; Envoy may just hang up."""
    if probe.outcome in {Outcome.REFUSED, Outcome.UNCLEAR, Outcome.TOO_LARGE}:
        return answer.count <= 1 and (answer.status == 0 or answer.status >= 400)
    return answer.count == 1 and answer.status in STATUSES[probe.outcome]


def test_no_probe_reaches_or_shows_what_is_not_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path) as ours:
            at_once = asyncio.Semaphore(32)  # Envoy takes a second to end a connection

            async def refused(probe: Probe) -> Answer:
                async with at_once:
                    return await replayed(ours, probe)

            given = await asyncio.gather(*map(refused, REFUSED))
            answers = {probe.name: answer for probe, answer in zip(REFUSED, given, strict=True)}
            surprises = [e.name for e in REFUSED if not is_as_expected(e, answers[e.name])]
            assert (surprises, ours.asked) == ([], [])
            for each in SERVED:
                answer = answers[each.name] = await replayed(ours, each)
                assert (each.name, answer.count, ours.asked) == (each.name, 1, [OLD])
                assert answer.status == 200 or each.name in TOLERATED
                ours.replicas["s1"].bodies.clear()
            unknown = {answers[e.name].body for e in REFUSED if e.outcome is Outcome.UNKNOWN}
            assert [json.loads(each)["error"]["code"] for each in unknown] == ["model_not_found"]
            searched = {name: each.raw for name, each in answers.items()}
            searched["the metrics"] = (await ours.ask("/stats/prometheus")).encode()
            searched["the rows"] = json.dumps(await ours.ended()).encode()
            searched["the log"] = (ours.folder / "envoy.log").read_bytes()
            leaks = [(p, w) for p, said in searched.items() for w in FORBIDDEN if w in said]
            assert leaks == []

    asyncio.run(scenario())


def test_no_probe_slips_through_while_revisions_are_taken(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path, new=50) as ours:
            answers: dict[str, Answer] = {}
            waiting = iter(each for each in REFUSED if each.outcome is not Outcome.TOO_LARGE)

            async def client() -> None:
                for each in waiting:
                    answers[each.name] = await replayed(ours, each)

            async def swap() -> None:
                for number in range(20):
                    await ours.publish(table(ours.servers, new=5 * number, revision=number + 2))

            await asyncio.gather(*(client() for _ in range(32)), swap())
            surprises = [
                e.name
                for e in REFUSED
                if e.name in answers and not is_as_expected(e, answers[e.name])
            ]
            assert (surprises, ours.asked) == ([], [])

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
                *("content-length", "transfer-encoding", "x-fleetctl-version"),
            }
            assert sent["x-fleetctl-version"] == OLD
            assert sent["x-request-id"] == reply.headers["x-request-id"] != "mine"
            assert "globex" not in json.dumps(sent)

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
            for number in (17, 1e9, "99", -1, 0, True, [1]):
                assert (await ours.send(chat(n=number))).status == 400, number
            assert (await ours.send(chat(n=16))).status == 200
            for fine in ({"echo": False}, {"logprobs": None}):
                assert (await ours.send(refused | fine, path=TEXT)).status == 200
            kind = {"Content-Type": "application/json; charset=utf-8"}
            assert (await ours.send(chat(), headers=kind)).status == 200

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
