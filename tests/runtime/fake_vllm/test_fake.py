"""The fake server's own manners, beyond what every engine must do."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import EngineRejectedError
from runtime.fake_vllm.app import fake_app
from runtime.fake_vllm.state import FakeConfig, FakeModelServer
from runtime.json_client import JsonClient

CONFIG = FakeConfig(
    model="/models/tiny",
    served_model_names=("tiny", "fleetctl-0123456789ab"),
    enable_lora=True,
    max_loras=2,
    max_cpu_loras=3,
    fingerprint="fleetctl-0123456789ab",
    token_seconds=0,
)
CHAT = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0}

Use = Callable[[JsonClient], Awaitable[Any]]


def call(server: FakeModelServer, use: Use) -> Any:
    async def body() -> Any:
        app = fake_app(server.config, server)
        async with JsonClient("http://fake", app=app) as http:
            return await use(http)

    return asyncio.run(body())


def adapter(folder: Path, content: str = "", config: dict[str, Any] | None = None) -> str:
    folder.mkdir()
    settings = {"r": 8, "content": content} | (config or {})
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    weights = len(header).to_bytes(8, "little") + header + bytes(4)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return str(folder)


def loading(name: str, path: str) -> Use:
    body = {"lora_name": name, "lora_path": path}
    return lambda http: http.post("/v1/load_lora_adapter", body)


def asking(model: str | None) -> Use:
    body = CHAT if model is None else CHAT | {"model": model}
    return lambda http: http.post("/v1/chat/completions", body)


def text_of(answer: Any) -> str:
    return str(answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"lora_name": "a"}, 400, "body.lora_path"),
        ({"lora_name": 3, "lora_path": "/x"}, 400, "valid string"),
        ({"lora_name": "", "lora_path": "/x"}, 400, "must be provided"),
        ({"lora_name": "tiny", "lora_path": "/x"}, 400, "conflicts with a served base"),
        ({"lora_name": "a", "lora_path": "/nowhere"}, 404, "No adapter found for /nowhere"),
    ],
)
def test_a_wrong_load_is_refused_as_vllm_does(
    body: dict[str, object], status: int, says: str
) -> None:
    with pytest.raises(EngineRejectedError, match=says) as caught:
        call(FakeModelServer(CONFIG), lambda http: http.post("/v1/load_lora_adapter", body))
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"r": 64}, "LoRA rank 64 is greater than max_lora_rank 16"),
        ({"rank_pattern": {"q_proj": 32}}, "LoRA rank 32 is greater"),
        ({"r": 0}, "positive integer"),
        ({"r": None}, "TypeError"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ],
)
def test_an_adapter_that_vllm_cannot_load_is_a_500(
    tmp_path: Path, config: dict[str, object], says: str
) -> None:
    path = adapter(tmp_path / "a", config=config)
    with pytest.raises(EngineRejectedError, match=says) as caught:
        call(FakeModelServer(CONFIG), loading("a", path))
    assert caught.value.status == 500


@pytest.mark.parametrize("weights", [b"", b"garbage", bytes([99, 0, 0, 0, 0, 0, 0, 0]) + b"{}"])
def test_broken_weights_are_a_500(tmp_path: Path, weights: bytes) -> None:
    path = adapter(tmp_path / "a")
    (tmp_path / "a" / "adapter_model.safetensors").write_bytes(weights)
    with pytest.raises(EngineRejectedError, match="deserializing header") as caught:
        call(FakeModelServer(CONFIG), loading("a", path))
    assert caught.value.status == 500


def test_a_missing_model_is_answered_by_the_base() -> None:
    server = FakeModelServer(CONFIG)
    answers = [call(server, asking(model)) for model in (None, "", "tiny", "fleetctl-0123456789ab")]
    assert {answer["model"] for answer in answers} == {"tiny"}
    assert len({text_of(answer) for answer in answers}) == 1


def test_slots_and_cache_forget_the_least_recently_used(tmp_path: Path) -> None:
    server = FakeModelServer(CONFIG)
    for name in "abcd":
        call(server, loading(name, adapter(tmp_path / name)))
    assert list(server.slots) == ["c", "d"]
    assert list(server.cached) == ["b", "c", "d"]
    call(server, asking("b"))
    assert list(server.slots) == ["d", "b"]
    call(server, asking("a"))
    assert list(server.cached) == ["d", "b", "a"]
    assert set(server.listed) == set("abcd")


def test_an_evicted_adapter_is_read_again_and_answers_as_its_bytes_are_now(tmp_path: Path) -> None:
    server = FakeModelServer(CONFIG)
    path = adapter(tmp_path / "a", "before")
    call(server, loading("a", path))
    before = text_of(call(server, asking("a")))
    config = Path(path) / "adapter_config.json"
    config.write_text(json.dumps({"r": 8, "content": "after"}))
    assert text_of(call(server, asking("a"))) == before
    for name in "bcd":
        call(server, loading(name, adapter(tmp_path / name)))
    assert text_of(call(server, asking("a"))) != before


def test_a_deleted_folder_kills_the_engine_for_everybody(tmp_path: Path) -> None:
    server = FakeModelServer(CONFIG)
    deaths: list[str] = []
    server.on_death = lambda: deaths.append("dead")
    path = adapter(tmp_path / "a")
    call(server, loading("a", path))
    for name in "bcd":
        call(server, loading(name, adapter(tmp_path / name)))
    Path(path, "adapter_config.json").unlink()
    with pytest.raises(EngineRejectedError) as caught:
        call(server, asking("a"))
    assert caught.value.status == 500
    assert deaths == ["dead"]
    with pytest.raises(EngineRejectedError) as caught:
        call(server, lambda http: http.get("/v1/models", attempts=1))
    assert caught.value.status == 503


def test_the_same_bytes_answer_the_same_on_every_server(tmp_path: Path) -> None:
    first, second = FakeModelServer(CONFIG), FakeModelServer(CONFIG)
    call(first, loading("a", adapter(tmp_path / "a", "x")))
    call(second, loading("b", adapter(tmp_path / "b", "x")))
    assert text_of(call(first, asking("a"))) == text_of(call(second, asking("b")))


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", CHAT), ("/v1/completions", {"prompt": "hello", "max_tokens": 6})],
)
def test_a_stream_says_the_same_as_the_whole_answer(path: str, body: dict[str, Any]) -> None:
    server = FakeModelServer(CONFIG)
    whole = call(server, lambda http: http.post(path, body))
    streaming = body | {"stream": True, "stream_options": {"include_usage": True}}
    raw = call(server, lambda http: http.post(path, streaming))
    lines = [line.removeprefix("data: ") for line in raw.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    events = [json.loads(line) for line in lines]
    last = events.pop()
    assert last["choices"] == []
    assert last["usage"] == whole["usage"]
    assert last["system_fingerprint"] == whole["system_fingerprint"] == f"{CONFIG.fingerprint}+fake"
    choices = [event["choices"][0] for event in events]
    assert choices[-1]["finish_reason"] == whole["choices"][0]["finish_reason"]
    said = "".join(
        each.get("text", "") + each.get("delta", {}).get("content", "") for each in choices
    )
    first = whole["choices"][0]
    assert said == (first["text"] if "text" in first else first["message"]["content"])


def test_what_was_generated_is_counted_as_so_many_tokens() -> None:
    server = FakeModelServer(CONFIG)
    answer = call(server, asking("tiny"))
    asked = {"model": "tiny", "prompt": text_of(answer)}
    told = call(server, lambda http: http.post("/tokenize", asked))
    assert told["count"] == answer["usage"]["completion_tokens"] == 6


def test_metrics_count_tokens_and_know_the_base_only(tmp_path: Path) -> None:
    server = FakeModelServer(CONFIG, started=12.5)
    call(server, loading("a", adapter(tmp_path / "a")))
    call(server, asking("a"))
    text = call(server, lambda http: http.get_text("/metrics"))
    assert "process_start_time_seconds 12.5\n" in text
    assert 'vllm:generation_tokens_total{engine="0",model_name="tiny"} 6.0\n' in text
    assert 'model_name="a"' not in text


def test_without_the_variable_there_is_no_route_to_load() -> None:
    closed = FakeModelServer(replace(CONFIG, runtime_updates=False))
    with pytest.raises(EngineRejectedError) as caught:
        call(closed, loading("a", "/x"))
    assert caught.value.status == 404


def test_a_fault_happens_once_and_a_lost_answer_has_had_its_effect(tmp_path: Path) -> None:
    server = FakeModelServer(CONFIG)
    path = adapter(tmp_path / "a")
    server.faults.refuse("load", HTTPStatus.SERVICE_UNAVAILABLE)
    with pytest.raises(EngineRejectedError) as caught:
        call(server, loading("a", path))
    assert caught.value.status == 503
    assert server.listed == {}
    server.faults.lose_answer("load")
    with pytest.raises(EngineRejectedError) as caught:
        call(server, loading("a", path))
    assert caught.value.status == 502
    assert server.listed == {"a": path}
    call(server, lambda http: http.post("/v1/unload_lora_adapter", {"lora_name": "a"}))
    assert server.listed == {}


def test_the_digest_of_an_answer_is_that_of_the_files(tmp_path: Path) -> None:
    server = FakeModelServer(CONFIG)
    path = Path(adapter(tmp_path / "a"))
    call(server, loading("a", str(path)))
    content = b"".join(
        (path / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")
    )
    assert server.cached["a"].digest == hashlib.sha256(content).hexdigest()
