"""LiteLLM's configuration: shares as weights, and the real LiteLLM takes it."""

import asyncio
import json
import os
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from fleet.config.files.merge import COMPILED_FILE
from fleet.resources import Route, Share
from plans.compile import litellm
from tests.ports import free_port
from tests.runtime.gateway.stage import CHAT, NEW, OLD, chat, replica

REQUESTS = 60


def test_a_share_is_spread_over_the_servers_that_hold_the_version() -> None:
    shares = (Share(NEW, 30, ("a", "b")), Share(OLD, 70, ("b",)), Share("gone", 0, ("a",)))
    route = Route("acme-support", shares, "s")
    urls = {"a": "http://a:1/", "b": "http://b:2"}
    listed = json.loads(litellm.config({"acme-support": route}, urls))["model_list"]
    assert [
        (each["litellm_params"]["model"], each["litellm_params"]["api_base"], weight(each))
        for each in listed
    ] == [
        (f"hosted_vllm/{NEW}", "http://a:1/v1", 15),
        (f"hosted_vllm/{NEW}", "http://b:2/v1", 15),
        (f"hosted_vllm/{OLD}", "http://b:2/v1", 70),
    ]
    assert {each["model_name"] for each in listed} == {"acme-support"}


def weight(deployment: dict[str, dict[str, float]]) -> float:
    return deployment["litellm_params"]["weight"]


@pytest.mark.slow
@pytest.mark.needs("litellm")
@pytest.mark.long
def test_the_real_litellm_serves_it(tmp_path: Path, litellm_program: Path) -> None:
    async def scenario() -> None:
        async with replica(OLD, NEW) as server, aiohttp.ClientSession() as http:
            shares = (Share(NEW, 20, ("s1",)), Share(OLD, 80, ("s1",)))
            routes = {"acme-support": Route("acme-support", shares, "s")}
            file = tmp_path / COMPILED_FILE
            file.write_text(litellm.config(routes, {"s1": server.url}), encoding="utf-8")
            port = free_port()
            environment = {"LITELLM_MASTER_KEY": "sk-made-up", "NO_PROXY": "*"}
            with (tmp_path / "log").open("wb") as log:
                process = await asyncio.create_subprocess_exec(
                    *(str(litellm_program), "--config", str(file)),
                    *("--host", "127.0.0.1", "--port", str(port)),
                    stdout=log, stderr=log, cwd=tmp_path, env=os.environ | environment,
                )  # fmt: skip
            url = f"http://127.0.0.1:{port}{CHAT}"
            headers = {"Authorization": "Bearer sk-made-up"}

            async def ask() -> int:
                async with http.post(url, json=chat(), headers=headers) as reply:
                    await reply.read()
                    return reply.status

            try:
                async with asyncio.timeout(200):
                    while True:
                        assert process.returncode is None, (tmp_path / "log").read_text()
                        try:
                            first = await ask()
                            break
                        except aiohttp.ClientConnectorError:
                            await asyncio.sleep(0.2)
                statuses = [first, *[await ask() for _ in range(REQUESTS - 1)]]
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()
            assert set(statuses) == {200}
            asked = Counter(server.models)
            assert set(asked) == {NEW, OLD}
            assert asked[NEW] < asked[OLD]

    asyncio.run(scenario())
