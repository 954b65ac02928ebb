"""Traffic through an Envoy: whose key it is, who is kept, how much may be asked, how long."""

import asyncio
from pathlib import Path

from fleet.traffic import LimitPolicy, Sticky, TimeoutPolicy, TrafficPolicy
from runtime.gateway.table.table import RoutingTable
from tests.runtime.gateway.envoy_stage import envoy_stage, healthy_server, needs_envoy
from tests.runtime.gateway.stage import ACME, CHAT, GLOBEX, NEW, OLD, chat, table

pytestmark = needs_envoy
Users = list[tuple[dict[str, str], dict[str, str]]]
SESSIONS: Users = [({}, {"X-Session-Id": f"s{number}"}) for number in range(30)]
NAMED: Users = [({"user": f"u{number}"}, {}) for number in range(30)]
"""Additions of users to the body and the headers."""


def governed(table: RoutingTable, policy: TrafficPolicy, revision: int) -> RoutingTable:
    """Return the table with a policy on the alias of acme."""
    entry = table.aliases["acme-support"].model_copy(update={"policy": policy})
    aliases = {**table.aliases, "acme-support": entry}
    return table.model_copy(update={"aliases": aliases, "revision": revision})


def test_what_keeps_a_user_on_one_version_is_declared(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path, new=50) as ours:
            made = table(ours.servers, new=50)
            kept = {}
            for revision, sticky in enumerate(Sticky, start=2):
                await ours.publish(governed(made, TrafficPolicy(sticky=sticky), revision))
                by_session, by_user = kept[sticky] = [
                    [
                        {(await ours.send(chat(**body), headers=head)).version for _ in "12"}
                        for body, head in users
                    ]
                    for users in (SESSIONS, NAMED)
                ]
                split = set().union(*by_user, *by_session)
                assert split == ({NEW, OLD} if sticky is not Sticky.KEY else split)
            constant = {
                sticky: [all(len(each) == 1 for each in how) for how in found]
                for sticky, found in kept.items()
            }
            assert constant == {
                Sticky.SESSION: [True, True],
                Sticky.USER: [False, True],
                Sticky.REQUEST: [False, False],
                Sticky.KEY: [True, True],
            }
            assert len(set().union(*kept[Sticky.KEY][0], *kept[Sticky.KEY][1])) == 1

    asyncio.run(scenario())


def test_requests_a_minute_are_limited_for_alias_and_client(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path) as ours:
            made = table(ours.servers)
            five = LimitPolicy(requests_per_minute=10)
            policy = TrafficPolicy(limits=five, gateways=2)  # each of two allows its half
            await ours.publish(governed(made, policy, 2))
            asked = [await ours.send(chat(stream=n % 2 == 0)) for n in range(8)]
            assert [each.status for each in asked] == [200] * 5 + [429] * 3
            assert asked[-1].headers["retry-after"] == "1"
            assert asked[-1].json["error"]["code"] == "rate_limit_exceeded"
            other = await ours.send(chat("globex-dates"), secret=GLOBEX)
            assert other.status == 200
            three = TrafficPolicy(client_limits=LimitPolicy(requests_per_minute=3))
            await ours.publish(governed(made, three, 3))
            asked = [await ours.send(chat()) for _ in range(5)]
            assert [each.status for each in asked] == [200] * 3 + [429] * 2

    asyncio.run(scenario())


def test_an_answer_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path) as ours, healthy_server(b"", waits=True) as (url, seen):
            for revision, timeouts in (
                (2, TimeoutPolicy(total_s=0.2)),
                (3, TimeoutPolicy(idle_s=0.2)),
            ):
                made = governed(table({"s1": url}), TrafficPolicy(timeouts=timeouts), revision)
                await ours.publish(made)
                late = await ours.send(chat())
                assert (late.status, late.json["error"]["code"]) == (504, "bad_gateway")
            assert len([each for each in seen if each != b"left"]) == 2  # asked once each time

    asyncio.run(scenario())


def test_a_key_may_be_shown_as_clients_of_messages_show_it_and_reaches_no_server(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with envoy_stage(tmp_path) as ours:
            shown = {"x-api-key": ACME}
            for path, status in ((CHAT, 200), ("/v1/messages", 200), ("/v1/models", 200)):
                body = None if path == "/v1/models" else chat(max_tokens=1)
                how = {"path": path, "method": "POST" if body else "GET"}
                reply = await ours.send(body, secret=None, headers=shown, **how)
                assert reply.status == status, path
            for refused in ({"x-api-key": "wrong"}, {"x-api-key": ""}, {}):
                assert (await ours.send(chat(), secret=None, headers=refused)).status == 401
            for both in ({"x-api-key": GLOBEX}, {"x-api-key": "wrong"}):
                assert (await ours.send(chat(), headers=both)).version == OLD  # by the other one
            assert (await ours.send(chat(), secret="wrong", headers=shown)).status == 401
            seen = ours.replicas["s1"].headers
            assert len(seen) == 4
            assert not [each for each in seen if {"x-api-key", "authorization"} & each.keys()]

    asyncio.run(scenario())
