"""Publishing tables: compare-and-swap in the file, acknowledgement by every gateway."""

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import (
    EngineError,
    EngineRejectedError,
    EngineUnreachableError,
    FleetError,
    LockHeldError,
    StalePlanError,
)
from fleet.spec import GatewaySpec
from fleetctl.catalogue import entries
from runtime.gateway.admin import admin_socket, state_dir
from runtime.gateway.admin.state_dir import read_table, write_table
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.process import serving
from runtime.gateway.table.table import RoutingTable
from tests.ports import free_port
from tests.runtime.gateway.admin_side import admin_of
from tests.runtime.gateway.stage import (
    ACME,
    MAIN,
    NEW,
    OLD,
    OTHERS,
    alias,
    chat,
    raw_server,
    stage,
    table,
)

SERVERS = {"s1": "http://127.0.0.1:9"}


def test_a_published_table_is_in_the_file_and_in_the_gateway(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            wanted = table(ours.servers, new=10, revision=7)
            assert await ours.gateways.publish(wanted) == ()
            assert read_table(ours.state) == wanted
            assert await ours.gateways.read_table() == (wanted, ())
            async with admin_of(ours.state) as client:
                shown = await client.get("/-/config")
                assert (shown["revision"], shown["digest"]) == (7, wanted.digest)
                assert RoutingTable.model_validate(await client.get("/-/table")) == wanted

    asyncio.run(scenario())


def test_only_the_owner_can_read_the_table_and_reach_the_admin_side(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            for path in (
                ours.state / "routes.json",
                admin_socket.socket_path(ours.state, MAIN),
                ours.state / "gateways/main/usage.jsonl",
                ours.state / "gateways/main/run.lock",
            ):
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
            assert ACME not in (ours.state / "routes.json").read_text(encoding="utf-8")

    asyncio.run(scenario())


REFUSED = {
    "older": (409, table(SERVERS, revision=4)),
    "other under the same revision": (409, table(SERVERS, revision=5, new=50)),
    "astray": (
        400,
        RoutingTable(revision=9, aliases={"acme-support": alias("acme", (OTHERS, 100, ()))}),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_gateway_refuses_a_table_and_keeps_the_old_one(tmp_path: Path, case: str) -> None:
    status, refused = REFUSED[case]

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            kept = table(ours.servers, revision=5)
            await ours.gateways.publish(kept)
            async with admin_of(ours.state) as client:
                with pytest.raises(EngineRejectedError) as caught:
                    await client.put("/-/config", refused.model_dump(mode="json"))
                assert caught.value.status == status
                wrong: list[Any] = [{}, {"revision": "x"}, {"revision": 6, "more": 1}, []]
                for document in wrong:
                    with pytest.raises(EngineRejectedError) as caught:
                        await client.put("/-/config", document)
                    assert caught.value.status == 400
                assert (await client.get("/-/config"))["digest"] == kept.digest
                again = await client.put("/-/config", kept.model_dump(mode="json"))
                assert again["revision"] == 5
            assert (await ours.send(chat())).version == OLD

    asyncio.run(scenario())


def test_a_writer_that_comes_late_changes_nothing(tmp_path: Path) -> None:
    write_table(tmp_path, table(SERVERS, revision=5, token=3))
    before = (tmp_path / "routes.json").read_bytes()
    for late, error in (
        (table(SERVERS, revision=5, token=3, new=10), StalePlanError),
        (table(SERVERS, revision=4, token=3), StalePlanError),
        (table(SERVERS, revision=6, token=2), LockHeldError),
        (table(SERVERS, revision=6, token=0), LockHeldError),
    ):
        with pytest.raises(error):
            write_table(tmp_path, late)
        assert (tmp_path / "routes.json").read_bytes() == before
    write_table(tmp_path, table(SERVERS, revision=5, token=3))
    assert (tmp_path / "routes.json").read_bytes() == before
    write_table(tmp_path, table(SERVERS, revision=6, token=3))
    assert read_table(tmp_path) == table(SERVERS, revision=6, token=3)
    names = ["routes.json", "routes.lock", "routes.previous.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_a_table_that_no_gateway_would_serve_is_not_written(tmp_path: Path) -> None:
    astray = REFUSED["astray"][1]
    with pytest.raises(EngineRejectedError, match="of another client"):
        asyncio.run(LocalGateways(tmp_path).publish(astray))
    assert read_table(tmp_path) is None


def test_of_two_writers_of_one_revision_one_wins(tmp_path: Path) -> None:
    async def scenario() -> None:
        results = await asyncio.gather(
            *(
                LocalGateways(tmp_path).publish(table(SERVERS, revision=1, new=new))
                for new in range(8)
            ),
            return_exceptions=True,
        )
        assert sum(isinstance(result, StalePlanError) for result in results) == 7

    asyncio.run(scenario())


def test_a_gateway_that_does_not_run_is_a_note_and_reads_the_file_later(tmp_path: Path) -> None:
    state = tmp_path / ".fleetctl"

    async def scenario() -> None:
        gateways = LocalGateways(state, {"main": MAIN})
        (note,) = await gateways.publish(table(SERVERS, revision=3))
        assert "main is not running" in str(note)
        assert await gateways.in_flight("s1", OLD) == 0
        async with serving(state, MAIN):
            assert await gateways.read_table() == (table(SERVERS, revision=3), ())
        await gateways.close()

    asyncio.run(scenario())


def test_a_gateway_that_holds_more_than_the_file_is_believed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            await ours.gateways.publish(table(ours.servers, revision=9))
            for damage in (None, "{", '{"revision": "x"}'):
                (ours.state / "routes.json").unlink(missing_ok=True)
                if damage is not None:
                    (ours.state / "routes.json").write_text(damage, encoding="utf-8")
                found, notes = await ours.gateways.read_table()
                assert found == table(ours.servers, revision=9)
                assert any("newer table than the file" in note for note in map(str, notes))

    asyncio.run(scenario())


def test_a_damaged_file_and_no_gateway_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "routes.json").write_text("{", encoding="utf-8")
    with pytest.raises(EngineError, match="damaged"):
        asyncio.run(LocalGateways(tmp_path).read_table())


def test_a_gateway_that_lags_behind_is_noted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            write_table(ours.state, table(ours.servers, revision=4))
            found, (note,) = await ours.gateways.read_table()
            assert found.revision == 4
            assert "main lags behind" in str(note)

    asyncio.run(scenario())


def test_a_gateway_that_refuses_fails_the_publication_after_the_others_have_it(
    tmp_path: Path,
) -> None:
    state = tmp_path / ".fleetctl"
    second = GatewaySpec("second", "127.0.0.1:0", "")

    async def scenario() -> None:
        async with stage(state) as ours, serving(state, second):
            both = LocalGateways(state, {"main": MAIN, "second": second})
            assert await both.publish(table(ours.servers, revision=2)) == ()
            alone = admin_of(state)
            ahead = table(ours.servers, revision=8, new=10)
            await alone.put("/-/config", ahead.model_dump(mode="json"))
            with pytest.raises(EngineRejectedError, match="older than 8"):
                await both.publish(table(ours.servers, revision=3, new=100))
            revisions = {status.name: status.revision for status in await both.statuses()}
            assert revisions == {"main": 8, "second": 3}
            done = await both.publish_and_report(table(ours.servers, revision=9))
            assert (done.acknowledged, done.absent, done.failures) == (("main", "second"), (), ())
            await alone.close()
            await both.close()

    asyncio.run(scenario())


def test_a_state_folder_remembers_its_gateways(tmp_path: Path) -> None:
    assert LocalGateways(tmp_path).names == ("main",)
    declared = {
        "east": GatewaySpec("east", "127.0.0.1:1", ""),
        "west": GatewaySpec("west", "h:2", ""),
    }
    asyncio.run(LocalGateways(tmp_path, declared).publish(table(SERVERS)))
    assert state_dir.known_gateways(tmp_path) == declared
    (tmp_path / "gateways/east/gateway.json").write_text("{", encoding="utf-8")
    assert LocalGateways(tmp_path).names == ("west",)


def test_an_admin_side_over_tcp_acknowledges_and_is_missed_when_it_is_down(
    tmp_path: Path,
) -> None:
    remote = GatewaySpec("main", "127.0.0.1:0", f"http://127.0.0.1:{free_port()}")
    state = tmp_path / ".fleetctl"

    async def scenario() -> None:
        gateways = LocalGateways(state, {"main": remote})
        async with serving(state, remote):
            done = await gateways.publish_and_report(table(SERVERS))
            assert done.acknowledged == ("main",)
        with pytest.raises(EngineUnreachableError):  # nothing proves that it does not run
            await gateways.publish(table(SERVERS, revision=2))
        with pytest.raises(EngineUnreachableError):
            await gateways.in_flight("s1", OLD)
        assert read_table(state) == table(SERVERS, revision=2)
        await gateways.close()

    asyncio.run(scenario())


def test_a_gateway_that_says_that_it_serves_another_table_has_not_acknowledged(
    tmp_path: Path,
) -> None:
    shown = json.dumps({"revision": 6, "digest": "5f3a" * 16})
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(shown)}\r\n"

    async def scenario() -> None:
        async with raw_server(f"{head}\r\n{shown}".encode(), waits=True) as (url, _):
            remote = GatewaySpec("main", "127.0.0.1:0", url)
            gateways = LocalGateways(tmp_path / ".fleetctl", {"main": remote})
            done = await gateways.publish_and_report(table(SERVERS, revision=7))
            (told,) = done.failures[0][1].diagnostics
            assert (told.code, told.detail) == ("FC6005", entries()["FC6005"].example)
            await gateways.close()

    asyncio.run(scenario())


def test_a_declared_socket_path_counts_from_the_project(tmp_path: Path) -> None:
    named = GatewaySpec("main", "127.0.0.1:0", "run/admin.sock")
    assert admin_socket.socket_path(tmp_path / ".fleetctl", named) == tmp_path / "run/admin.sock"


def test_a_second_gateway_of_one_name_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=100) as ours:
            with pytest.raises(FleetError, match="runs already"):
                async with serving(ours.state, MAIN):
                    raise AssertionError("it must not start")
            assert (await ours.send(chat())).version == NEW  # the first one goes on

    asyncio.run(scenario())


def test_a_line_that_a_power_failure_cut_is_removed_from_the_usage_log(tmp_path: Path) -> None:
    log = tmp_path / ".fleetctl/gateways/main/usage.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('{"status": 200}\n{"stat', encoding="utf-8")

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            await ours.send(chat())
            assert [row["status"] for row in ours.rows()] == [200, 200]

    asyncio.run(scenario())
    assert len(json.loads(log.read_text(encoding="utf-8").splitlines()[1])) > 1
