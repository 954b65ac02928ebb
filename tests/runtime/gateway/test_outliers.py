"""Servers that keep failing: the clients that they rest for, and the detection of silence."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet.traffic import DEFAULT_DEADLINES, TimeoutPolicy, TrafficPolicy
from runtime.gateway.http import upstream
from runtime.gateway.request import attempts
from runtime.gateway.table.table_loader import build_routes
from runtime.gateway.traffic import outliers
from runtime.gateway.traffic.outliers import (
    FIRST_EJECTION_S,
    MAX_CONSECUTIVE_ERRORS,
    SILENT_S,
    Outliers,
)
from tests.runtime.gateway.admin_side import ask_admin, metrics_of
from tests.runtime.gateway.sockets import asked, scripted
from tests.runtime.gateway.stage import ACME, GLOBEX, OLD, Stage, alias, chat, key, stage, table

pytestmark = pytest.mark.usefixtures("serving_loop")
FULL = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


def shared() -> Outliers:
    return Outliers(shared={"s"})


def resting(found: Outliers, now: float) -> set[str]:
    """Return the clients that the server rests for, of acme, globex and all."""
    return {name for name in ("acme", "globex", "") if found.is_ejected("s", name, now)}


def test_errors_of_one_client_put_a_server_to_rest_for_that_client_alone() -> None:
    found = shared()
    for _ in range(12):
        found.record_error("s", 0.0, "acme")
    assert resting(found, 0.5) == {"acme"}


def test_errors_of_two_clients_put_a_server_to_rest_for_all() -> None:
    found = shared()
    for client in ("acme", "acme", "globex"):
        assert not resting(found, 0.0)
        found.record_error("s", 0.0, client)
    assert resting(found, 0.5) == {"acme", "globex", ""}
    assert not resting(found, FIRST_EJECTION_S)


def test_an_answer_to_another_client_ends_a_row_of_errors_for_all() -> None:
    found = shared()
    for _ in range(4):
        found.record_error("s", 0.0, "acme")
        found.record_success("s", "globex")
        found.record_error("s", 0.0, "globex")
    assert resting(found, 0.5) == {"acme"}  # whose own requests never had an answer


def test_errors_that_no_request_can_bring_about_count_for_all() -> None:
    found = shared()
    for _ in range(MAX_CONSECUTIVE_ERRORS):
        found.record_error("s", 0.0)
    assert "" in resting(found, 0.5)


def test_a_server_of_a_single_client_rests_by_its_errors() -> None:
    found = Outliers()
    for _ in range(MAX_CONSECUTIVE_ERRORS):
        found.record_error("s", 0.0, "acme")
    assert "" in resting(found, 0.5)


def test_after_its_rest_a_server_gets_one_request_until_an_answer_comes() -> None:
    found = Outliers()
    found.eject("s", 0.0)
    assert found.begin_trial("s", "acme", FIRST_EJECTION_S) == FIRST_EJECTION_S + SILENT_S
    assert "globex" in resting(found, FIRST_EJECTION_S + 0.1)
    found.record_success("s", "acme")
    assert not resting(found, FIRST_EJECTION_S + 0.1)


def test_a_trial_that_fails_is_a_further_rest_of_twice_the_length() -> None:
    found = Outliers()
    found.eject("s", 0.0)
    found.begin_trial("s", "acme", 1.0)
    found.record_error("s", 1.1, "acme")
    assert found.is_ejected("s", "", 1.1 + 2 * FIRST_EJECTION_S - 0.01)
    assert not found.is_ejected("s", "", 1.1 + 2 * FIRST_EJECTION_S)


def test_a_trial_that_fails_for_one_client_is_tried_by_another_at_once() -> None:
    found = shared()
    for client in ("acme", "acme", "globex"):
        found.record_error("s", 0.0, client)
    found.begin_trial("s", "acme", 1.0)
    assert resting(found, 1.1) == {"acme", "globex", ""}
    found.record_error("s", 1.2, "acme")
    assert "globex" not in resting(found, 1.2)


def test_requests_of_before_a_rest_do_not_lengthen_the_rest() -> None:
    found = Outliers()
    for _ in range(20):
        found.record_error("s", 0.0, "acme")
    assert not resting(found, FIRST_EJECTION_S)


@asynccontextmanager
async def ill(status: int) -> AsyncIterator[str]:
    """Run a server that answers every request of acme so, and others with 200."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            request = await asked(reader)
            found = status if b"acme" in request else 200
            writer.write(FULL % (found, 2, b"{}"))

    async with scripted(script) as url:
        yield url


async def states(ours: Stage) -> dict[str, str]:
    found: dict[str, Any] = await ask_admin(ours.state, "/-/config")
    return dict(found["servers"])


