"""Causes: the obstacles of versions that do not fit, and the causes they add up to. Data."""

from dataclasses import dataclass
from enum import StrEnum

from fleet.vllm import GIB


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
    """Even an idle server, as measured, answers later than a tier promises."""
    THROUGHPUT = "throughput"
    SLOTS = "slots"
    HOST_MEMORY = "host memory"
    """A host has no main memory left for the adapters that its servers list."""
    DEVICES = "devices"
    """A device would hold the version, and other servers have the device."""
    HOSTS = "hosts"
    """Replicas that share no host, on too few hosts."""
    REPLICAS = "replicas"
    """Replicas that share no device, on too few devices."""
    KV_CACHE = "KV cache"
    """Weights and slots fit, and the least KV cache does not."""
    MEMORY = "memory"


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
    """A limit that keeps versions of a base out of all places without another obstacle."""

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
    """Kind of device, such as `h100_80g`."""
    obstacle: Obstacle | None
    """None: alone the version fits."""


@dataclass(frozen=True, slots=True)
class TotalNeed:
    """Load of all versions of a base together, beside the load that its servers carry."""

    base: str
    replicas: int
    placed: int
    slots: int
    """Slots of the servers with versions."""
    tokens: float
    """Load in the worst hour, decode-equivalent tokens per second."""
    carried: float
    """Load that those servers may carry; infinite: not known."""
    hour: int
    devices: int
    """Devices in use by the base's servers."""
    usable: int
    """Devices that could hold a server of the base, whether in use or not."""


def size(amount: int) -> str:
    """Return bytes as `512 MiB` or `8.3 GiB`."""
    return f"{amount / (1 << 20):.0f} MiB" if abs(amount) < GIB else f"{amount / GIB:.1f} GiB"
