"""Answers of any peer are bounded, understood or refused, and never followed elsewhere."""

import asyncio
import gzip
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import EngineError, EngineRejectedError
from runtime import json_client
from runtime.engines.vllm_api import list_models
from runtime.json_client import JsonClient
from tests.attacks.conftest import Listener, call, declare
from tests.attacks.test_secrets import attached, gateway


def _ask(url: str, **headers: str) -> Any:
    async def ask() -> Any:
        async with JsonClient(url, headers=headers, timeout_s=60) as client:
            return await client.get("/v1/models", attempts=1)

    return asyncio.run(ask())


def test_a_redirect_takes_no_secret_along(listener: Listener, canary: str) -> None:
    listener.may_be_called = True
    listener.answer = (
        f"HTTP/1.1 302 Found\r\nlocation: http://evil.test:{listener.port}/\r\n"
        "content-length: 0\r\n\r\n"
    ).encode()
    with pytest.raises(EngineRejectedError, match="302"):
        _ask(f"http://127.0.0.1:{listener.port}", Authorization=f"Bearer {canary}")
    assert len(listener.received) == 1
    assert b"host: 127.0.0.1" in listener.received[0].lower()


def _answer(body: bytes, *headers: str) -> bytes:
    head = ["HTTP/1.1 200 OK", "content-type: application/json", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


BODIES = {
    "larger than it may be": _answer(b"[" + b"0," * 5000 + b"0]", "connection: close"),
    "larger than it may be, in chunks": _answer(
        b"2000\r\n" + b" " * 8192 + b"\r\n2000\r\n" + b" " * 8192 + b"\r\n0\r\n\r\n",
        "transfer-encoding: chunked",
    ),
    "compressed": _answer(
        gzip.compress(b" " * 100_000), "content-encoding: gzip", "connection: close"
    ),
    "deep": _answer(b"[" * 4000, "connection: close"),
    "not JSON": _answer(b"\xff\xfe", "connection: close"),
    "a number of many digits": _answer(b"9" * 4400, "connection: close"),
    "cut off": _answer(b"{", "content-length: 10"),
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "empty": b"",
    "two lengths": _answer(b"{}", "content-length: 2", "content-length: 3"),
    "an endless head": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 50_000,
}


def test_a_server_with_countless_models_is_no_server_of_ours(listener: Listener) -> None:
    card = b'{"id": "a", "parent": "b"},'
    listener.may_be_called = True
    listener.answer = _answer(
        b'{"data": [' + card * 30_000 + card[:-1] + b"]}", "connection: close"
    )

    async def ask() -> object:
        async with JsonClient(f"http://127.0.0.1:{listener.port}", timeout_s=60) as client:
            return await list_models(client)

    with pytest.raises(EngineRejectedError, match="more than 10000 models"):
        asyncio.run(ask())


@pytest.mark.parametrize("name", BODIES)
def test_an_answer_of_any_kind_is_bounded_and_an_error_of_ours(
    name: str, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_client, "MAX_BODY", 8192)
    listener.may_be_called = True
    listener.answer = BODIES[name]
    with pytest.raises(EngineError) as failed:
        _ask(f"http://127.0.0.1:{listener.port}")
    assert failed.value.diagnostics[0].code in {"FC4001", "FC4004"}


def test_a_hostile_answer_of_a_gateway_is_no_traceback(project: Path, listener: Listener) -> None:
    listener.may_be_called = True
    declare(project, gateway(f"http://127.0.0.1:{listener.port}"))
    for body in (b"{}", b"[]", b"null", b'"x"', b'{"revision": "x", "digest": 1}', b"[" * 3000):
        listener.answer = _answer(body, f"content-length: {len(body)}")
        for command in ("plan", "gateway status"):
            call(project, *command.split())
    assert any(b"authorization: bearer fctl_" in sent.lower() for sent in listener.received)


@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize(
    "body", [b"<html>private page</html>", b'["private"]', b'{"key": "private"}', b'{"error": 1}']
)
def test_a_page_of_another_program_is_not_quoted(
    status: int, body: bytes, project: Path, listener: Listener
) -> None:
    listener.may_be_called = True
    listener.answer = (
        f"HTTP/1.1 {status} Status\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    )
    declare(project, attached(f"http://127.0.0.1:{listener.port}/page"))
    done = call(project, "plan")
    assert "private" not in done.text
    assert listener.received