def test_one_clients_500s_take_no_server_away_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outliers, "FIRST_EJECTION_S", 1e9)
    monkeypatch.setattr(outliers, "MAX_EJECTION_S", 1e9)

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, ill(500) as a, ill(500) as b:
            await ours.publish(table({"a": a, "b": b}, revision=2))
            assert [(await ours.send(chat())).status for _ in range(12)] == [500] * 12
            assert await states(ours) == {"a": "resting for acme", "b": "resting for acme"}
            assert 'fleetctl_server_up{server="a"} 1' in await metrics_of(ours.state)
            replies = [await ours.send(chat("globex-dates"), secret=GLOBEX) for _ in range(6)]
            assert [reply.status for reply in replies] == [200] * 6

    asyncio.run(scenario())


@asynccontextmanager
async def silent(seen: list[bytes]) -> AsyncIterator[str]:
    """Run a server that is healthy by its own word, and answers no request."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /health"):
                writer.write(FULL % (200, 0, b""))
                continue
            if head.startswith(b"GET"):
                writer.write(FULL % (404, 0, b""))
                continue
            seen.append(head)
            await reader.read()  # until the gateway gives up

    async with scripted(script) as url:
        yield url


@pytest.mark.parametrize("patience_s", [60.0, 1.0], ids=["no first byte", "leavers"])
def test_a_server_that_answers_nothing_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> None:
    leaves = patience_s < 60.0
    monkeypatch.setattr(upstream, "SUSPECT_S", 0.1)
    monkeypatch.setattr(attempts, "LEFT_S", 0.1 if leaves else 1e9)
    monkeypatch.setattr(attempts, "SILENT_S", 1e9 if leaves else 0.1)
    monkeypatch.setattr(attempts, "AGAIN_S", 0.1)
    monkeypatch.setattr(outliers, "SILENT_S", 1e9)  # a single request tries it again
    monkeypatch.setattr(outliers, "FIRST_EJECTION_S", 1e9)
    monkeypatch.setattr(outliers, "MAX_EJECTION_S", 1e9)
    seen: list[bytes] = []

    async def ask(ours: Stage, number: int) -> None:
        # An odd cycle, for servers are chosen by turns.
        model, secret = ("acme-support", ACME) if number % 3 else ("globex-dates", GLOBEX)
        asking = ours.send(chat(model), secret=secret)
        async with asyncio.timeout(patience_s):
            await asking

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, silent(seen) as url:
            await ours.publish(table({"silent": url, "s1": ours.servers["s1"]}, revision=2))
            tasks: list[asyncio.Task[None]] = []
            async with asyncio.timeout(60):
                while (await states(ours))["silent"] != "resting":
                    tasks.append(asyncio.create_task(ask(ours, len(tasks))))
                    await asyncio.sleep(0.1)  # or `s1` is slow, too, on a busy machine
            assert (await states(ours))["s1"] != "resting"
            before = len(seen)
            for _ in range(6):
                assert (await ours.send(chat())).status == 200
            assert len(seen) == before
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(scenario())


def test_a_server_that_makes_tokens_is_not_taken_for_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "SUSPECT_S", 0.0)
    monkeypatch.setattr(attempts, "SILENT_S", 0.6)
    found: set[str] = set()

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", token_seconds=0.02) as ours:
            body = chat(max_tokens=100, ignore_eos=True)
            asking = [asyncio.create_task(ours.send(body)) for _ in range(6)]
            while not all(task.done() for task in asking):
                found.add((await states(ours))["s1"])
                await asyncio.sleep(0.05)
            assert {(await task).status for task in asking} == {200}

    asyncio.run(scenario())
    assert found == {"up"}


@pytest.mark.parametrize(
    ("policy", "stream_s", "answer_s"),
    [
        (TrafficPolicy(), 60.0, 60.0),
        (TrafficPolicy(promise_s=2.0), 60.0, 20.0),
        (TrafficPolicy(promise_s=30.0), 60.0, 300.0),
        (TrafficPolicy(promise_s=2.0, timeouts=TimeoutPolicy(first_byte_s=90.0)), 90.0, 90.0),
    ],
)
def test_an_answer_without_stream_may_take_ten_times_its_promise(
    policy: TrafficPolicy, stream_s: float, answer_s: float
) -> None:
    given = table({"s1": "http://127.0.0.1:1"})
    entry = alias("acme", (OLD, 100, ("s1",)), policy=policy)
    routes = build_routes(
        given.model_copy(update={"aliases": {"acme-support": entry}, "keys": key("acme", "x")})
    )
    target = routes.routes["acme-support"].arms[0].target
    assert target.deadlines_of(stream=True) == DEFAULT_DEADLINES._replace(first_byte_s=stream_s)
    assert target.deadlines_of(stream=False).first_byte_s == answer_s
