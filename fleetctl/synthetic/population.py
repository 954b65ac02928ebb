"""Who is in a synthetic fleet: clients, their adapters, how popular each is."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import TypeVar

from fleetctl.synthetic.bases import PUBLIC_BASES, PublicBase

_T = TypeVar("_T")

RPM_PER_GPU = 120
"""Requests a minute, summed over all adapters' own peaks, for each GPU."""
HOTTEST_RPM = 600
"""The most that one adapter asks for: about what one GPU answers."""
ZIPF = 0.9
"""Exponent of the power law of popularity; around 1 in measured request logs."""
TIERS = (("standard", 70), ("premium", 25), ("enterprise", 5))
ZONES = (
    ("America/New_York", 25),
    ("Europe/Paris", 20),
    ("Europe/London", 15),
    ("America/Los_Angeles", 15),
    ("Asia/Tokyo", 10),
    ("Asia/Kolkata", 10),
    ("Australia/Sydney", 5),
)
HOURS = (("09-18", 50), ("08-17", 20), ("10-19", 15), ("00-24", 10), ("07-22", 5))
BATCHES = (("22-04", 40), ("01-05", 30), ("13-15", 20), ("14-16", 10))
BATCH_SHARE = 0.12
RANKS = ((8, 25), (16, 45), (32, 20), (64, 10))
MODULES = (
    (("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), 50),
    (("q_proj", "k_proj", "v_proj", "o_proj"), 30),
    (("q_proj", "v_proj"), 20),
)
EARLIER = ((0, 40), (1, 30), (2, 20), (3, 10))
"""Earlier versions of an adapter that the library still has."""
LATENCIES = {
    "classification": (300, 8),
    "short_generation": (500, 120),
    "long_generation": (1500, 600),
}
"""Usual tokens of prompt and answer."""
TASKS = (
    ("classification", ("triage", "intent", "language", "pii", "spam", "sentiment")),
    ("short_generation", ("support", "dates", "orders", "units", "faq", "tags", "titles")),
    ("long_generation", ("summary", "drafts", "reports", "minutes")),
)
FIRST = (
    *("amber", "azure", "birch", "cedar", "cobalt", "coral", "dune"),
    *("elm", "ember", "fern", "flint", "frost", "hazel", "ivory"),
)
SECOND = (
    *("bank", "books", "care", "cargo", "clinic", "foods", "freight"),
    *("hotels", "labs", "law", "media", "motors", "shop", "tech"),
)


@dataclass(frozen=True, slots=True)
class SyntheticSize:
    """How large the fleet is to be."""

    clients: int
    adapters: int
    gpus: int
    seed: int

    @property
    def replicas(self) -> int:
        """Servers that hold each adapter of the enterprise tier."""
        return min(2, self.gpus)


@dataclass(frozen=True, slots=True)
class SyntheticAdapter:
    """One task of a client."""

    task: str
    base: PublicBase
    version: tuple[int, int, int]
    earlier: int
    """How many earlier minor versions the lock still pins."""
    rank: int
    modules: tuple[str, ...]
    latency: str
    peak_rpm: float
    prompt_tokens: int
    output_tokens: int
    batch: str | None


@dataclass(frozen=True, slots=True)
class SyntheticClient:
    """A tenant; its people work in one time zone."""

    name: str
    tier: str
    hours: str
    zone: str
    adapters: tuple[SyntheticAdapter, ...]
    """By task."""


def people(wish: SyntheticSize) -> tuple[SyntheticClient, ...]:
    """Return the clients of a synthetic fleet; the same wish gives the same ones."""
    chance = Random(wish.seed)  # noqa: S311 (made-up data, not secrets)
    names = list(_names(wish.clients))
    owned = _adapters(chance, wish, names, bases_for(wish))
    return tuple(
        SyntheticClient(
            name,
            _pick(chance, TIERS),
            _pick(chance, HOURS),
            _pick(chance, ZONES),
            tuple(sorted(owned[name], key=lambda each: each.task)),
        )
        for name in names
    )


def bases_for(wish: SyntheticSize) -> tuple[PublicBase, ...]:
    """Return the bases of a fleet: a small one shares few, or its GPUs would not do."""
    return PUBLIC_BASES[: max(1, min(len(PUBLIC_BASES), wish.gpus // 3))]


def _names(count: int) -> Iterator[str]:
    """Yield distinct client names: pairs of words, then pairs with a number."""
    pairs = [f"{first}_{second}" for first in FIRST for second in SECOND]
    for index in range(count):
        lap, pair = divmod(index, len(pairs))
        # A step coprime to the number of pairs visits each, and neighbours look unlike.
        name = pairs[pair * 29 % len(pairs)]
        yield f"{name}{lap + 1}" if lap else name


def _adapters(
    chance: Random, wish: SyntheticSize, clients: Sequence[str], bases: Sequence[PublicBase]
) -> Mapping[str, list[SyntheticAdapter]]:
    """Return adapters by client: one each, the rest to the large ones; most popular first."""
    sizes = list(accumulate(1 / (index + 3) for index in range(len(clients))))
    owners = list(clients[: wish.adapters])
    owners += chance.choices(clients, cum_weights=sizes, k=wish.adapters - len(owners))
    chance.shuffle(owners)
    weights = [(rank + 1) ** -ZIPF for rank in range(wish.adapters)]
    scale = wish.gpus * RPM_PER_GPU / sum(weights or [1])
    shares = [(each, each.share) for each in bases]
    used: Counter[tuple[str, str]] = Counter()
    owned: dict[str, list[SyntheticAdapter]] = {name: [] for name in clients}
    for index, client in enumerate(owners):
        latency, tasks = chance.choice(TASKS)
        task = chance.choice(tasks)
        used[client, task] += 1
        number = used[client, task]
        minor = chance.randint(0, 9)
        prompt, answer = LATENCIES[latency]
        owned[client].append(
            SyntheticAdapter(
                task=f"{task}{number}" if number > 1 else task,
                base=_pick(chance, shares),
                version=(chance.randint(1, 4), minor, 0),
                earlier=min(minor, _pick(chance, EARLIER)),
                rank=_pick(chance, RANKS),
                modules=_pick(chance, MODULES),
                latency=latency,
                peak_rpm=max(0.1, round(min(HOTTEST_RPM, scale * weights[index]), 1)),
                prompt_tokens=round(prompt * chance.uniform(0.5, 2)),
                output_tokens=round(answer * chance.uniform(0.5, 2)),
                batch=_pick(chance, BATCHES) if chance.random() < BATCH_SHARE else None,
            )
        )
    return owned


def _pick(chance: Random, weighted: Sequence[tuple[_T, int]]) -> _T:
    return chance.choices([each for each, _ in weighted], [weight for _, weight in weighted])[0]
