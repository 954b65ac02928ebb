"""Why a device's hours are split by tokens: KV time as gateways see it, on a simulated server.

The server decodes by the law of throughput, admits requests in order while its KV cache has room,
and is bound by the cache where client b, of long prompts, asks much.
"""

from collections import Counter, deque
from dataclasses import dataclass

from fleet.capacity import prompt_seconds, step_seconds
from fleet.hardware import Speed

SPEED = Speed(step_s=0.010, request_s=0.0001, lora_factor=2.0, spread=0.01, prompt_weight=0.1)
KV_TOKENS, SECONDS, OUTPUT = 60_000, 600.0, 200
PROMPTS = {"a": 500, "b": 6000}


@dataclass
class Running:
    """A request with its KV cache."""

    client: str
    asked: float
    made: int = 0

    def held(self, shared: int) -> int:
        """Return the tokens of its own in the cache."""
        return PROMPTS[self.client] - shared * (self.client == "b") + self.made


def simulate(every_s: dict[str, float], shared: int = 0) -> dict[str, Counter[str]]:
    """Return by client: tokens of work; KV tokens times ms held, and as a gateway counts them.

    `shared`: tokens with which all prompts of b begin; they lie in the cache once, and are read
    once.
    """
    due = sorted(
        (number * gap, client)
        for client, gap in every_s.items()
        for number in range(int(SECONDS / gap))
    )
    arrivals, waiting, running = deque(due), deque[Running](), list[Running]()
    found = {name: Counter[str]() for name in ("work", "held", "gateway")}
    now = 0.0
    while arrivals or waiting or running:
        if not waiting and not running:
            now = max(now, arrivals[0][0])
        while arrivals and arrivals[0][0] <= now:
            asked, client = arrivals.popleft()
            waiting.append(Running(client, asked))
        step = 0.0
        while (
            waiting
            and shared + sum(its.held(shared) + OUTPUT - its.made for its in (*running, waiting[0]))
            <= KV_TOKENS
        ):
            running.append(waiting.popleft())
            step += running[-1].held(shared) * prompt_seconds(SPEED)
        step += step_seconds(SPEED, len(running), len({its.client for its in running}))
        now += step
        for its in running:
            its.made += 1
            found["held"][its.client] += round(1000 * step * its.held(shared))
        if any(its.client == "b" for its in running):
            found["held"]["b"] += round(1000 * step * shared)
        for its in [its for its in running if its.made == OUTPUT]:
            running.remove(its)
            prompt, fresh = PROMPTS[its.client], its.held(shared) - its.made
            found["work"][its.client] += round(fresh * SPEED.prompt_weight) + OUTPUT
            taken = round(1000 * (now - its.asked))
            found["gateway"][its.client] += taken * (prompt + OUTPUT // 2)
    return found


def part_of_a(found: dict[str, Counter[str]], name: str) -> float:
    return found[name]["a"] / found[name].total()


def full(found: dict[str, Counter[str]], name: str) -> float:
    """Return the mean part of the cache that the counts say was held."""
    return found[name].total() / (1000 * SECONDS * KV_TOKENS)


def test_in_a_full_cache_tokens_charge_short_prompts_more_than_their_part_of_the_cache() -> None:
    alone, bound = simulate({"a": 1.0}), simulate({"a": 1.0, "b": 0.55})
    assert round(part_of_a(bound, "work"), 2) == 0.15
    assert round(part_of_a(bound, "held"), 2) == 0.05
    # The same requests: their tokens stay, and their KV time as gateways see it grows by queueing.
    assert bound["work"]["a"] == alone["work"]["a"]
    assert bound["gateway"]["a"] > 18 * alone["gateway"]["a"]


def test_where_prompts_share_a_beginning_gateways_see_a_full_cache_that_is_not() -> None:
    shared = simulate({"a": 1.0, "b": 0.4}, shared=5900)
    assert (round(full(shared, "held"), 2), round(full(shared, "gateway"), 2)) == (0.19, 1.28)
    by = {name: round(part_of_a(shared, name), 2) for name in shared}
    assert by == {"work": 0.32, "held": 0.26, "gateway": 0.04}
