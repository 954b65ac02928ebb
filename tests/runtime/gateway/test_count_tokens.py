"""Requests that have a prompt's tokens counted: as others for the client, no sign of an engine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet.traffic import Budget, LimitPolicy, TrafficPolicy
from runtime.gateway.http import upstream
from runtime.gateway.request import attempts
from runtime.gateway.traffic import outliers
from runtime.usage.row import COUNTING
from tests.runtime.gateway.admin_side import ask_admin, metrics_of
from tests.runtime.gateway.fronts import Front
from tests.runtime.gateway.sockets import scripted
from tests.runtime.gateway.stage import ACME, GLOBEX, OLD, Stage, chat, stage, table
from tests.runtime.gateway.test_budgets import hand_over, limit
from tests.runtime.gateway.test_typed_paths import all_rows
from tests.runtime.gateway.typed_server import COUNT_TOKENS, MESSAGES, READ

FULL = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
TOOLS = [{"name": "f", "input_schema": {"type": "object"}}]


def test_a_client_has_its_prompt_counted_and_no_other_clients_model(
    tmp_path: Path, front: Front
) -> None:
    async def scenario() -> None:
        async with front.stage(tmp_path) as ours:
            body = chat(system="Be brief.", tools=TOOLS, metadata={"user_id": "u"}, session_id="s")
            reply = await ours.send(body, path=COUNT_TOKENS)
            assert (reply.status, reply.json) == (200, {"input_tokens": READ})
            assert ours.asked == [OLD]
            foreign = await ours.send(chat("globex-dates"), path=COUNT_TOKENS)
            assert (foreign.status, foreign.json["type"]) == (404, "error")
            row = (await all_rows(ours))[0]
            shown = row["path"], row["purpose"], row["input_tokens"], row["output_tokens"]
            assert shown == (COUNT_TOKENS, COUNTING, None, None)

    asyncio.run(scenario())


@pytest.mark.usefixtures("serving_loop")
def test_the_times_of_counts_are_in_no_series_of_a_version(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            assert (await ours.send(chat(), path=COUNT_TOKENS)).status == 200
            assert (await ours.send(chat(max_tokens=1), path=MESSAGES)).status == 200
            shown = (await metrics_of(ours.state)).splitlines()
        counts = [line for line in shown if line.startswith("fleetctl_request_seconds_count")]
        assert [line.rpartition(" ")[2] for line in counts] == ["1"]
        assert f'fleetctl_other_requests_total{{purpose="{COUNTING}",status="200"}} 1' in shown

    asyncio.run(scenario())


@pytest.mark.usefixtures("serving_loop")
def test_rates_count_counts_and_budgets_of_a_month_do_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            rate = LimitPolicy(
                requests_per_minute=18, budget=Budget.HARD, requests_per_month=2
            )  # three at once
            await limit(ours, TrafficPolicy(client_limits=rate))
            await hand_over(ours, requests=0, tokens=0)
            sent = [(COUNT_TOKENS, chat()), (COUNT_TOKENS, chat()), (MESSAGES, chat(max_tokens=1))]
            replies = [await ours.send(body, path=path) for path, body in sent]
            assert [reply.status for reply in replies] == [200] * 3
            late = await ours.send(chat(), path=COUNT_TOKENS)
            assert (late.status, late.json["error"]["type"]) == (429, "rate_limit_error")

    asyncio.run(scenario())


@asynccontextmanager
async def counting_alone(status: int) -> AsyncIterator[str]:
    """Run a server whose engine hangs: healthy by its own word, counts tokens or fails to."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
            await reader.readexactly(size)
            if head.startswith(b"GET /health"):
                writer.write(FULL % (200, 0, b""))
            elif head.startswith(b"GET"):
                writer.write(FULL % (404, 0, b""))
            elif COUNT_TOKENS.encode() in head:
                writer.write(FULL % (status, 19, b'{"input_tokens": 7}'))

    async with scripted(script) as url:
        yield url


async def state_of(ours: Stage, server: str) -> str:
    shown: dict[str, Any] = await ask_admin(ours.state, "/-/config")
    return str(shown["servers"][server])


@pytest.mark.usefixtures("serving_loop")
def test_a_server_that_still_counts_and_answers_nothing_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "SUSPECT_S", 0.1)
    monkeypatch.setattr(attempts, "SILENT_S", 0.1)
    monkeypatch.setattr(attempts, "AGAIN_S", 0.1)
    monkeypatch.setattr(outliers, "FIRST_EJECTION_S", 1e9)
    monkeypatch.setattr(outliers, "MAX_EJECTION_S", 1e9)

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, counting_alone(200) as url:
            await ours.publish(table({"hung": url}, revision=2))
            asking = [asyncio.create_task(ours.send(chat())) for _ in range(3)]
            async with asyncio.timeout(60):
                while await state_of(ours, "hung") != "resting":
                    assert (await ours.send(chat(), path=COUNT_TOKENS)).status == 200
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    asyncio.run(scenario())


@pytest.mark.usefixtures("serving_loop")
def test_counts_that_fail_put_no_server_to_rest(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, counting_alone(500) as url:
            await ours.publish(table({"s": url}, revision=2))
            for secret, model in ((ACME, "acme-support"), (GLOBEX, "globex-dates")):
                for _ in range(4):
                    sent = await ours.send(chat(model), path=COUNT_TOKENS, secret=secret)
                    assert sent.status == 500
            assert await state_of(ours, "s") == "up"

    asyncio.run(scenario())
