"""Headers that tell a client what its rates leave."""

import asyncio
from pathlib import Path

import pytest

from fleet.traffic import LimitPolicy, TrafficPolicy
from runtime.gateway.traffic.limits import RateLeft, RateLimiter, rate_headers
from tests.runtime.gateway.stage import NEW, Reply, alias, chat, stage, table

pytestmark = pytest.mark.usefixtures("serving_loop")


def rates(reply: Reply) -> dict[str, str]:
    start = "x-ratelimit-"
    return {n.lower()[len(start) :]: v for n, v in reply.headers.items() if n.lower()[:12] == start}


@pytest.mark.parametrize("streams", [False, True])
def test_an_answer_tells_what_the_rates_of_alias_and_client_leave(
    tmp_path: Path, *, streams: bool
) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            assert rates(await ours.send(chat(stream=streams))) == {}, "no rate is declared"
            policy = TrafficPolicy(
                limits=LimitPolicy(requests_per_minute=60, tokens_per_minute=100_000),
                client_limits=LimitPolicy(requests_per_minute=6000),
            )
            entry = alias("acme", (NEW, 100, ("s1",)), policy=policy)
            given = table(ours.servers, revision=2)
            aliases = given.aliases | {"acme-support": entry}
            await ours.publish(given.model_copy(update={"aliases": aliases}))
            first, second = [rates(await ours.send(chat(stream=streams))) for _ in range(2)]
            assert (first["limit-requests"], first["remaining-requests"]) == ("60", "9")
            assert second["remaining-requests"] in {"8", "9"}
            assert (first["limit-tokens"], first["remaining-tokens"]) == ("100000", "100000")
            assert int(second["remaining-tokens"]) <= 100_000
            assert all(first[f"reset-{kind}"].endswith("s") for kind in ("requests", "tokens"))

    asyncio.run(scenario())


def test_the_tightest_of_several_rates_is_told() -> None:
    found = [RateLeft("requests", 60, 9, 1.0), RateLeft("requests", 600, 3, 2.0)]
    assert rate_headers(found) == {
        "x-ratelimit-limit-requests": "600",
        "x-ratelimit-remaining-requests": "3",
        "x-ratelimit-reset-requests": "2.00s",
    }


@pytest.mark.parametrize(("asked", "left", "reset_s"), [(1, 9, 1.0), (5, 5, 5.0), (10, 0, 10.0)])
def test_what_is_left_is_what_would_be_allowed_at_once(
    asked: int, left: int, reset_s: float
) -> None:
    limiter, limits = RateLimiter(0.0, 0.0), LimitPolicy(requests_per_minute=60)
    for _ in range(asked):
        assert limiter.wait_s(limits, 1, 0.0) == 0
        limiter.count_request(limits, 1, 0.0)
    assert [*limiter.left(limits, 1, 0.0)] == [RateLeft("requests", 60, left, reset_s)]
    allowed = 0
    while limiter.wait_s(limits, 1, 0.0) == 0:
        limiter.count_request(limits, 1, 0.0)
        allowed += 1
    assert allowed == left
