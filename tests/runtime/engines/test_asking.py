"""Answers of versions whose base takes no chats, or whose server sets reasoning aside."""

import asyncio
import json
import shutil
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fleet.errors import EngineRejectedError
from runtime.engine_conformance import BASE
from runtime.engines.protocol import Completion, Engine
from runtime.engines.vllm_api import request_completion
from runtime.fake_vllm.app import fake_app
from runtime.fake_vllm.state import FakeConfig, FakeModelServer
from runtime.json_client import JsonClient
from tests.runtime.engines.conftest import Bench, Kind, make_bench

PROMPT = "Hello there my friend"


def bench_of(kind: Kind, root: Path, python: str, *flags: tuple[str, str]) -> Bench:
    """Return a bench whose base is a copy that a test may change."""
    made = make_bench(kind, root, python)
    base = root / "models" / "tiny"
    base.unlink()
    shutil.copytree(BASE, base)
    assert made.server.flags is not None
    changed = replace(made.server.flags, extra=flags)
    return replace(made, server=replace(made.server, flags=changed, digest=changed.digest))


@pytest.fixture(
    params=["fake", pytest.param("local", marks=[pytest.mark.live, pytest.mark.long], id="vllm")]
)
def engine_kind(request: pytest.FixtureRequest) -> tuple[Kind, str]:
    kind: Kind = request.param
    return kind, str(request.getfixturevalue("vllm_python")) if kind == "local" else ""


def texts(bench: Bench) -> list[str]:
    """Return the answers of a version and of its base; the server is stopped."""

    async def body(engine: Engine) -> list[str]:
        try:
            await engine.start(bench.server)
            name, folder = bench.adapter("acme")
            await engine.load(bench.server.name, name, folder)
            answers = [
                await engine.complete(bench.server.name, model, PROMPT, 12)
                for model in (name, "tiny")
            ]
            assert [answer.model for answer in answers] == [name, "tiny"]
            return [answer.text for answer in answers]
        finally:
            await engine.stop(bench.server.name)

    answered: list[str] = bench.run(body)
    return answered


def test_a_base_without_a_chat_template_is_asked_the_bare_text(
    engine_kind: tuple[Kind, str], tmp_path: Path
) -> None:
    """Red before: 400, "you must provide a chat template", of every version of such a base."""
    bench = bench_of(engine_kind[0], tmp_path / "project", engine_kind[1])
    (bench.root / "models" / "tiny" / "chat_template.jinja").unlink()
    version, base = texts(bench)
    assert version.strip()
    assert base.strip()
    assert version != base


@pytest.mark.live
@pytest.mark.long
def test_an_answer_that_ends_within_its_reasoning_is_an_answer(
    vllm_python: Path, tmp_path: Path
) -> None:
    """Red before: the text was empty, as vLLM's `content` is null then."""
    parser = ("reasoning-parser", "deepseek_r1")
    bench = bench_of("local", tmp_path / "project", str(vllm_python), parser)
    know_the_marks_of_reasoning(bench.root / "models" / "tiny")
    assert all(text.strip() for text in texts(bench))


def know_the_marks_of_reasoning(base: Path) -> None:
    """Give two tokens the names that the parser looks for."""
    marks = {"<|system|>": "<think>", "<|pad|>": "</think>"}
    document = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    words = document["model"]["vocab"]
    for name, mark in marks.items():
        words[mark] = words.pop(name)
    for token in document["added_tokens"]:
        token["content"] = marks.get(token["content"], token["content"])
    (base / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    file = base / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings |= {"pad_token": "<|end|>", "extra_special_tokens": ["<|user|>", "<|assistant|>"]}
    file.write_text(json.dumps(settings), encoding="utf-8")


def answering(message: dict[str, Any]) -> Starlette:
    """Return a server that answers every chat with a message."""

    async def chat(_: Request) -> JSONResponse:
        return JSONResponse({"model": "m", "choices": [{"message": message}]})

    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None, "reasoning": "They greet me"}, "They greet me"),
        ({"content": "", "reasoning_content": "They greet me"}, "They greet me"),
        ({"content": "\n", "reasoning": "They greet me"}, "They greet me"),
        ({"content": "Hi", "reasoning": "They greet me"}, "Hi"),
        ({"content": "", "reasoning": None}, ""),
        ({"content": None}, ""),
    ],
)
def test_the_text_of_an_answer(message: dict[str, Any], text: str) -> None:
    async def body() -> Completion:
        async with JsonClient("http://x", app=answering(message)) as client:
            return await request_completion(client, "m", PROMPT, 4)

    assert asyncio.run(body()).text == text


def test_no_other_refusal_is_asked_around(tmp_path: Path) -> None:
    """The fake refuses the chat for another reason, and would answer the bare text."""
    (tmp_path / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    bare = FakeModelServer(FakeConfig(model=str(tmp_path), served_model_names=("tiny",)))

    async def body() -> Completion:
        async with JsonClient("http://x", app=fake_app(bare.config, bare)) as client:
            bare.faults.refuse("generate", HTTPStatus.BAD_REQUEST)
            with pytest.raises(EngineRejectedError, match="A fault on request"):
                await request_completion(client, "tiny", PROMPT, 4)
            return await request_completion(client, "tiny", PROMPT, 4)

    assert asyncio.run(body()).text
