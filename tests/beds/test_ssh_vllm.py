"""The engine `ssh` with the real vLLM in a box, which sees the environment that has vLLM."""

from dataclasses import replace
from pathlib import Path
from subprocess import CalledProcessError
from typing import TYPE_CHECKING

import pytest

from fleet.names import adapter_address
from runtime.engines.protocol import Engine

if TYPE_CHECKING:
    from tests.beds.engine_bench import BoxBench

pytestmark = pytest.mark.boxes


def test_vllm_that_was_killed_is_back_and_answers_for_its_adapters(
    shared_bench: "BoxBench",
) -> None:
    python = str((Path(__file__).parents[2] / ".venv-vllm").resolve() / "bin" / "python")
    try:
        shared_bench.there(f"test -x {python}")
    except CalledProcessError:
        pytest.skip("the box sees no environment with vLLM")
    bench = replace(shared_bench, host=replace(shared_bench.host, python=python))
    server, (name, folder) = bench.server.name, bench.adapter("acme")

    async def use(engine: Engine) -> None:
        await engine.start(bench.server)
        await engine.load(server, name, folder)
        text = (await engine.complete(server, name, "Hello", 8)).text
        before = await engine.observe()
        assert set(before.adapters()) == {adapter_address(name, server)}
        assert before.servers() == {server: bench.server}
        bench.kill()
        assert (await engine.observe()).servers() == {}
        await engine.start(bench.server)
        seen = await engine.observe()
        assert seen.launches == before.launches
        assert set(seen.resolvable) == {adapter_address(name, server)}
        assert (await engine.complete(server, name, "Hello", 8)).text == text
        await engine.stop(server)
        assert (await engine.observe()).resources == {}

    bench.run(use)
