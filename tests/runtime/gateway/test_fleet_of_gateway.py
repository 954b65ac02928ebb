"""A gateway on another machine serves one fleet, and refuses the tables of another."""

import asyncio
from pathlib import Path

import pytest

from fleet.errors import EngineRejectedError
from fleet.spec import GatewaySpec
from runtime.files import make_private
from runtime.gateway.admin.state_dir import SECRET_FILE, operator_secret
from runtime.gateway.control.client import connect
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.process import serving
from tests.ports import free_port
from tests.runtime.gateway.stage import table

SERVERS = {"s1": "http://127.0.0.1:9"}


def test_a_gateway_serves_the_fleet_whose_table_came_first_and_names_both_to_another(
    tmp_path: Path,
) -> None:
    remote = GatewaySpec("main", "127.0.0.1:0", f"http://127.0.0.1:{free_port()}")
    state, there = tmp_path / ".fleetctl", tmp_path / "there"
    ours, theirs = "0123456789ab", "ba9876543210"

    async def scenario() -> None:
        there.mkdir(mode=0o700)
        make_private(state)
        (there / SECRET_FILE).write_text(operator_secret(state, remote))
        (there / SECRET_FILE).chmod(0o600)
        named = LocalGateways(state, {"main": remote}, fleet_id=ours)
        other = LocalGateways(tmp_path / ".fleetctl", {"main": remote}, fleet_id=theirs)
        for revision in (1, 2):  # also after a restart of the gateway
            async with serving(there, remote):
                assert await named.publish(table(SERVERS, revision=2 * revision)) == ()
                with pytest.raises(EngineRejectedError, match=f"of id {ours}.* of id {theirs}"):
                    await other.publish(table(SERVERS, revision=2 * revision + 1))
                _, notes = await other.read_table()
                assert [note.gateway for note in notes] == ["main"]
                assert ours in notes[0].what
                nameless = LocalGateways(state, {"main": remote})  # a rollback without a ledger
                assert (await nameless.read_table())[0].revision == 2 * revision + 1
                await nameless.close()
                client = connect(there, remote, fleet_id=ours)
                assert (await client.config()).revision == 2 * revision
                await client.close()
        await named.close()
        await other.close()

    asyncio.run(scenario())
