"""The split as it is beside the split as it should be, shown by our gateway and by an Envoy."""

import asyncio
from collections import Counter
from pathlib import Path

from tests.runtime.gateway.fronts import Front
from tests.runtime.gateway.stage import NEW, OLD, Stage, chat, table


async def seen(ours: Stage) -> dict[str, tuple[int, int]]:
    """Return percent wanted and requests by version."""
    (sight,) = await ours.gateways.look()
    assert {each.alias for each in sight.shares} == {"acme-support"}
    return {each.adapter: (each.percent, each.requests) for each in sight.shares}


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
