"""The admin side's socket: its file comes back where it was deleted, and is taken from nobody."""

import asyncio
import shutil
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.spec import GatewaySpec
from runtime.gateway import adminsocket, places, processes
from runtime.gateway.control import LocalGateways
from runtime.gateway.serving import serving
from tests.ports import free_port
from tests.runtime.gateway.stage import MAIN, table

ROUTES = table({"s1": "http://127.0.0.1:9"})
LATER = table({"s1": "http://127.0.0.1:9"}, new=100, revision=2)


@pytest.mark.parametrize("admin", ["", "run/admin.sock"])
def test_a_process_whose_socket_was_deleted_acknowledges_within_seconds(
    tmp_path: Path, admin: str
) -> None:
    state = tmp_path / ".fleetctl"
    gateway = GatewaySpec("main", f"127.0.0.1:{free_port()}", admin)
    path = places.socket_path(state, gateway)

    async def scenario() -> None:
        gateways = LocalGateways(state, {"main": gateway})
        await gateways.publish(ROUTES)
        await asyncio.to_thread(processes.start, state, gateway)
        try:
            assert await gateways.publish(LATER) == ()
            path.unlink()
            if admin:
                shutil.rmtree(path.parent)
            others = LocalGateways(state, {"main": gateway})
            done = await others.publish_and_report(ROUTES.model_copy(update={"revision": 3}))
            assert (done.acknowledged, done.absent, done.failures) == (("main",), (), ())
            assert path.stat().st_mode & 0o777 == 0o600
            assert path.parent.stat().st_mode & 0o777 == 0o700
            await others.close()
        finally:
            await asyncio.to_thread(processes.stop, state, "main")
        assert not path.exists()
        assert "is there again" in (state / "gateways/main/log").read_text(encoding="utf-8")
        await gateways.close()

    asyncio.run(scenario())


def test_a_socket_on_which_another_gateway_listens_is_not_taken(tmp_path: Path) -> None:
    both = replace(MAIN, admin="admin.sock")
    state, path = tmp_path / ".fleetctl", places.socket_path(tmp_path / ".fleetctl", both)

    async def scenario() -> None:
        async with serving(state, both):
            before = path.stat().st_ino
            with pytest.raises(FleetError, match="another process listens there"):
                async with serving(state, replace(both, name="second")):
                    pass
            assert path.stat().st_ino == before

    asyncio.run(scenario())


def test_one_that_came_after_the_file_was_deleted_keeps_it_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(adminsocket, "LOOK_S", 0.001)
    state, path = tmp_path, places.socket_path(tmp_path, MAIN)

    async def told(text: str) -> None:
        said = ""
        async with asyncio.timeout(60):
            while text not in said:
                said += capsys.readouterr().err
                await asyncio.sleep(0)

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(serving(state, MAIN))
            path.unlink()
            other = await asyncio.start_unix_server(lambda *_: None, path)
            theirs = path.stat().st_ino
            await told("another process listens there")
            assert path.stat().st_ino == theirs
            other.close()
            if not path.exists():  # later versions of Python remove it
                path.touch()
                await told("no socket")
                path.unlink()
            await told("is there again")
            gateways = LocalGateways(state, {"main": MAIN})
            assert await gateways.publish(ROUTES) == ()
            await gateways.close()
            assert url

    asyncio.run(scenario())


def test_a_gateway_whose_folder_was_deleted_makes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adminsocket, "LOOK_S", 0.0)

    async def scenario() -> None:
        async with serving(tmp_path / ".fleetctl", MAIN):
            shutil.rmtree(tmp_path / ".fleetctl")
            for _ in range(100):
                await asyncio.sleep(0)

    asyncio.run(scenario())
    assert list(tmp_path.iterdir()) == []
