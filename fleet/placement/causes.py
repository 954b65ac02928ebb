"""Causes: why versions do not fit, as values: obstacles, and the causes they add up to."""

from dataclasses import dataclass
from enum import StrEnum

from fleet.vllm import GIB

MIB = 1 << 20


class Limit(StrEnum):
    """Kinds of obstacles, in the order in which a cause is named."""

    PIN = "pin"
    RESERVED = "reserved host"
    CORDONED = "cordoned device"
    DRAINING = "draining device"
    ISOLATION = "isolation"
    APART = "apart"
    AVOID = "avoid"
    TENSOR_PARALLEL = "tensor parallel"
    RANK = "rank"
    LATENCY = "latency"
    """Even an idle server, as it was measured, answers later than a tier promises."""
    THROUGHPUT = "throughput"
    SLOTS = "slots"
    HOST_MEMORY = "host memory"
    """A host has no main memory left for what its servers list."""
    DEVICES = "devices"
    """A device would hold it, and others have it."""
    HOSTS = "hosts"
    """Replicas that share no host, on too few hosts."""
    REPLICAS = "replicas"
    """Replicas that share no device, on too few devices."""
    KV_CACHE = "KV cache"
    """Weights and slots fit, and the least KV cache does not."""
    MEMORY = "memory"


RULES = frozenset(list(Limit)[:7])
"""Limits that are declared rules, and not amounts that hardware lacks."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A limit that keeps a version out of a place."""

    limit: Limit
    where: str
    """The server, or `host/device`."""
    text: str
    """With the numbers, such as `` `x` has 8 versions in 8 slots``."""
    need: float = 1
    have: float = 0
    """In the unit of the limit: bytes, slots, ranks, tokens/s or a count."""
    hour: int | None = None
    """Hour of the day, UTC, for a throughput."""


@dataclass(frozen=True, slots=True)
class PlacementCause:
    """A limit that keeps versions of a base out, over all places where nothing else does."""

    limit: Limit
    base: str
    adapters: tuple[str, ...]
    """Versions that are kept out, sorted."""
    primary: bool
    """Whether to look at this cause first."""
    text: str
    need: float
    have: float
    hour: int | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A version alone on the best empty server of a kind of device."""

    adapter: str
    kind: str
    """Such as `h100_80g`, with the number of devices before it where there are several."""
    obstacle: Obstacle | None
    """None: alone it fits."""


@dataclass(frozen=True, slots=True)
class TotalNeed:
    """Load of all versions of a base together, and what its servers carry."""

    base: str
    replicas: int
    placed: int
    slots: int
    """Of the servers there would be."""
    tokens: float
    """Asked for in the worst hour, decode-equivalent tokens per second."""
    carried: float
    """What those servers may carry; infinite: not known."""
    hour: int
    devices: int
    """In use by its servers."""
    usable: int
    """Devices that could hold a server of it, in use by whomever."""


def size(amount: int) -> str:
    """Return bytes as `512 MiB` or `8.3 GiB`."""
    return f"{amount / MIB:.0f} MiB" if abs(amount) < GIB else f"{amount / GIB:.1f} GiB"
