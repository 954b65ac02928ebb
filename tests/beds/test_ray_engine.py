"""The engine `ray` on a real cluster: the conformance suite, two of its tests in other words."""

import socket
from typing import TYPE_CHECKING

import pytest

from fleet.environment import server_key
from fleet.names import adapter_address
from runtime.engines.protocol import Engine
from tests.runtime.engines.test_conformance import *  # noqa: F403 (every test of the suite)
from tests.runtime.engines.test_conformance import TestConformance as WordedConformance

if TYPE_CHECKING:
    from tests.beds.ray_bench import RayBench

pytestmark = [pytest.mark.ray, pytest.mark.long]


@pytest.fixture
def shared_bench(ray_bench: "RayBench") -> "RayBench":
    """One server for the whole file; what a test stops, the next one starts."""
    return ray_bench


def test_a_killed_server_is_absent_and_comes_back_empty_as_another_process(  # type: ignore[no-redef]
    ready: "RayBench",
) -> None:
    name, folder = ready.adapter("acme")
    server, hold = ready.server.name, ready.python.with_name("hold")

    async def use(engine: Engine) -> None:
        await engine.load(server, name, folder)
        before = await engine.observe()
        hold.touch()
        ready.kill()
        seen = await engine.observe()
        while seen.unknown_servers:  # until Ray has noticed
            seen = await engine.observe()
        assert (seen.resources, seen.unknown_servers) == ({}, {})
        (note,) = seen.notes
        assert note.startswith(f"Server {server} is still starting")
        hold.unlink()
        await engine.start(ready.server)
        seen = await engine.observe()
        assert (set(seen.servers()), seen.adapters()) == ({server}, {})
        assert seen.boots != before.boots
        assert seen.launches == before.launches
        assert set(seen.resolvable) == {adapter_address(name, server)}
        assert (await engine.complete(server, name, "Hello", 4)).model == name
        assert set((await engine.observe()).adapters()) == {adapter_address(name, server)}

    ready.run(use)


class TestConformance(WordedConformance):  # type: ignore[no-redef]
    def test_a_stopped_server_is_absent_and_stopping_again_is_fine(  # type: ignore[override]
        self,
        ready: "RayBench",
    ) -> None:
        async def use(engine: Engine) -> None:
            await engine.stop(ready.server.name)
            await engine.stop(ready.server.name)
            await engine.unload(ready.server.name, "acme-test-tiny-v1.0.0")
            seen = await engine.observe()
            assert (seen.resources, seen.unknown_servers) == ({}, {})
            assert (seen.ended, seen.notes) == ({}, ())

        ready.run(use)
        assert ready.server_pids() == []
        with socket.socket() as probe:
            assert probe.connect_ex((ready.host.address, ready.server.port)) != 0


def test_a_key_is_in_a_file_of_its_owner_alone(ready: "RayBench") -> None:
    key = server_key(ready.secret, ready.server.name, ready.served_launch())
    path = ready.records.folder / ready.server.name / "key"
    assert path.read_text(encoding="utf-8") == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert key not in ready.seen_by_others()
