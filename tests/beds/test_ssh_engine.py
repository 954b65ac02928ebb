"""The engine `ssh` on a real box: the conformance suite, and two of its tests in other words."""

from typing import TYPE_CHECKING

import pytest

from fleet.environment import server_key
from fleet.names import adapter_address
from runtime.engines.protocol import Engine
from tests.beds.engine_bench import UNITS
from tests.runtime.engines.test_conformance import *  # noqa: F403 (every test of the suite)
from tests.runtime.engines.test_conformance import TestConformance as WordedConformance

if TYPE_CHECKING:
    from tests.beds.engine_bench import BoxBench

pytestmark = pytest.mark.boxes


def test_a_killed_server_is_absent_and_comes_back_empty_as_another_process(  # type: ignore[no-redef]
    ready: "BoxBench",
) -> None:
    name, folder = ready.adapter("acme")
    server = ready.server.name

    async def use(engine: Engine) -> None:
        await engine.load(server, name, folder)
        before = await engine.observe()
        ready.there("touch hold")
        ready.kill()
        seen = await engine.observe()
        assert (seen.resources, seen.unknown_servers) == ({}, {})
        (note,) = seen.notes
        assert note.startswith(f"Server {server} is still starting")
        ready.there("rm hold")
        await engine.start(ready.server)
        seen = await engine.observe()
        assert (set(seen.servers()), seen.adapters()) == ({server}, {})
        assert seen.boots != before.boots
        assert seen.launches == before.launches
        assert set(seen.resolvable) == {adapter_address(name, server)}
        assert (await engine.complete(server, name, "Hello", 4)).model == name
        assert set((await engine.observe()).adapters()) == {adapter_address(name, server)}

    ready.run(use)
    assert ready.unit().restarts == 1


class TestConformance(WordedConformance):  # type: ignore[no-redef]
    def test_a_stopped_server_is_absent_and_stopping_again_is_fine(  # type: ignore[override]
        self,
        ready: "BoxBench",
    ) -> None:
        async def use(engine: Engine) -> None:
            await engine.stop(ready.server.name)
            await engine.stop(ready.server.name)
            await engine.unload(ready.server.name, "acme-test-tiny-v1.0.0")
            seen = await engine.observe()
            assert (seen.resources, seen.unknown_servers, seen.notes) == ({}, {}, ())

        ready.run(use)
        assert (
            ready.there(f"ss -Hltn sport = {ready.server.port}; ls {UNITS}/fleetctl-* || :") == ""
        )


def test_a_key_is_in_a_file_of_its_owner_alone(ready: "BoxBench") -> None:
    launch = ready.served_launch()
    key = server_key("secret-of-the-box", ready.server.name, launch)
    path = f".local/share/fleetctl/servers/{ready.server.name}/key"
    assert ready.there(f"stat -c %a {path}; cat {path}").split() == ["600", f"VLLM_API_KEY={key}"]
    assert key in ready.there(f"cat /proc/{ready.unit().pid}/environ")
    assert key not in ready.seen_by_others()
