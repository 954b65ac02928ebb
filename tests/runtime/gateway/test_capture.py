"""Capture of requests and answers: only of clients that agreed, and never at a client's cost."""

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from fleet.response_format import FormatKind, ResponseFormat
from fleet.traffic import CapturePolicy, TrafficPolicy
from runtime.gateway.admin.state_dir import PREVIOUS_FILE, SECRET_FILE, TABLE_FILE, read_table
from runtime.usage import captured
from runtime.usage.captured import FOLDER
from tests.runtime.gateway.sockets import Script, asked, scripted
from tests.runtime.gateway.stage import (
    ACME,
    GLOBEX,
    HEAD,
    OLD,
    Stage,
    alias,
    chat,
    stage,
    table,
    until,
)

pytestmark = pytest.mark.usefixtures("serving_loop")
ASKED, ANSWERED = "canary-of-the-question", "canary-of-the-answer"
CAPTURED = CapturePolicy(100, 30)


def told(text: str = ANSWERED, finish: str = "stop", choices: int = 1) -> bytes:
    given = [
        {"index": n, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
        for n in range(choices)
    ]
    body = json.dumps({"choices": given, "usage": {"prompt_tokens": 3, "completion_tokens": 5}})
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body.encode()


def streamed(*pieces: str) -> bytes:
    events = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    lines = [f"data: {json.dumps(event)}\n\n".encode() for event in events] + [b"data: [DONE]\n\n"]
    chunks = [b"%x\r\n%b\r\n" % (len(line), line) for line in lines]
    return HEAD % b"text/event-stream" + b"".join(chunks) + b"0\r\n\r\n"


def always(answer: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            await asked(reader)
            writer.write(answer)

    return script


async def serve(ours: Stage, server: str, policy: TrafficPolicy | None, revision: int = 2) -> None:
    """Have `server` answer for acme by this policy, and for globex without one."""
    given = table(ours.servers | {"x": server}, revision=revision)
    entry = alias("acme", (OLD, 100, ("x",)), policy=policy)
    others = alias("globex", ("globex-dates-tiny-v1.0.0", 100, ("x",)))
    aliases = {"acme-support": entry, "globex-dates": others}
    await ours.publish(given.model_copy(update={"aliases": aliases}))


def files(ours: Stage) -> list[Path]:
    return sorted(path for path in (ours.state / FOLDER).rglob("*") if path.is_file())


def items(ours: Stage) -> list[dict[str, Any]]:
    return [json.loads(line) for path in files(ours) for line in path.read_bytes().splitlines()]


def test_text_of_a_client_that_agreed_is_captured_and_of_no_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, scripted(always(told())) as url:
            await serve(ours, url, TrafficPolicy(capture=CAPTURED))
            secret = (ours.state / SECRET_FILE).read_text("utf-8").strip()
            pretty = json.dumps(chat(text=ASKED, user="ann"), indent=2).encode()
            assert (await ours.send(pretty, headers={"X-Session-Id": "s-1"})).status == 200
            assert (await ours.send(chat("globex-dates", "theirs"), secret=GLOBEX)).status == 200
            assert (await ours.send(chat(text="evaluated"), secret=secret)).status == 200
            assert (await ours.send(chat(text="unknown key"), secret="no")).status == 401
            (item,), (path,), row = items(ours), files(ours), ours.rows()[0]
            assert item["request"]["messages"] == [{"role": "user", "content": ASKED}]
            assert (item["answer"], item["user"], item["session"]) == (ANSWERED, "ann", "s-1")
            assert (item["request_id"], item["version"]) == (row["request_id"], OLD)
            assert path.parent == ours.state / FOLDER / "acme"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            others = [found for found in ours.state.rglob("*") if found.is_file()]
            shown = await ours.shown() | {
                str(found): found.read_bytes() for found in others if found != path
            }
            for canary in (ASKED, ANSWERED, "theirs", "evaluated", "unknown key", ACME):
                assert [name for name, text in shown.items() if canary.encode() in text] == []

    asyncio.run(scenario())


@pytest.mark.parametrize("form", [None, ResponseFormat(FormatKind.JSON)])
def test_a_stream_is_captured_as_its_whole_text(
    tmp_path: Path, form: ResponseFormat | None
) -> None:
    async def scenario() -> None:
        answer = streamed("canary-", "of-the-", "answer")
        async with stage(tmp_path / ".fleetctl") as ours, scripted(always(answer)) as url:
            await serve(ours, url, TrafficPolicy(capture=CAPTURED, format=form))
            reply = await ours.send(chat(text=ASKED, stream=True))
            assert b"[DONE]" in reply.body
            assert [item["answer"] for item in items(ours)] == [ANSWERED]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("policy", "answer"),
    [
        (None, told()),
        (TrafficPolicy(), told()),
        (TrafficPolicy(capture=CapturePolicy(0, 30)), told()),
        (TrafficPolicy(capture=CAPTURED), told(finish="length")),
        (TrafficPolicy(capture=CAPTURED), told(finish="tool_calls")),
        (TrafficPolicy(capture=CAPTURED), told(choices=2)),
        (TrafficPolicy(capture=CAPTURED), told("x" * captured.MOST_ITEM_BYTES)),
    ],
)
def test_nothing_is_captured_without_consent_nor_of_an_answer_that_is_no_example(
    tmp_path: Path, policy: TrafficPolicy | None, answer: bytes
) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, scripted(always(answer)) as url:
            await serve(ours, url, policy)
            assert (await ours.send(chat())).status == 200
            assert files(ours) == []

    asyncio.run(scenario())


def test_nothing_more_is_written_once_capture_is_off_not_of_a_running_request_either(
    tmp_path: Path,
) -> None:
    may_end = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        await asked(reader)
        await may_end.wait()
        writer.write(told())

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, scripted(script) as url:
            await serve(ours, url, TrafficPolicy(capture=CAPTURED))
            running = asyncio.create_task(ours.send(chat()))
            await until(ours, 1, server="x")
            await serve(ours, url, None, revision=3)
            may_end.set()
            assert (await running).status == 200
            assert files(ours) == []
            saved = [read_table(ours.state, name) for name in (PREVIOUS_FILE, TABLE_FILE)]
            assert [found and found.format for found in saved] == [3, 1]

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", ["nearly full", "no folder"])
def test_a_disk_that_takes_no_text_fails_no_request(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, scripted(always(told())) as url:
            await serve(ours, url, TrafficPolicy(capture=CAPTURED))
            if fault == "nearly full":
                monkeypatch.setattr(captured, "RESERVE_BYTES", 2**63)
            else:
                (ours.state / FOLDER).write_bytes(b"")
            for _ in range(2):
                assert (await ours.send(chat(text=ASKED))).status == 200
            assert items(ours) == []
            assert [row["status"] for row in ours.rows()] == [200, 200]

    asyncio.run(scenario())
    said = capfd.readouterr().err
    assert said.count("Captured text of clients cannot be written") == (fault == "no folder")
    assert ASKED not in said
