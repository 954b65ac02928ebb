"""What every engine must do, run on the fake and on the real vLLM alike.

The tests share one server, because a real one takes 15 s to start; each makes sure that it
runs, which costs nothing when it does.
"""

import asyncio
import os
import re
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from fleet.errors import EngineRejectedError, EngineUnreachableError
from fleet.names import adapter_address
from fleet.resources import LoadedAdapter
from runtime.engines.protocol import Completion, Engine
from runtime.json_client import SERVER_KEYS, JsonClient

if TYPE_CHECKING:
    from tests.runtime.engines.conftest import Bench

SLOTS = 3
"""`max_loras` of the shared server."""

PROMPT = "I was charged twice for May."


@pytest.fixture
def ready(shared_bench: "Bench") -> "Bench":
    """The shared server, running and without adapters."""

    async def prepare(engine: Engine) -> None:
        await engine.start(shared_bench.server)
        for loaded in (await engine.observe()).adapters().values():
            await engine.unload(loaded.server, loaded.adapter)

    shared_bench.run(prepare)
    return shared_bench


def test_a_loaded_adapter_is_listed_with_its_digest_and_answers(ready: "Bench") -> None:
    name, folder = ready.adapter("acme")

    async def use(engine: Engine) -> Completion:
        await engine.load(ready.server.name, name, folder)
        state = await engine.observe()
        digest = folder.rpartition("/")[2]
        found = state.adapters()[adapter_address(name, ready.server.name)]
        assert found == LoadedAdapter(name, ready.server.name, digest)
        assert found.path == ready.path_there(folder)
        return await engine.complete(ready.server.name, name, PROMPT, max_tokens=8)

    answer = ready.run(use)
    assert answer.text
    assert answer.model == name
    assert answer.fingerprint.removesuffix("+fake") == f"fleetctl-{ready.server.digest}"
    assert 0 < answer.completion_tokens <= 8


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


def test_adapters_answer_differently_from_each_other_and_from_the_base(ready: "Bench") -> None:
    async def use(engine: Engine) -> set[str]:
        texts = {(await engine.complete(ready.server.name, "tiny", PROMPT, 12)).text}
        for client in ("acme", "birch"):
            name, folder = ready.adapter(client)
            await engine.load(ready.server.name, name, folder)
            texts.add((await engine.complete(ready.server.name, name, PROMPT, 12)).text)
        return texts

    assert len(ready.run(use)) == 3


def test_loading_again_from_the_same_path_is_fine(ready: "Bench") -> None:
    name, folder = ready.adapter("acme")

    async def use(engine: Engine) -> int:
        await engine.load(ready.server.name, name, folder)
        await engine.load(ready.server.name, name, folder)
        return len((await engine.observe()).adapters())

    assert ready.run(use) == 1


def test_a_name_is_never_given_to_other_bytes(ready: "Bench") -> None:
    name, folder = ready.adapter("acme", seed=1)
    _, other = ready.adapter("acme", seed=2)

    async def use(engine: Engine) -> list[str]:
        await engine.load(ready.server.name, name, folder)
        with pytest.raises(EngineRejectedError) as caught:
            await engine.load(ready.server.name, name, other)
        assert caught.value.diagnostics[0].code == "FC4005"
        return [each.path for each in (await engine.observe()).adapters().values()]

    assert ready.run(use) == [ready.path_there(folder)]


def test_two_loads_of_one_adapter_at_the_same_time_both_succeed(ready: "Bench") -> None:
    name, folder = ready.adapter("acme")

    async def use(engine: Engine) -> int:
        await asyncio.gather(*(engine.load(ready.server.name, name, folder) for _ in range(2)))
        return len((await engine.observe()).adapters())

    assert ready.run(use) == 1


def test_a_missing_folder_is_refused(ready: "Bench") -> None:
    name, folder = ready.adapter("acme")

    async def use(engine: Engine) -> None:
        with pytest.raises(EngineRejectedError, match="No adapter found") as caught:
            await engine.load(ready.server.name, name, f"{folder}-gone")
        assert caught.value.status == 404
        assert caught.value.diagnostics[0].code == "FC4007"
        assert (await engine.observe()).adapters() == {}

    ready.run(use)


def test_a_rank_above_the_limit_is_refused_and_says_both(ready: "Bench") -> None:
    name, folder = ready.adapter("acme", rank=32)

    async def use(engine: Engine) -> None:
        with pytest.raises(EngineRejectedError, match=r"rank 32 .* max_lora_rank 16") as caught:
            await engine.load(ready.server.name, name, folder)
        assert caught.value.status == 500
        assert (await engine.observe()).adapters() == {}

    ready.run(use)


def test_an_unloaded_adapter_is_gone_and_unloading_again_is_fine(ready: "Bench") -> None:
    name, folder = ready.adapter("acme")

    async def use(engine: Engine) -> None:
        await engine.load(ready.server.name, name, folder)
        await engine.unload(ready.server.name, name)
        await engine.unload(ready.server.name, name)
        assert (await engine.observe()).adapters() == {}
        with pytest.raises(EngineRejectedError) as caught:
            await engine.complete(ready.server.name, name, PROMPT)
        assert caught.value.status == 404

    ready.run(use)


def test_an_unknown_model_is_refused(ready: "Bench") -> None:
    async def use(engine: Engine) -> None:
        with pytest.raises(EngineRejectedError, match="does not exist") as caught:
            await engine.complete(ready.server.name, "nobody-test-tiny-v1.0.0", PROMPT)
        assert caught.value.status == 404

    ready.run(use)


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


def test_more_adapters_than_slots_are_served_and_keep_their_answers(ready: "Bench") -> None:
    adapters = [ready.adapter(client) for client in ("acme", "birch", "corvid", "delta", "elm")]

    async def answers(engine: Engine) -> list[str]:
        return [
            (await engine.complete(ready.server.name, name, PROMPT, 12)).text
            for name, _ in adapters
        ]

    async def use(engine: Engine) -> None:
        for name, folder in adapters:
            await engine.load(ready.server.name, name, folder)
        first = await answers(engine)
        assert len(set(first)) == len(adapters) > SLOTS
        assert await answers(engine) == first

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


def test_starting_a_running_server_changes_nothing(ready: "Bench") -> None:
    before = ready.served_launch()

    async def use(engine: Engine) -> None:
        await asyncio.gather(*(engine.start(ready.server) for _ in range(2)))

    ready.run(use)
    assert ready.served_launch() == before


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


def test_a_stopped_server_leaves_no_process_and_no_port(ready: "Bench") -> None:
    record = ready.record()

    async def use(engine: Engine) -> None:
        await engine.stop(ready.server.name)
        await engine.stop(ready.server.name)
        assert (await engine.observe()).resources == {}

    ready.run(use)
    assert record.processes() == ()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", ready.server.port)) != 0


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
