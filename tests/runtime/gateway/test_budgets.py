"""Budgets of a month: by the figures of all gateways, and by what this one has answered since."""

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from fleet.errors import EngineRejectedError
from fleet.traffic import Budget, LimitPolicy, TrafficPolicy
from runtime.gateway.admin.state_dir import gateway_dir
from runtime.gateway.traffic.limits import FILE
from tests.runtime.gateway.admin_side import admin_of
from tests.runtime.gateway.stage import (
    GLOBEX,
    MAIN,
    NEW,
    OTHERS,
    Stage,
    alias,
    chat,
    stage,
    table,
)

pytestmark = pytest.mark.usefixtures("serving_loop")
DAY = 86_400.0


async def limit(ours: Stage, policy: TrafficPolicy) -> None:
    """Serve the usual table with a policy of the alias of acme."""
    names = tuple(sorted(ours.servers))
    aliases = {
        "acme-support": alias("acme", (NEW, 100, names), policy=policy),
        "globex-dates": alias("globex", (OTHERS, 100, names)),
    }
    given = table(ours.servers, revision=2)
    await ours.gateways.publish(given.model_copy(update={"aliases": aliases}))


async def hand_over(ours: Stage, requests: int, tokens: int, left_s: float = DAY) -> None:
    figures = {
        "until": time.time() + left_s,
        "clients": {"acme": (requests, tokens)},
        "aliases": {"acme-support": (requests, tokens)},
    }
    async with admin_of(ours.state) as admin:
        await admin.put("/-/month", figures, timeout_s=9)


def hard(requests: int | None = None, tokens: int | None = None) -> LimitPolicy:
    return LimitPolicy(budget=Budget.HARD, requests_per_month=requests, tokens_per_month=tokens)


def test_beyond_a_hard_budget_requests_are_refused_until_the_month_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            await limit(ours, TrafficPolicy(client_limits=hard(requests=3)))
            assert (await ours.send(chat())).status == 200, "no figures are known yet"
            await hand_over(ours, requests=2, tokens=0)
            replies = [await ours.send(chat()) for _ in range(2)]
            assert [reply.status for reply in replies] == [200, 429], "its own answers count on"
            assert DAY - 60 < int(replies[1].headers["Retry-After"]) <= DAY
            assert replies[1].json["error"]["code"] == "insufficient_quota"
            assert (await ours.send(chat("globex-dates"), secret=GLOBEX)).status == 200
            await limit_more(ours)
            assert (await ours.send(chat())).status == 200, "a budget that is raised counts at once"
            await hand_over(ours, requests=9, tokens=0, left_s=-1.0)
            assert (await ours.send(chat())).status == 200, "the month is over"

    async def limit_more(ours: Stage) -> None:
        names = tuple(sorted(ours.servers))
        policy = TrafficPolicy(client_limits=hard(requests=9))
        given = table(ours.servers, revision=3)
        raised = {"acme-support": alias("acme", (NEW, 100, names), policy=policy)}
        await ours.gateways.publish(given.model_copy(update={"aliases": raised}))

    asyncio.run(scenario())


@pytest.mark.parametrize("of_alias", [False, True])
def test_tokens_of_an_answer_count_and_a_restart_forgets_no_figure(
    tmp_path: Path, *, of_alias: bool
) -> None:
    limits = hard(tokens=1000)
    policy = TrafficPolicy(limits=limits) if of_alias else TrafficPolicy(client_limits=limits)

    async def first() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            await limit(ours, policy)
            await hand_over(ours, requests=1, tokens=999)
            assert [(await ours.send(chat())).status for _ in range(2)] == [200, 429]
            await hand_over(ours, requests=2, tokens=1002)

    async def second() -> None:
        state = tmp_path / "again"
        gateway_dir(state, MAIN.name).mkdir(parents=True)
        kept = gateway_dir(tmp_path / ".fleetctl", MAIN.name) / FILE
        shutil.copy(kept, gateway_dir(state, MAIN.name))
        async with stage(state) as ours:
            await limit(ours, policy)
            assert (await ours.send(chat())).status == 429

    asyncio.run(first())
    asyncio.run(second())


def test_a_soft_budget_refuses_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            await limit(ours, TrafficPolicy(client_limits=LimitPolicy(requests_per_month=1)))
            await hand_over(ours, requests=5, tokens=5)
            assert (await ours.send(chat())).status == 200

    asyncio.run(scenario())


def test_figures_that_cannot_be_read_refuse_nothing_and_figures_of_others_are_not_taken(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        state = tmp_path / ".fleetctl"
        folder = gateway_dir(state, MAIN.name)
        folder.mkdir(parents=True)
        (folder / FILE).write_text('{"until": 99999999999, "clients": {"acme": [9')
        async with stage(state) as ours:
            await limit(ours, TrafficPolicy(client_limits=hard(requests=1)))
            assert (await ours.send(chat())).status == 200
            async with admin_of(state) as admin:
                for figures in ({"until": "soon"}, {"until": 1.0, "clients": {"acme": [1]}}, {}):
                    with pytest.raises(EngineRejectedError):
                        await admin.put("/-/month", figures, timeout_s=9)
            assert (await ours.send(chat())).status == 200

    asyncio.run(scenario())
