"""The admin side's socket: taken from no other process, found where earlier versions bound it."""

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import FleetError
from runtime.gateway import admin_socket
from runtime.gateway.admin_socket import find_socket, socket_path
from runtime.gateway.control import LocalGateways
from runtime.gateway.process import serving
from tests.ports import free_port
from tests.runtime.gateway.stage import MAIN, table

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
        dead.bind(str(path))
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
            other = await asyncio.start_unix_server(lambda *_: None, path)
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


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_gateway_of_an_earlier_version_is_found_in_a_private_folder_alone(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    earlier, now = tmp_path_factory.mktemp("earlier"), tmp_path_factory.mktemp("now")
    monkeypatch.setattr(admin_socket, "_EARLIER_FOLDER", earlier)
    monkeypatch.setattr(admin_socket, "_run_folder", lambda: now)
    state = tmp_path_factory.mktemp("project") / ("long" * 30) / ".fleetctl"
    path = socket_path(state, MAIN)
    received: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(1))
        writer.close()

    async def scenario() -> None:
        earlier.chmod(mode)
        server = await asyncio.start_unix_server(listen, earlier / path.name)
        gateways = LocalGateways(state, {"main": MAIN})
        await gateways.publish_and_report(ROUTES)
        await gateways.close()
        server.close()

    asyncio.run(scenario())
    is_private = mode == 0o700
    assert received == ([b"P"] if is_private else [])
    path.touch()
    assert find_socket(state, MAIN) == path  # a gateway of this version has bound it
