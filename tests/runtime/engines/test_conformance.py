"""What every engine must do, run on the fake and on the real vLLM alike.

The tests share one server, because a real one takes 15 s to start; each makes sure that it
runs, which costs nothing when it does.
"""

import asyncio
import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from fleet.errors import EngineRejectedError, EngineUnreachableError
from runtime.engine_conformance import PROMPT, EngineConformance, prepare
from runtime.engines.protocol import Engine
from runtime.json_client import SERVER_KEYS, JsonClient

if TYPE_CHECKING:
    from tests.runtime.engines.conftest import Bench


@pytest.fixture
def ready(shared_bench: "Bench") -> "Bench":
    """The shared server, running and without adapters."""

    prepare(shared_bench)
    return shared_bench


class TestConformance(EngineConformance):
    """The suite, with the words of vLLM's refusals."""

    def refusal(self, what: str, error: EngineRejectedError) -> None:
        code = error.diagnostics[0].code
        match what:
            case "other bytes":
                assert code == "FC4005"
            case "missing":
                assert (error.status, code) == (404, "FC4007")
                assert "No adapter found" in str(error)
            case "rank":
                assert error.status == 500
                assert re.search(r"rank 32 .* max_lora_rank 16", str(error))
            case _:
                assert what == "unknown model"
                assert error.status == 404
                assert "does not exist" in str(error)

    def test_starting_a_running_server_changes_nothing(self, ready: "Bench") -> None:  # type: ignore[override]
        before = ready.served_launch()
        super().test_starting_a_running_server_changes_nothing(ready)
        assert ready.served_launch() == before

    def test_a_stopped_server_is_absent_and_stopping_again_is_fine(self, ready: "Bench") -> None:  # type: ignore[override]
        record = ready.record()
        super().test_a_stopped_server_is_absent_and_stopping_again_is_fine(ready)
        assert record.processes() == ()


def test_an_answer_carries_the_digest_of_the_flags(ready: "Bench") -> None:
    server = ready.server
    answer = ready.run(lambda engine: engine.complete(server.name, "tiny", PROMPT, 4))
    assert answer.fingerprint.removesuffix("+fake") == f"fleetctl-{server.digest}"


def test_the_server_is_seen_with_the_digest_of_its_flags(ready: "Bench") -> None:
    state = ready.run(lambda engine: engine.observe())
    (server,) = state.servers().values()
    assert server == ready.server
    assert server.flags == ready.server.flags
    assert state.unknown_servers == {}
    assert state.urls == {server.name: ready.url}
    assert state.versions[server.name].startswith("0.")
    assert float(state.boots[server.name]) > 0
    assert state.launches == {server.name: ready.served_launch()}
    assert re.fullmatch("[0-9a-f]{12}", state.launches[server.name])


def test_a_text_is_counted_in_the_tokens_of_a_prompt_for_models_that_are_there(
    ready: "Bench",
) -> None:
    name, folder = ready.adapter("acme")

    async def use(engine: Engine) -> None:
        await engine.load(ready.server.name, name, folder)
        async with ready.client() as http:
            for text in (PROMPT, PROMPT * 9):
                body = {"model": name, "prompt": text, "max_tokens": 1}
                used = (await http.post("/v1/completions", body))["usage"]["prompt_tokens"]
                asked = {"model": name, "prompt": text, "add_special_tokens": False}
                told = await http.post("/tokenize", asked)
                assert told["count"] == len(told["tokens"]) == used > 1
            with pytest.raises(EngineRejectedError, match="does not exist") as caught:
                await http.post("/tokenize", asked | {"model": f"{name}-gone"})
            assert caught.value.status == 404

    ready.run(use)


def test_a_running_request_survives_the_unloading_of_its_adapter(ready: "Bench") -> None:
    name, folder = ready.adapter("acme")
    body = {"model": name, "prompt": PROMPT, "max_tokens": 200, "ignore_eos": True}
    body["temperature"] = 0

    async def use(engine: Engine) -> None:
        await engine.load(ready.server.name, name, folder)
        async with ready.client() as http:
            expected = await http.post("/v1/completions", body)
            running = asyncio.create_task(http.post("/v1/completions", body))
            while 'num_requests_running{engine="0",model_name="tiny"} 1.0' not in (
                await http.get_text("/metrics")
            ):
                assert not running.done()
            await engine.unload(ready.server.name, name)
            assert not running.done()
            with pytest.raises(EngineRejectedError):
                await engine.complete(ready.server.name, name, PROMPT)
            answer = await running
        assert answer["choices"][0]["text"] == expected["choices"][0]["text"]
        assert answer["usage"]["completion_tokens"] == 200

    ready.run(use)


@pytest.mark.parametrize("shared_bench", ["fake"], indirect=True)  # the demo plays it on vLLM
def test_a_killed_server_is_absent_and_comes_back_empty_as_another_process(
    ready: "Bench",
) -> None:
    name, folder = ready.adapter("acme")

    async def use(engine: Engine) -> None:
        await engine.load(ready.server.name, name, folder)
        before = (await engine.observe()).boots[ready.server.name]
        record = ready.record()
        os.killpg(record.pid, signal.SIGKILL)
        ready.until_gone(record)
        state = await engine.observe()
        assert state.resources == {}
        assert state.unknown_servers == {}
        with pytest.raises(EngineUnreachableError):
            await engine.load(ready.server.name, name, folder)
        await engine.unload(ready.server.name, name)
        await engine.start(ready.server)
        state = await engine.observe()
        assert set(state.servers()) == {ready.server.name}
        assert state.adapters() == {}
        assert state.boots[ready.server.name] != before

    ready.run(use)


def test_paths_under_v1_ask_for_the_key_and_no_other_path_does(ready: "Bench") -> None:
    async def use(engine: Engine) -> None:
        url = (await engine.observe()).urls[ready.server.name]
        async with JsonClient(url) as own:
            key = SERVER_KEYS.pop(url)
            assert key not in ready.seen_by_others()
            await asyncio.gather(*map(own.get_text, ("/health", "/version", "/metrics")))
            for refused in (own.get("/v1/models"), own.post("/v1/load_lora_adapter", {})):
                with pytest.raises(EngineRejectedError, match="401"):
                    await refused

    ready.run(use)
