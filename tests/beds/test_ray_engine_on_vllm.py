"""The engine `ray` with a real vLLM on each of two nodes: all of test_ray_engine, on both.

No test of the suite needs the fake server: the nodes' interpreter is vLLM's own, behind a script
that a test can hold up.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.names import adapter_address
from runtime.engines.protocol import Engine
from tests.beds.ray_bench import NODES, delayed_python, serving
from tests.beds.rays import RayBed
from tests.beds.test_ray_engine import *  # noqa: F403 (every test of the suite)

if TYPE_CHECKING:
    from tests.beds.ray_bench import RayBench

pytestmark = [pytest.mark.ray, pytest.mark.live, pytest.mark.proof]


@pytest.fixture(scope="module")
def vllm_bench(
    ray_bed: RayBed, vllm_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[RayBench]":
    """The server of the first node, for the whole file; `on` has that of the second."""
    folder = tmp_path_factory.mktemp("ray-vllm")
    with serving(ray_bed, folder, delayed_python(folder / "vllm", vllm_python)) as bench:
        yield bench


@pytest.fixture(params=range(1, NODES + 1), ids="node{}".format)  # type: ignore[no-redef]
def shared_bench(request: pytest.FixtureRequest, vllm_bench: "RayBench") -> "RayBench":
    """A server of a node; those of both nodes run at the same time."""
    node: int = request.param
    return vllm_bench.on(node)


def test_a_killed_vllm_leaves_no_worker_beside_the_next_one(ready: "RayBench") -> None:
    before = {*ready.workers()}
    ready.kill()
    ready.run(lambda engine: engine.start(ready.server))
    assert before
    assert not before & {*ready.workers()}


def test_two_nodes_answer_alike_for_a_version_and_each_has_its_own_server(
    vllm_bench: "RayBench",
) -> None:
    name, folder = vllm_bench.adapter("acme")

    async def answer(bench: "RayBench", engine: Engine) -> str:
        server = bench.server.name
        await engine.start(bench.server)
        await engine.load(server, name, folder)
        seen = await engine.observe()
        assert set(seen.servers()) == {server}
        assert set(seen.adapters()) == {adapter_address(name, server)}
        return (await engine.complete(server, name, "I was charged twice for May.", 12)).text

    benches = [vllm_bench.on(node) for node in range(1, NODES + 1)]
    first, second = (bench.run(partial(answer, bench)) for bench in benches)
    assert first == second
    assert len({bench.served_launch() for bench in benches}) == NODES
