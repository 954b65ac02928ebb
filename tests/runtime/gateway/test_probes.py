"""Every probe on the wire, on our gateway and through an Envoy: no client reaches or sees
another one."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.runtime.gateway.fronts import Front
from tests.runtime.gateway.probes import FORBIDDEN, PROBES, Outcome, Probe
from tests.runtime.gateway.replay import Answer, replay
from tests.runtime.gateway.stage import ACME, CHAT, GLOBEX, NEW, OLD, OTHERS, Stage, chat, table
from tests.runtime.gateway.typed_server import MESSAGES, RESPONSES

SWAPS = {True: 20, False: 60}
"""Probes at a time, for a gateway and for an Envoy, which takes longer."""
NO_SUCH_MODEL = {
    "type": "error",  # so that clients of the Anthropic API read it too
    "error": {
        "message": "The model does not exist or you do not have access to it. "
        "GET /v1/models lists yours.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    },
}
AT_ONCE = 32
"""Envoy takes a second to end a connection."""


async def replayed(ours: Stage, probe: Probe) -> Answer:
    port = int(ours.url.rpartition(":")[2])
    return await replay("127.0.0.1", port, probe.wire(f"127.0.0.1:{port}"))


def leaks(shown: Mapping[str, bytes], answers: Mapping[str, Answer]) -> list[tuple[str, bytes]]:
    """Return where something of another client's, or a secret, shows."""
    searched = {**shown, **{name: answer.raw for name, answer in answers.items()}}
    return [(place, w) for place, found in searched.items() for w in FORBIDDEN if w in found]


def surprises(front: Front, answers: Mapping[str, Answer]) -> dict[str, tuple[int, int]]:
    """Return status and count of the answers that are not as the probes say."""
    given = [(each, answers[each.name]) for each in PROBES if each.name in answers]
    return {
        probe.name: (answer.status, answer.count)
        for probe, answer in given
        if not front.is_as_expected(probe, answer)
    }


def test_no_probe_reaches_or_shows_what_is_not_its_own(
    tmp_path: Path, front: Front, capfd: pytest.CaptureFixture[str]
) -> None:
    assert len(PROBES) == len({each.name for each in PROBES}) >= 150
    refused = [each for each in PROBES if not front.serves(each)]

    async def scenario() -> None:
        async with front.stage(tmp_path) as ours:
            at_once = asyncio.Semaphore(AT_ONCE)

            async def ask(probe: Probe) -> Answer:
                async with at_once:
                    return await replayed(ours, probe)

            given = await asyncio.gather(*map(ask, refused))
            answers = {probe.name: answer for probe, answer in zip(refused, given, strict=True)}
            assert (surprises(front, answers), ours.asked) == ({}, [])
            for each in PROBES:
                if front.serves(each):
                    answers[each.name] = await replayed(ours, each)
                    assert (each.name, ours.asked) == (each.name, [OLD])
                    ours.replicas["s1"].bodies.clear()
            assert surprises(front, answers) == {}
            unknown = [each for each in PROBES if each.outcome is Outcome.UNKNOWN]
            (told,) = {answers[each.name].body for each in unknown}
            assert told == json.dumps(NO_SUCH_MODEL, separators=(",", ":")).encode()
            assert {each.path.partition("?")[0] for each in unknown} > {CHAT, MESSAGES, RESPONSES}
            assert leaks(await ours.shown(), answers) == []

    asyncio.run(scenario())
    said = capfd.readouterr()
    assert not [word for word in FORBIDDEN if word.decode() in said.out + said.err]


def test_no_probe_slips_through_while_the_table_is_swapped(tmp_path: Path, front: Front) -> None:
    async def scenario() -> None:
        async with front.stage(tmp_path, new=50) as ours:
            answers: dict[str, Answer] = {}
            waiting = iter(PROBES)

            async def client() -> None:
                for each in waiting:
                    answers[each.name] = await replayed(ours, each)

            async def swap() -> None:
                for number in range(SWAPS[front.is_envoy]):
                    share = 7 * number % 101
                    await ours.publish(table(ours.servers, new=share, revision=number + 2))

            await asyncio.gather(*(client() for _ in range(AT_ONCE)), swap())
            assert (surprises(front, answers), len(answers)) == ({}, len(PROBES))
            assert set(ours.asked) <= {OLD, NEW}
            assert (await ours.send(chat())).status == 200
            assert leaks(await ours.shown(), answers) == []

    asyncio.run(scenario())


def test_headers_of_a_client_never_reach_a_server(tmp_path: Path, front: Front) -> None:
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
    own = {"host", "accept", "content-type", "content-length", "x-request-id"}
    if front.is_envoy:
        own = own - {"content-length"} | {"transfer-encoding", "x-fleetctl-version"}

    async def scenario() -> None:
        async with front.stage(tmp_path) as ours:
            reply = await ours.send(chat(), headers=spoofed)
            assert (reply.status, reply.version) == (200, OLD)
            (sent,) = ours.replicas["s1"].headers
            assert set(sent) == own
            assert sent.get("x-fleetctl-version") in {None, OLD}
            assert sent["x-request-id"] != "mine"
            if not front.is_envoy:
                assert reply.headers["x-request-id"] == "mine"
            assert "globex" not in json.dumps(sent)

    asyncio.run(scenario())


def test_a_client_lists_its_own_aliases_only(tmp_path: Path, front: Front) -> None:
    async def scenario() -> None:
        async with front.stage(tmp_path) as ours:
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
