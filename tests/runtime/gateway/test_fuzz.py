"""Damaged requests: no defect of ours shows, and nothing reaches a server that should not.

`make fuzz` looks for longer; what it finds it prints as the smallest request that shows it.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from pydantic import TypeAdapter, ValidationError

from fleet.traffic import TrafficPolicy
from runtime.gateway.body.endpoints import COUNTED, PATHS
from runtime.gateway.body.fields import DROPPED
from tests.runtime.gateway.fuzz_requests import FOREIGN, Sent, sent
from tests.runtime.gateway.sockets import answered, connected, post, raw, scripted, told
from tests.runtime.gateway.stage import ACME, NEW, OLD, OTHERS, TEXT, Stage, chat, stage, table

pytestmark = [pytest.mark.usefixtures("serving_loop"), pytest.mark.timeout(0)]
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "120"))
IS_LONG = "FUZZ_EXAMPLES" in os.environ
NUMBER: TypeAdapter[int | None] = TypeAdapter(int | None)
HEADERS = {"host", "accept", "content-type", "content-length", "x-request-id"}


@asynccontextmanager
async def warmed(
    ours: Stage,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Give a connection on which a request was answered, so that its head is known."""
    async with connected(ours) as (reader, writer):
        writer.write(post(raw(), "X-Request-Id: usual"))
        assert (await answered(reader))[0] == 200
        yield reader, writer


@dataclass(frozen=True)
class Call:
    """A request that reached the server."""

    path: str
    headers: dict[str, str]
    body: bytes

    def is_acmes(self) -> bool:
        """Check that two readers read the same request, and that acme may send such a request."""
        pairs: list[tuple[str, Any]] = json.loads(self.body, object_pairs_hook=list)
        names, fields = [name for name, _ in pairs], dict(pairs)
        return (
            self.path in PATHS
            and set(self.headers) == HEADERS
            and len(set(names)) == len(names)
            and fields["model"] in {OLD, NEW}
            and fields["cache_salt"] == "acme"
            and not (DROPPED - {"cache_salt"}) & set(names)
            and self._tells_its_counts(dict(json.loads(self.body)))
            and self._answers(dict(json.loads(self.body))) <= TrafficPolicy().choices
        )

    def _answers(self, fields: dict[str, Any]) -> int:
        """Return how many answers a server would give that reads as vLLM does; 0: none."""
        try:
            each = NUMBER.validate_python(fields.get("n"))
        except ValidationError:
            return 0
        prompt = fields.get("prompt")
        if self.path == TEXT and isinstance(prompt, list) and not isinstance(prompt[0], int):
            return (each or 1) * len(prompt)
        return each or 1

    def _tells_its_counts(self, fields: dict[str, Any]) -> bool:
        """Check that a server would stream only with token counts."""
        stream, options = fields.get("stream"), fields.get("stream_options")
        if stream is not True or self.path not in COUNTED:
            return stream is None or stream is False or stream is True
        # what is no object the server refuses
        return options is not None and (
            type(options) is not dict or options["include_usage"] is True
        )


ANSWER = {"choices": [{"index": 0, "text": "well"}], "usage": {"completion_tokens": 1}}
EVENTS = b"".join(b"data: %b\n\n" % each for each in (json.dumps(ANSWER).encode(), b"[DONE]"))
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n%b"


@dataclass
class Recorder:
    """A server that answers every request and keeps all requests."""

    calls: list[Call] = field(default_factory=list)

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int
    ) -> None:
        while True:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
            if first == "GET /health HTTP/1.1":  # which the gateway asks by itself
                writer.write(told("well"))
                continue
            body = await reader.readexactly(int(headers["content-length"]))
            self.calls.append(Call(first.split()[1], headers, body))
            streams = json.loads(body).get("stream") is True
            writer.write(STREAM % (len(EVENTS), EVENTS) if streams else told("well"))


@dataclass
class Fuzzed:
    """The requests so far, and their outcomes."""

    ours: Stage
    server: Recorder
    statuses: Counter[str] = field(default_factory=Counter)
    """Of first answers; empty where there was none."""
    reached: int = 0
    """Requests that reached the server."""

    async def harmless(self, request: Sent) -> None:
        """Send a request on a fresh connection, then on another that knows the usual head."""
        async with connected(self.ours) as (reader, writer):
            fresh = await self._outcome(request, reader, writer)
        async with warmed(self.ours) as (reader, writer):
            known = await self._outcome(request, reader, writer)
        assert known[1] == fresh[1]
        assert known[0] == fresh[0] or not (known[0] and fresh[0])  # an end may overtake an answer
        self.statuses[fresh[0]] += 1
        self.reached += 2 * fresh[1]

    async def _outcome(
        self, request: Sent, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str, int]:
        """Return the status of the first answer, and how many requests reached the server."""
        before = len(self.server.calls)
        with suppress(OSError, RuntimeError):  # it has been ended on the other side
            for part in request.parts():
                writer.write(part)
                await self._settled()
            writer.write_eof()
        await self._settled()
        came = await _rest(reader)
        assert b"HTTP/1.1 500 " not in came
        assert b"globex" not in came or b"globex" in request.data
        calls = self.server.calls[before:]
        assert ACME.encode() in request.data or not calls
        assert all(call.is_acmes() for call in calls)
        return came.partition(b"\r\n")[0][9:12].decode("latin-1"), len(calls)

    async def _settled(self) -> None:
        """Wait until all sent bytes have been read, and no request is at work."""
        assert (await self.ours.send(path="/healthz", method="GET")).status == 200
        while (await self.ours.gateways.all_in_flight()).total():
            pass


async def _rest(reader: asyncio.StreamReader) -> bytes:
    came = b""
    try:
        while part := await reader.read(2**16):
            came += part
    except OSError:  # it was ended with something of ours unread
        pass
    return came


async def fuzzed(state: Path, stack: AsyncExitStack) -> Fuzzed:
    ours, server = await stack.enter_async_context(stage(state)), Recorder()
    url = await stack.enter_async_context(scripted(server.serve))
    await ours.gateways.publish(table({"s1": url}, new=50, revision=2))
    return Fuzzed(ours, server)


def test_damaged_requests_do_no_harm(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        made = runner.run(fuzzed(tmp_path / ".fleetctl", stack))

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=not IS_LONG,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        @given(sent())
        def harmless(request: Sent) -> None:
            runner.run(made.harmless(request))

        try:
            harmless()
            assert runner.run(made.ours.send(chat())).status == 200
        finally:
            runner.run(stack.aclose())
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert FOREIGN not in said
    assert OTHERS not in said
    assert made.reached > EXAMPLES // 6
    if IS_LONG:
        with capfd.disabled():
            answers = ", ".join(f"{n} x {s or 'none'}" for s, n in made.statuses.most_common())
            sys.stdout.write(
                f"\n{made.statuses.total():,} examples, each on two connections; {made.reached:,} "
                f"requests reached the server, none that should not; first answers: {answers}\n"
            )
