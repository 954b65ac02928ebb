"""The gateway in front of a real vLLM with the quickstart fleet's adapters."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from runtime.ledger import open_ledger
from runtime.ledger.outbox import LedgerOutbox
from runtime.rollback.rollback import RollbackRequest, rollback
from tests.runtime.gateway.live import CORVID, DATES, TEXTS, Served, in_front
from tests.runtime.gateway.stage import ACME, CHAT, NEW, OLD, TEXT, Stage, chat

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("serving_loop")]
DONE = "data: [DONE]"


def streamed(raw: bytes) -> dict[str, Any]:
    """Return the whole content of a stream of chat: vLLM cuts it into events as time allows."""
    lines = [line for line in raw.decode().split("\n\n") if line.startswith("data: ")]
    events = [json.loads(line[6:]) for line in lines if line != DONE]
    choices = [choice for event in events for choice in event["choices"]]
    usages = [event["usage"] for event in events if event.get("usage")]
    return {
        "models": {event["model"] for event in events},
        "roles": [choice["delta"]["role"] for choice in choices if choice["delta"].get("role")],
        "text": "".join(choice["delta"].get("content") or "" for choice in choices),
        "ends": [choice["finish_reason"] for choice in choices if choice.get("finish_reason")],
        "usage": usages[-1] if usages else None,
        "is told as it goes": len(usages) > 1,
        "done": lines.count(DONE) == 1 and raw.decode().endswith(f"{DONE}\n\n"),
    }


def test_answers_through_the_gateway_equal_direct_ones(vllm: Served, tmp_path: Path) -> None:
    async def scenario(ours: Stage) -> None:
        settings: dict[str, Any] = {"temperature": 0, "max_tokens": 24}
        for path, body in (
            *((CHAT, chat(text=text, **settings)) for text in TEXTS),
            (TEXT, {"model": "acme-support", "prompt": "charged twice", **settings}),
        ):
            through = await ours.send(body, path=path)
            async with ours.http.post(vllm.url + path, json=body | {"model": OLD}) as reply:
                expected = await reply.json()
            assert (through.status, through.version) == (200, OLD)
            assert through.json["choices"] == expected["choices"]
            assert through.json["usage"] == expected["usage"]
        rows = ours.rows()
        assert all(row["output_tokens"] > 0 for row in rows)

    in_front(vllm, tmp_path / ".fleetctl", scenario)


@pytest.mark.parametrize(
    "asks",
    [
        {},
        {"include_usage": True},
        {"include_usage": True, "continuous_usage_stats": True},
    ],
)
def test_streams_through_the_gateway_equal_direct_ones(
    vllm: Served, tmp_path: Path, asks: dict[str, bool]
) -> None:
    async def scenario(ours: Stage) -> None:
        body = chat(text=TEXTS[0], temperature=0, max_tokens=24, stream=True, stream_options=asks)
        through = await ours.send(body)
        async with ours.http.post(vllm.url + CHAT, json=body | {"model": OLD}) as reply:
            expected = await reply.read()
        assert through.headers["Content-Type"].startswith("text/event-stream")
        found = streamed(through.body)
        assert found == streamed(expected) | {"models": {"acme-support"}}
        assert found["done"]
        assert (found["usage"] is not None) is bool(asks)
        (row,) = ours.rows()
        whole = await ours.send({**body, "stream": False} | {"stream_options": None})
        assert row["output_tokens"] == whole.json["usage"]["completion_tokens"]

    in_front(vllm, tmp_path / ".fleetctl", scenario)


def test_each_client_gets_its_own_adapter_and_no_other(vllm: Served, tmp_path: Path) -> None:
    async def scenario(ours: Stage) -> None:
        text = "Invoice dated March 14, 2031"
        dates = await ours.send(
            chat("corvid-dates", text, temperature=0, max_tokens=24), secret=CORVID
        )
        assert (dates.status, dates.version, dates.text) == (200, DATES, "2031-03-14")
        for model in ("corvid-dates", DATES, OLD, "tiny", ""):
            assert (await ours.send(chat(model, text))).status == 404
        assert (await ours.send(b'{"messages":[]}')).status == 400

    in_front(vllm, tmp_path / ".fleetctl", scenario)


def test_a_client_that_leaves_frees_the_server(vllm: Served, tmp_path: Path) -> None:
    async def count(ours: Stage) -> float:
        async with ours.http.get(vllm.url + "/metrics") as reply:
            lines = (await reply.text()).splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("vllm:num_requests_running{")
        )

    async def scenario(ours: Stage) -> None:
        for stream in (False, True):
            async with aiohttp.ClientSession() as leaving:
                request = asyncio.create_task(
                    leaving.post(
                        ours.url + CHAT,
                        json=chat(stream=stream, max_tokens=480, ignore_eos=True),
                        headers={"Authorization": f"Bearer {ACME}"},
                    )
                )
                async with asyncio.timeout(60):
                    while not await count(ours):
                        assert not (request.done() and not stream), "it was to run for long"
                if stream:
                    (await request).close()
                else:
                    request.cancel()
            async with asyncio.timeout(60):
                while await count(ours):
                    pass
        assert [row["status"] for row in ours.rows()] == [499, 499]

    in_front(vllm, tmp_path / ".fleetctl", scenario)


def test_a_rollback_is_measured_and_smoke_tested(
    vllm: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / ".fleetctl"

    async def scenario(ours: Stage) -> None:
        body = chat(text=TEXTS[0], temperature=0, max_tokens=24)
        assert (await ours.send(body)).version == NEW
        result = await rollback(
            RollbackRequest("acme-support"), ours.gateways,
            LedgerOutbox(lambda: open_ledger(state, "r", "tester", lambda: datetime.now(UTC))),
            inputs=lambda: TEXTS,
        )  # fmt: skip
        assert result.complete
        assert (result.target, result.smoke.passed) == (OLD, len(TEXTS))
        assert (await ours.send(body)).version == OLD
        with capsys.disabled():
            print(f"\n{result.sentence}")  # noqa: T201 (the number people ask for)

    in_front(vllm, state, scenario, new=100)
