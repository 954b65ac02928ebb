"""The launch that a routing table names answers its requests; no other launch gets any."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import EngineRejectedError
from fleet.names import RESOLVER_STAMP, Stamps, launch_stamp
from runtime.gateway.admin.state_dir import read_table
from runtime.gateway.request.state import GatewayState
from runtime.gateway.table.table import RoutingTable
from runtime.gateway.table.table_loader import build_routes
from runtime.gateway.traffic import probes
from runtime.observe import lost
from runtime.usage.log import UsageLog
from tests.runtime.gateway.stage import NEW, OLD, OTHERS, Replica, Stage, chat, long, stage, table

FIRST, SECOND = "1" * 12, "2" * 12


def be(replica: Replica, launch: str, *more: str) -> None:
    """Let a server show a launch from now on, as a process that was started anew would."""
    names = ("tiny", *((launch_stamp(launch),) if launch else ()), *more)
    replica.memory.config = replace(replica.memory.config, served_model_names=names)


def routed(ours: Stage, revision: int, **launches: str) -> RoutingTable:
    return table(ours.servers, revision=revision).model_copy(update={"launches": launches})


@asynccontextmanager
async def launched(state: Path, servers: int = 1) -> AsyncIterator[Stage]:
    """Run servers `s1`, `s2`, … of launch FIRST, which the table names."""
    async with stage(state, servers=servers) as ours:
        for replica in ours.replicas.values():
            be(replica, FIRST)
        await ours.publish(routed(ours, 2, **dict.fromkeys(ours.replicas, FIRST)))
        yield ours


async def shown(ours: Stage, server: str = "s1") -> str:
    (status,) = await ours.gateways.statuses()
    return dict(status.servers)[server]


async def until_shown(ours: Stage, health: str, server: str = "s1") -> None:
    async with asyncio.timeout(60):
        while await shown(ours, server) != health:  # noqa: ASYNC110 (over HTTP)
            await asyncio.sleep(0.05)


def play(scenario: Callable[[], object]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def test_the_launch_of_the_table_answers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launched(tmp_path) as ours:
            assert [(await ours.send(chat())).status for _ in range(3)] == [200] * 3
            assert await shown(ours) == "up"

    play(scenario)


def test_a_clients_models_show_the_context_that_their_servers_have(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launched(tmp_path, servers=2) as ours:
            memory = ours.replicas["s2"].memory
            memory.config = replace(memory.config, max_model_len=1000)
            before = await ours.send(path="/v1/models", method="GET")
            assert "max_model_len" not in before.json["data"][0]
            assert [(await ours.send(chat())).status for _ in range(2)] == [200] * 2
            for path in ("/v1/models", "/v1/models/acme-support"):
                found = (await ours.send(path=path, method="GET")).json
                assert found.get("data", [found])[0]["max_model_len"] == 1000
            await ours.publish(table({"s1": ours.servers["s1"]}, revision=3))
            left = await ours.send(path="/v1/models/acme-support", method="GET")
            assert left.json["max_model_len"] == 4096

    play(scenario)


@pytest.mark.parametrize("other", [SECOND, ""])
def test_another_launch_gets_no_request_and_is_shown(tmp_path: Path, other: str) -> None:
    async def scenario() -> None:
        async with launched(tmp_path) as ours:
            be(ours.replicas["s1"], other)
            assert (await ours.send(chat())).status == 503
            assert ours.asked == []
            assert await shown(ours) == "stale"
            be(ours.replicas["s1"], FIRST)
            await until_shown(ours, "up")
            assert (await ours.send(chat())).status == 200

    play(scenario)


def test_requests_go_to_the_server_with_the_right_launch(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launched(tmp_path, servers=2) as ours:
            be(ours.replicas["s1"], SECOND)
            replies = await asyncio.gather(*(ours.send(chat()) for _ in range(20)))
            assert {reply.status for reply in replies} == {200}
            assert ours.replicas["s1"].bodies == []
            assert len(ours.replicas["s2"].bodies) == 20

    play(scenario)


def test_a_process_that_takes_the_place_of_another_is_asked_before_its_first_request(
    tmp_path: Path,
) -> None:
    """The gateway has had a connection, loses it, and meets the next process on the port."""

    async def scenario() -> None:
        async with launched(tmp_path) as ours:
            assert (await ours.send(chat())).status == 200
            replica = ours.replicas["s1"]
            be(replica, SECOND)
            assert replica.server is not None
            for connection in [*replica.server.server_state.connections]:
                connection.transport.abort()
            asked = len(ours.asked)
            # The gateway may not have noticed yet; then its request meets a dead connection.
            assert (await ours.send(chat())).status in {502, 503}
            assert (await ours.send(chat())).status == 503
            assert len(ours.asked) == asked
            be(replica, FIRST)
            await until_shown(ours, "up")
            assert (await ours.send(chat())).status == 200

    play(scenario)


def test_live_connections_are_not_asked_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launched(tmp_path) as ours:
            assert (await ours.send(chat())).status == 200
            for _ in range(1000):
                ours.replicas["s1"].memory.faults.refuse("models")
            assert {(await ours.send(chat())).status for _ in range(20)} == {200}

    play(scenario)


def test_a_table_with_another_launch_leaves_the_connections_of_the_one_before(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with launched(tmp_path) as ours:
            assert (await ours.send(chat())).status == 200
            await ours.publish(routed(ours, 3, s1=SECOND))
            assert (await ours.send(chat())).status == 503  # it is still the first that answers
            be(ours.replicas["s1"], SECOND)
            assert (await ours.send(chat())).status == 200

    play(scenario)


def test_an_answer_that_runs_ends_with_the_launch_that_began_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launched(tmp_path) as ours:
            ours.replicas["s1"].pace(0.01)
            running = asyncio.create_task(ours.send(long(40)))
            async with asyncio.timeout(60):
                while not ours.asked:  # noqa: ASYNC110 (over HTTP)
                    await asyncio.sleep(0.01)
            await ours.publish(routed(ours, 3, s1=SECOND))
            assert (await running).status == 200

    play(scenario)


def test_a_table_without_a_launch_asks_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launched(tmp_path) as ours:
            be(ours.replicas["s1"], SECOND)
            await ours.publish(table(ours.servers, revision=3))
            assert (await ours.send(chat())).status == 200
            await until_shown(ours, "up")

    play(scenario)


def test_a_server_that_lists_no_models_gets_no_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launched(tmp_path) as ours:
            for _ in range(9):
                ours.replicas["s1"].memory.faults.refuse("models")
            assert (await ours.send(chat())).status == 503
            assert ours.asked == []

    play(scenario)


def test_a_version_that_is_not_listed_goes_to_another_server(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launched(tmp_path, servers=2) as ours:
            first = ours.replicas["s1"]
            first.memory.listed.pop(OLD)
            await asyncio.gather(*(ours.send(chat()) for _ in range(4)))  # both are connected
            before = len(first.bodies)
            assert {(await ours.send(chat())).status for _ in range(10)} == {200}
            assert len(first.bodies) == before

    play(scenario)


@pytest.mark.parametrize("stamps", [(), (RESOLVER_STAMP,)])
def test_a_server_with_a_resolver_holds_what_it_does_not_list(
    tmp_path: Path, stamps: tuple[str, ...]
) -> None:
    async def scenario() -> None:
        with UsageLog(tmp_path / "usage.jsonl") as log:
            state = GatewayState(log)
            servers = {"s1": "http://h:1", "s2": "http://h:2"}
            named = table(servers).model_copy(update={"launches": {"s1": FIRST}})
            await state.active.apply(build_routes(named))
            names = Stamps.among([launch_stamp(FIRST), *stamps])
            listing = probes.ServerListing(names, frozenset({OTHERS}))
            assert state.record_listing(f"http://h:1#{FIRST}", listing)
            chosen = {state.balancer.choose(("s1", "s2"), OLD, (), 0.0) for _ in range(4)}
            assert chosen == ({"s1", "s2"} if stamps else {"s2"})
            again = probes.ServerListing(names, frozenset({OTHERS, OLD, NEW}))
            assert state.record_listing(f"http://h:1#{FIRST}", again)
            chosen = {state.balancer.choose(("s1", "s2"), OLD, (), 0.0) for _ in range(4)}
            assert chosen == {"s1", "s2"}

    play(scenario)


def test_a_rollback_counts_on_nothing_that_another_launch_holds(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launched(tmp_path) as ours:
            named, _ = await ours.gateways.read_table()
            shares = named.aliases["acme-support"].shares
            assert await lost(named, shares) == frozenset()
            be(ours.replicas["s1"], SECOND)
            assert await lost(named, shares) == {OLD, NEW}

    play(scenario)


def test_a_table_with_launches_is_of_format_2_and_without_of_format_1(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with launched(tmp_path) as ours:
            text = (tmp_path / "routes.json").read_text()
            assert '"format":2,"launches":{"s1":"111111111111"},"revision":2' in text
            held = read_table(tmp_path)
            assert held is not None
            assert held.launches == {"s1": FIRST}
            newest, notes = await ours.gateways.read_table()
            assert (newest.digest, notes) == (held.digest, ())
            await ours.publish(table(ours.servers, revision=3))
            text = (tmp_path / "routes.json").read_text()
            assert "format" not in text
            assert "launches" not in text

    play(scenario)


@pytest.mark.parametrize("launches", [{"s1": "not hex"}, {"s9": FIRST}, {"s1": ""}])
def test_a_launch_that_is_none_is_refused(tmp_path: Path, launches: dict[str, str]) -> None:
    async def scenario() -> None:
        async with launched(tmp_path) as ours:
            with pytest.raises(EngineRejectedError) as caught:
                await ours.gateways.publish(routed(ours, 3, **launches))
            assert caught.value.diagnostics[0].code == "FC6006"

    play(scenario)


def test_an_answer_that_is_no_list_of_models_shows_no_launch() -> None:
    for body in (b"", b"[]", b'{"data": [1]}', b'{"data": [{}]}', b"\xff"):
        assert probes.parse_listing(200, body) is None
    assert probes.parse_listing(503, b'{"data": []}') is None
    found = probes.parse_listing(200, b'{"data": [{"id": "tiny"}, {"id": "a", "parent": "tiny"}]}')
    assert found is not None
    assert (found.stamps.launch, found.adapters) == ("", frozenset({"a"}))
