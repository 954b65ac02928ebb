"""Accounts: versions, memory, load and price of every server of a placement. Data.

Bytes are per device of a server; loads are decode-equivalent tokens per second.
"""

from dataclasses import dataclass
from math import inf

from fleet.capacity import HOURS, USUAL_PROMPT_WEIGHT, Load
from fleet.hardware import NO_BASIS, Basis
from fleet.plan import ServerMemory


@dataclass(frozen=True, slots=True)
class AdapterAccount:
    """An adapter version on a server."""

    adapter: str
    server: str
    rank: int
    """0: not in the lock."""
    cached: bool
    """Waits in host memory for a slot, and has none of its own."""
    load: Load
    """The alias's load, divided by its replicas; versions of an alias share it on a server."""


@dataclass(frozen=True, slots=True)
class RankInflation:
    """Bytes that the largest ranks of a server cost in all its slots."""

    adapters: tuple[str, ...]
    """Those whose rank alone asks for the server's `max_lora_rank`, sorted."""
    rank: int
    without: int
    """The `max_lora_rank` that all others would need."""
    slots: int
    """Slots that are larger because of them."""
    bytes: int
    kv_tokens: int
    """Tokens that the KV cache would gain without them; 0 where its size is declared."""


@dataclass(frozen=True, slots=True)
class ServerAccount(ServerMemory):
    """A server with its versions; `limit` and `load` are in decode-equivalent tokens/s.

    Bytes are per device.
    """

    base: str
    kind: str
    """The devices' kind, such as `h100_80g`; empty on an attached server."""
    kept: int
    """Slots that stay empty: vLLM's CPU build computes base requests with the last slot."""
    rank: int
    """`max_lora_rank`."""
    residents: tuple[AdapterAccount, ...]
    """By name."""
    load: tuple[float, ...]
    """By hour of the day, UTC."""
    active: tuple[float, ...]
    """Expected different adapters in the running batch, by hour."""
    limit: tuple[float, ...]
    """Load that the server may carry by hour, utilisation included; infinite: not known."""
    kv_tokens: int | None
    """Tokens that the KV cache of all devices together holds."""
    kv_tokens_per_slot: int | None
    """Tokens of KV cache whose place a slot takes."""
    inflation: RankInflation | None
    """None where ranks are even, or sizes not known."""
    price_per_hour: float
    basis: Basis
    """Quality of the throughput figure."""
    memory_basis: Basis = NO_BASIS
    """Quality of the bytes."""
    vllm: str = ""
    """Version of its engine; empty: not known."""
    step_s: tuple[float, ...] = ()
    """Expected seconds of a decoding step, by hour; empty: not known."""
    prompt_s: float = 0.0
    """Seconds in which a token of a prompt is read; 0: not known."""
    allowed: float = 1.0
    """Part of its throughput that `limit` is, by the fleet's policy."""
    prompt_weight: float = USUAL_PROMPT_WEIGHT
    """Cost of a prompt token in decoded tokens."""

    @property
    def pinned(self) -> int:
        """Residents with a slot of their own."""
        return sum(not item.cached for item in self.residents)

    @property
    def cached(self) -> int:
        """Residents without a slot of their own."""
        return len(self.residents) - self.pinned

    @property
    def worst_hour(self) -> int:
        """The hour of the highest utilisation; of those equal to a tenth of a percent, the first.

        The plan's figures are rounded so, and both name the same hour.
        """
        return max(range(HOURS), key=lambda hour: (round(self.part(hour), 3), -hour))

    def utilization(self, hour: int) -> float:
        """Return load over limit in an hour; above 1: overloaded; 0 where no limit is known."""
        limit = self.limit[hour]
        return self.load[hour] / limit if limit > 0 else (inf if self.load[hour] > 0 else 0.0)

    def part(self, hour: int) -> float:
        """Return load over all that the server could carry, policy or not, in an hour."""
        return self.utilization(hour) * self.allowed

    @property
    def peak(self) -> float:
        """Utilisation in the worst hour."""
        return self.utilization(self.worst_hour)
