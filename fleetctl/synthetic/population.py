"""Draws the clients of a synthetic fleet, their adapters, and the popularity of adapters."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import TypeVar

from fleet.hardware import BaseShape

_T = TypeVar("_T")

RPM_PER_GPU = 120
"""Requests per minute and GPU, as the sum of the peaks of all adapters."""
HOTTEST_RPM = 600
"""Upper bound of an adapter's requests per minute: about the capacity of a GPU."""
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
"""Numbers of earlier versions that the library still has, with weights."""
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
class PublicBase:
    """A base with its share of the adapters of a synthetic fleet."""

    name: str
    share: int
    """Part of all adapters, relative to the other bases used."""
    max_model_len: int
    """Longest prompt plus answer, tokens; less than the model allows, as operators set it."""
    shape: BaseShape


def _base(name: str, share: int, max_model_len: int, architecture: str, numbers: str) -> PublicBase:
    return PublicBase(
        name, share, max_model_len, BaseShape(architecture, *map(int, numbers.split()))
    )


_LLAMA, _QWEN2 = "LlamaForCausalLM", "Qwen2ForCausalLM"

# hidden, inner, layers, heads, key-value heads, head size, vocabulary, positions, weight bytes
PUBLIC_BASES = (
    _base("llama3_8b", 35, 8192, _LLAMA, "4096 14336 32 32 8 128 128256 8192 16060522496"),
    _base("qwen25_7b", 20, 8192, _QWEN2, "3584 18944 28 28 4 128 152064 32768 15231233024"),
    _base(
        "mistral_7b",
        15,
        8192,
        "MistralForCausalLM",
        "4096 14336 32 32 8 128 32768 32768 14496047104",
    ),
    _base(
        "qwen3_8b", 10, 8192, "Qwen3ForCausalLM", "4096 12288 36 32 8 128 151936 40960 16381470720"
    ),
    _base("llama32_1b", 8, 8192, _LLAMA, "2048 8192 16 32 8 64 128256 131072 2471645608"),
    _base("qwen25_14b", 7, 8192, _QWEN2, "5120 13824 48 40 8 128 152064 32768 29540067328"),
    _base("llama3_70b", 5, 4096, _LLAMA, "8192 28672 80 64 8 128 128256 8192 39770000000"),
)
"""Well-known open models by their published dimensions, most used first.

Source: the config.json and safetensors index that each publisher ships; 16-bit weights,
except the 70B, which is the 4-bit AWQ version that fits one 80 GB GPU.
"""


@dataclass(frozen=True, slots=True)
class SyntheticSize:
    """Size of a synthetic fleet."""

    clients: int
    adapters: int
    gpus: int
    seed: int

    @property
    def replicas(self) -> int:
        """Servers that hold an adapter of the enterprise tier."""
        return min(2, self.gpus)


@dataclass(frozen=True, slots=True)
class SyntheticAdapter:
    """A task of a client."""

    task: str
    base: PublicBase
    version: tuple[int, int, int]
    earlier: int
    """Number of earlier minor versions that the lock still pins."""
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


def people(size: SyntheticSize) -> tuple[SyntheticClient, ...]:
    """Return the clients of a synthetic fleet; the same size gives the same clients."""
    chance = Random(size.seed)  # noqa: S311 (made-up data, not secrets)
    names = list(_names(size.clients))
    owned = _adapters(chance, size, names, bases_for(size))
    return tuple(
        SyntheticClient(
            name,
            _pick(chance, TIERS),
            _pick(chance, HOURS),
            _pick(chance, ZONES),
            tuple(sorted(owned[name], key=lambda adapter: adapter.task)),
        )
        for name in names
    )


def bases_for(size: SyntheticSize) -> tuple[PublicBase, ...]:
    """Return the bases of a fleet: small fleets share few bases, to need few GPUs."""
    return PUBLIC_BASES[: max(1, min(len(PUBLIC_BASES), size.gpus // 3))]


def _names(count: int) -> Iterator[str]:
    """Yield distinct client names: pairs of words, then pairs with a number."""
    pairs = [f"{first}_{second}" for first in FIRST for second in SECOND]
    for index in range(count):
        lap, pair = divmod(index, len(pairs))
        # A step coprime to the number of pairs visits every pair, and neighbours look unlike.
        name = pairs[pair * 29 % len(pairs)]
        yield f"{name}{lap + 1}" if lap else name


def _adapters(
    chance: Random, size: SyntheticSize, clients: Sequence[str], bases: Sequence[PublicBase]
) -> Mapping[str, list[SyntheticAdapter]]:
    """Return adapters by client: 1 per client, the rest to large clients; most popular first."""
    sizes = list(accumulate(1 / (index + 3) for index in range(len(clients))))
    owners = list(clients[: size.adapters])
    owners += chance.choices(clients, cum_weights=sizes, k=size.adapters - len(owners))
    chance.shuffle(owners)
    weights = [(rank + 1) ** -ZIPF for rank in range(size.adapters)]
    scale = size.gpus * RPM_PER_GPU / sum(weights or [1])
    shares = [(base, base.share) for base in bases]
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
    return chance.choices([value for value, _ in weighted], [weight for _, weight in weighted])[0]
