"""The admin side's socket: taken from no other process, found where earlier versions bound it."""

import asyncio
import hashlib
import os
import shutil
import socket
import stat
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import EngineError, FleetError
from runtime.gateway.admin import admin_socket
from runtime.gateway.admin.admin_socket import reachable_path, short_path, socket_path
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.process import serving
from tests.ports import free_port
from tests.runtime.gateway.stage import MAIN, OLD, table

NAMED = replace(MAIN, admin="run/admin.sock")
ROUTES = table({"s1": "http://127.0.0.1:9"})


def test_a_socket_on_which_another_gateway_listens_is_not_taken(tmp_path: Path) -> None:
    both = replace(MAIN, admin="run/admin.sock")
    state, path = tmp_path / ".fleetctl", socket_path(tmp_path / ".fleetctl", both)

    async def scenario() -> None:
        async with serving(state, both):
            assert path.parent.stat().st_mode & 0o777 == 0o700
            before = path.stat().st_ino
            with pytest.raises(FleetError, match="another process listens there"):
                async with serving(state, replace(both, name="second")):
                    pass
            assert path.stat().st_ino == before

    asyncio.run(scenario())


def test_a_file_that_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    path = socket_path(tmp_path, MAIN)
    path.parent.mkdir(parents=True)
    path.touch()

    async def scenario() -> None:
        async with serving(tmp_path, MAIN):
            pass

    with pytest.raises(FleetError, match="a file that is no socket"):
        asyncio.run(scenario())
    assert path.is_file()


def test_the_socket_of_a_dead_process_is_bound_anew(tmp_path: Path) -> None:
    path = socket_path(tmp_path, MAIN)
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(short_path(path)))
        dead.listen()

    async def scenario() -> None:
        async with serving(tmp_path, MAIN):
            gateways = LocalGateways(tmp_path, {"main": MAIN})
            assert await gateways.publish(ROUTES) == ()
            await gateways.close()
            assert path.stat().st_mode & 0o777 == 0o600

    asyncio.run(scenario())
    assert [found.name for found in path.parent.glob("*.sock")] == []


def test_a_socket_that_another_process_has_bound_since_stays(tmp_path: Path) -> None:
    path = socket_path(tmp_path, MAIN)

    async def scenario() -> None:
        async with serving(tmp_path, MAIN):
            path.unlink()
            other = await asyncio.start_unix_server(lambda *_: None, short_path(path))
            theirs = path.stat().st_ino
        assert path.stat().st_ino == theirs
        other.close()

    asyncio.run(scenario())


def test_a_port_of_another_process_is_not_taken(tmp_path: Path) -> None:
    port = free_port()
    gateway = replace(MAIN, admin=f"http://127.0.0.1:{port}")

    async def scenario() -> None:
        other = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
        async with other:
            with pytest.raises(FleetError, match="cannot listen"):
                async with serving(tmp_path, gateway):
                    pass

    asyncio.run(scenario())


def test_a_socket_whose_path_is_too_long_for_the_kernel_lies_there_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = Path(tempfile.mkdtemp(dir="/tmp"))
    monkeypatch.setattr(admin_socket, "_LINKS", links / "fleetctl")
    deep = tmp_path / ("a" * 60) / ("b" * 60) / ".fleetctl"

    async def scenario() -> None:
        path = socket_path(deep, NAMED)
        assert len(os.fsencode(path)) > 103 >= len(os.fsencode(short_path(path)))
        async with serving(deep, NAMED):
            assert stat.S_ISSOCK(path.stat().st_mode)
            shutil.rmtree(links / "fleetctl")  # as a sweep of `/tmp` does
            gateways = LocalGateways(deep, {"main": NAMED})
            assert await gateways.publish(ROUTES) == ()
            assert stat.S_IMODE((links / "fleetctl").stat().st_mode) == 0o700
            await gateways.close()
        assert not path.exists()

    try:
        asyncio.run(scenario())
    finally:
        shutil.rmtree(links)


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_gateway_of_an_earlier_version_is_found_in_a_private_folder_alone(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    links = tmp_path_factory.mktemp("links")
    monkeypatch.setattr(admin_socket, "_LINKS", links)
    state = tmp_path_factory.mktemp("project") / ("long" * 30) / ".fleetctl"
    path = socket_path(state, NAMED)
    received: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(1))
        writer.close()

    async def scenario() -> None:
        links.chmod(mode)
        earlier = links / f"{hashlib.sha256(bytes(path)).hexdigest()[:16]}.sock"
        server = await asyncio.start_unix_server(listen, earlier)
        gateways = LocalGateways(state, {"main": NAMED})
        done = await gateways.publish_and_report(ROUTES)
        codes = [error.diagnostics[0].code for _, error in done.failures]
        if mode == 0o755:
            assert codes == ["FC6001"]
            with pytest.raises(EngineError, match="must be a folder of yours"):
                await gateways.in_flight("s1", OLD)
        await gateways.close()
        server.close()

    asyncio.run(scenario())
    assert received == ([b"P"] if mode == 0o700 else [])
    links.chmod(0o700)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert reachable_path(path) == short_path(path)  # a gateway of this version has bound it
    assert short_path(path).samefile(path)
