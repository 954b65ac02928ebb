"""The doors that the operator's secret opens, and that no other secret does."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from fleet.errors import EngineRejectedError, FleetError
from fleet.spec import GatewaySpec
from runtime.gateway.admin.state_dir import SECRET_FILE, operator_secret
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.process import serving
from tests.ports import free_port
from tests.runtime.gateway.admin_side import admin_of, ask_admin, metrics_of
from tests.runtime.gateway.stage import (
    ACME,
    MAIN,
    NEW,
    OLD,
    OTHERS,
    Stage,
    chat,
    stage,
    table,
)

pytestmark = pytest.mark.usefixtures("serving_loop")


def secret_of(ours: Stage) -> str:
    return (ours.state / SECRET_FILE).read_text(encoding="utf-8").strip()


@pytest.mark.parametrize(
    ("headers", "purpose", "version"),
    [
        ({}, "eval", OLD),
        ({"X-Fleetctl-Purpose": "smoke"}, "smoke", OLD),
        ({"X-Fleetctl-Purpose": "live"}, "eval", OLD),  # what clients do is not the operator's
        ({"X-Fleetctl-Version": "2.2.0"}, "eval", NEW),  # without traffic, and to be had
        ({"X-Fleetctl-Version": NEW}, "eval", NEW),
    ],
)
def test_the_operator_calls_any_alias_and_any_version(
    tmp_path: Path, headers: dict[str, str], purpose: str, version: str
) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            secret = secret_of(ours)
            reply = await ours.send(chat(), secret=secret, headers=headers)
            assert (reply.status, reply.version) == (200, version)
            other = await ours.send(chat("globex-dates"), secret=secret)
            assert (other.status, other.version) == (200, OTHERS)
            rows = [(row["client"], row["version"], row["purpose"]) for row in ours.rows()]
            assert rows == [("acme", version, purpose), ("globex", OTHERS, "eval")]
            metrics = await metrics_of(ours.state)
            assert "fleetctl_requests_total{" not in metrics  # no client has asked anything

    asyncio.run(scenario())


def test_no_client_says_what_its_request_is_for_or_which_version_answers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            headers = {"X-Fleetctl-Purpose": "shadow", "X-Fleetctl-Version": "2.2.0"}
            reply = await ours.send(chat(), headers=headers)
            assert reply.version == OLD
            assert [row["purpose"] for row in ours.rows()] == ["live"]
            wrong = await ours.send(chat(), secret=f"{secret_of(ours)}x", headers=headers)
            assert wrong.status == 401

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["acme-nothing", OLD, "", "acme"])
def test_what_is_not_there_is_not_there_for_the_operator_either(tmp_path: Path, name: str) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            secret = secret_of(ours)
            assert (await ours.send(chat(name), secret=secret)).status == 404
            gone = {"X-Fleetctl-Version": "9.9.9"}
            assert (await ours.send(chat(), secret=secret, headers=gone)).status == 404
            assert ours.asked == []

    asyncio.run(scenario())


Play = Callable[[str, LocalGateways, aiohttp.ClientSession], Awaitable[None]]


def over_tcp(state: Path, play: Play, secret: str = "") -> None:
    """Run a gateway whose admin side is reached over TCP."""
    gateway = GatewaySpec("main", "127.0.0.1:0", f"http://127.0.0.1:{free_port()}", secret)

    async def scenario() -> None:
        async with serving(state, gateway), aiohttp.ClientSession() as http:
            gateways = LocalGateways(state, {"main": gateway})
            try:
                await play(gateway.admin, gateways, http)
            finally:
                await gateways.close()

    asyncio.run(scenario())


def test_an_admin_side_over_tcp_is_opened_by_the_secret_alone(tmp_path: Path) -> None:
    state = tmp_path / ".fleetctl"

    async def play(admin: str, gateways: LocalGateways, http: aiohttp.ClientSession) -> None:
        given = table({"s1": "http://127.0.0.1:9"})
        assert await gateways.publish(given) == ()
        assert (await gateways.statuses())[0].revision == 1
        newer = given.model_copy(update={"revision": 2}).model_dump(mode="json")
        for headers in ({}, {"Authorization": f"Bearer {ACME}"}, {"Authorization": "Bearer "}):
            for path in ("config", "table", "inflight", "shares"):
                async with http.get(f"{admin}/-/{path}", headers=headers) as reply:
                    assert (path, reply.status) == (path, 401)
                    assert ACME not in await reply.text()
            async with http.put(f"{admin}/-/config", json=newer, headers=headers) as reply:
                assert reply.status == 401
            async with http.get(f"{admin}/metrics", headers=headers) as reply:
                assert reply.status == 401
        for path in ("healthz", "readyz"):  # for whoever looks after processes
            async with http.get(f"{admin}/-/{path}") as reply:
                assert reply.status == 200
        assert (await gateways.statuses())[0].revision == 1
        assert (state / SECRET_FILE).stat().st_mode & 0o777 == 0o600

    over_tcp(state, play)


def test_another_state_folders_secret_opens_nothing(tmp_path: Path) -> None:
    async def play(admin: str, _: LocalGateways, __: aiohttp.ClientSession) -> None:
        stranger = LocalGateways(tmp_path / "other", {"main": GatewaySpec("main", "x:1", admin)})
        with pytest.raises(EngineRejectedError, match="operator's secret"):
            await stranger.publish(table({"s1": "http://127.0.0.1:9"}))
        await stranger.close()

    over_tcp(tmp_path / ".fleetctl", play)


def test_a_declared_secret_is_read_where_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ops.key").write_text("from-a-file\n", encoding="utf-8")
    monkeypatch.setenv("OPS", "from-the-environment")
    for reference, text in (("file:ops.key", "from-a-file"), ("env:OPS", "from-the-environment")):
        gateway = GatewaySpec("main", "x:1", "", reference)
        assert operator_secret(tmp_path / ".fleetctl", gateway) == text
    (tmp_path / "empty.key").write_text("\n", encoding="utf-8")
    for wrong in ("file:nothing", "file:empty.key", "env:NOTHING"):
        with pytest.raises(FleetError) as caught:
            operator_secret(tmp_path / ".fleetctl", GatewaySpec("main", "x:1", "", wrong))
        assert caught.value.diagnostics[0].code == "FC6015"
    own = tmp_path / ".fleetctl"
    own.mkdir()
    made = {operator_secret(own, GatewaySpec("main", "x:1", "")) for _ in range(3)}
    assert len(made) == 1
    assert [each.name for each in own.iterdir()] == [SECRET_FILE]  # nothing half-made stays
    (own / SECRET_FILE).write_text("", encoding="utf-8")
    with pytest.raises(FleetError):
        operator_secret(own, GatewaySpec("main", "x:1", ""))
    (own / SECRET_FILE).unlink()

    async def play(_: str, gateways: LocalGateways, __: aiohttp.ClientSession) -> None:
        assert await gateways.publish(table({"s1": "http://127.0.0.1:9"})) == ()

    over_tcp(tmp_path / ".fleetctl", play, "env:OPS")
    assert not (tmp_path / ".fleetctl" / SECRET_FILE).exists()


def test_a_gateway_is_ready_once_it_has_a_table(tmp_path: Path) -> None:
    async def scenario() -> None:
        state = tmp_path / ".fleetctl"
        async with (
            serving(state, MAIN) as url,
            aiohttp.ClientSession() as http,
            admin_of(state) as admin,
        ):
            gateways = LocalGateways(state, {"main": MAIN})
            with pytest.raises(EngineRejectedError):
                await admin.get("/-/readyz")
            async with http.get(f"{url}/readyz") as reply:
                assert (reply.status, (await reply.json())["error"]["code"]) == (503, "unready")
            await gateways.publish(table({"s1": "http://127.0.0.1:9"}))
            assert await admin.get("/-/readyz") == {"ready": True}
            async with http.get(f"{url}/readyz") as reply:
                assert reply.status == 200
            await gateways.close()

    asyncio.run(scenario())


def test_the_split_is_shown_beside_its_target_since_it_last_changed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=50) as ours:
            counts = Counter([(await ours.send(chat(user=f"u{n}"))).version for n in range(30)])
            shares = (await ask_admin(ours.state, "/-/shares"))["shares"]
            assert [
                (share["adapter"], share["percent"], share["requests"]) for share in shares
            ] == [
                (NEW, 50, counts[NEW]),
                (OLD, 50, counts[OLD]),
            ]
            await ours.gateways.publish(table(ours.servers, new=50, revision=2))
            again = (await ask_admin(ours.state, "/-/shares"))["shares"]
            assert again == shares  # the same split goes on
            await ours.gateways.publish(table(ours.servers, new=100, revision=3))
            await ours.send(chat())
            shares = (await ask_admin(ours.state, "/-/shares"))["shares"]
            assert [(share["percent"], share["requests"]) for share in shares] == [(100, 1), (0, 0)]
            (sight,) = await ours.gateways.statuses()
            assert [(share.adapter, share.requests) for share in sight.shares] == [
                (NEW, 1),
                (OLD, 0),
            ]
            metrics = await metrics_of(ours.state)
            labels = f'alias="acme-support",adapter="{NEW}"'
            assert f"fleetctl_target_percent{{{labels}}} 100" in metrics
            assert f"fleetctl_split_requests{{{labels}}} 1" in metrics
            assert 'fleetctl_server_up{server="s1"} 1' in metrics

    asyncio.run(scenario())
