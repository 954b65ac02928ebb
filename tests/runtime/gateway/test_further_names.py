"""A further name of an alias: its client alone is answered by it, as by the alias."""

import asyncio
from pathlib import Path
from typing import Any

from fleet.traffic import TrafficPolicy
from runtime.gateway.table.table import AliasEntry, RoutingTable
from tests.runtime.gateway.fronts import Front
from tests.runtime.gateway.stage import ACME, GLOBEX, NEW, OLD, OTHERS, Stage, alias, chat, table

TODAY = "lora/Acme support"
NAMED = TrafficPolicy(alias_for=TODAY)


def named(ours: Stage, others: AliasEntry | None = None) -> RoutingTable:
    entry = alias("acme", (NEW, 0, ("s1",)), (OLD, 100, ("s1",)), policy=NAMED)
    before = table(ours.servers, revision=2)
    changed = {"acme-support": entry} | ({"globex-dates": others} if others else {})
    return before.model_copy(update={"aliases": before.aliases | changed})


def test_a_client_is_answered_by_the_further_name_and_no_other_client_is(
    tmp_path: Path, front: Front
) -> None:
    async def scenario() -> None:
        async with front.stage(tmp_path) as ours:
            assert (await ours.send(chat(TODAY))).status == 404
            await ours.publish(named(ours))
            reply = await ours.send(chat(TODAY))
            assert (reply.status, reply.version) == (200, OLD)
            assert reply.json["model"] == (OLD if front.is_envoy else TODAY)
            assert (await ours.send(chat())).version == OLD
            assert (await ours.send(chat(TODAY), secret=GLOBEX)).status == 404
            assert await listed(ours, ACME) == ["acme-support", TODAY]
            assert await listed(ours, GLOBEX) == ["globex-dates"]

    asyncio.run(scenario())


def test_two_clients_may_have_the_same_further_name(tmp_path: Path, front: Front) -> None:
    async def scenario() -> None:
        async with front.stage(tmp_path) as ours:
            theirs = alias("globex", (OTHERS, 100, ("s1",)), policy=NAMED)
            await ours.publish(named(ours, theirs))
            assert (await ours.send(chat(TODAY))).version == OLD
            assert (await ours.send(chat(TODAY), secret=GLOBEX)).version == OTHERS

    asyncio.run(scenario())


def test_an_alias_goes_before_a_further_name(tmp_path: Path, front: Front) -> None:
    """As in the apply of a rename: the former alias is still in the table."""

    async def scenario() -> None:
        async with front.stage(tmp_path) as ours:
            later = alias(
                "acme", (NEW, 100, ("s1",)), policy=TrafficPolicy(alias_for="acme-support")
            )
            before = table(ours.servers, revision=2)
            both = before.aliases | {"acme-faq": later}
            await ours.publish(before.model_copy(update={"aliases": both}))
            assert (await ours.send(chat("acme-support"))).version == OLD
            await ours.publish(
                before.model_copy(update={"revision": 3, "aliases": {"acme-faq": later}})
            )
            assert (await ours.send(chat("acme-support"))).version == NEW

    asyncio.run(scenario())


async def listed(ours: Stage, secret: str) -> list[Any]:
    document = (await ours.send(path="/v1/models", method="GET", secret=secret)).json
    return [card["id"] for card in document["data"]]
