"""Users and their versions, and the observed split beside the declared split."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.runtime.gateway.fronts import Front
from tests.runtime.gateway.stage import NEW, OLD, Stage, chat, table


@pytest.mark.parametrize(
    "how", ["header", "session_id", "user", "safety_identifier", "prompt_cache_key"]
)
def test_a_user_who_is_named_gets_the_same_version_each_time(
    tmp_path: Path, front: Front, how: str
) -> None:
    async def scenario() -> None:
        async with front.stage(tmp_path, new=50) as ours:
            versions: dict[int, set[str]] = {}
            for number in [*range(12), *range(12)]:
                named = f"user-{number}"
                if how == "header":  # which goes before whatever the body says
                    reply = await ours.send(chat(user="x"), headers={"X-Session-Id": named})
                else:
                    reply = await ours.send(chat(**{how: named}))
                versions.setdefault(number, set()).add(reply.version)
            assert all(len(version) == 1 for version in versions.values())
            assert len(set.union(*versions.values())) == 2

    asyncio.run(scenario())


def test_requests_that_name_nobody_are_split_by_chance(tmp_path: Path, front: Front) -> None:
    async def scenario() -> None:
        async with front.stage(tmp_path, new=50) as ours:
            counts = Counter([(await ours.send(chat())).version for _ in range(60)])
            assert set(counts) == {NEW, OLD}
            assert Counter(ours.asked) == counts

    asyncio.run(scenario())


async def seen(ours: Stage) -> dict[str, tuple[int, int]]:
    """Return percent wanted and requests by version."""
    (sight,) = await ours.gateways.statuses()
    assert {share.alias for share in sight.shares} == {"acme-support"}
    assert await ours.gateways.shares(["main"]) == sight.shares
    return {share.adapter: (share.percent, share.requests) for share in sight.shares}


async def given(ours: Stage) -> Counter[str]:
    return Counter([(await ours.send(chat(user=f"user-{n}"))).version for n in range(20)])


def test_requests_are_counted_from_the_last_change_of_the_split(
    tmp_path: Path, front: Front
) -> None:
    async def scenario() -> None:
        async with front.stage(tmp_path, new=50) as ours:
            await given(ours)
            made = table(ours.servers, new=30, revision=2)
            await ours.publish(made)
            assert await seen(ours) == {NEW: (30, 0), OLD: (70, 0)}
            first = await given(ours)
            assert await seen(ours) == {NEW: (30, first[NEW]), OLD: (70, first[OLD])}
            await ours.publish(made.model_copy(update={"revision": 3}))  # the same split
            second = first + await given(ours)
            assert await seen(ours) == {NEW: (30, second[NEW]), OLD: (70, second[OLD])}

    asyncio.run(scenario())
