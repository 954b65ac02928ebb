"""The declared fleet after `resolve`: defaults merged, references checked, facts attached."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Literal

from fleet.bases import Base as Base  # noqa: PLC0414 (a part of a declared fleet)
from fleet.bases import BaseShape as BaseShape  # noqa: PLC0414 (same)
from fleet.conditions import Faults, Gate, GoldenFacts, Override, Rollout
from fleet.events import EVENTS, Event
from fleet.formats import Format
from fleet.names import AdapterName, Version
from fleet.profiles import Profile
from fleet.traffic import CHOICES, UNLIMITED, USUAL_TIMEOUTS, Limits, Shadow, Sticky, Timeouts
from fleet.upkeep import LEAST_KEPT, EvalPolicy

LatencyClass = Literal["classification", "short_generation", "long_generation"]
Spread = Literal["device", "host"]
"""What replicas of an adapter never share."""
Isolation = Literal["shared", "tier", "client"]
"""With whom an adapter may share a server: anyone, its own tier, its own client."""
Residency = Literal["pinned", "cached"]
"""`pinned`: has a LoRA slot of its own. `cached`: waits in host memory for one."""
GatewayKind = Literal["fleetctl", "envoy"]

CompiledFor = Literal["envoy", "litellm"]
"""`fleetctl`: our own process. `envoy`: an Envoy that follows files we write."""
State = Literal["active", "cordoned", "draining"]
"""`cordoned`: takes nothing new. `draining`: what is there leaves."""


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What the lock pins of one adapter version."""

    digest: str
    """SHA-256, 64 hex digits, over the served files."""
    rank: int
    """Largest rank over all modules."""
    bytes: int
    modules: tuple[str, ...]
    """Adapted modules, such as `q_proj`, sorted."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A class of service."""

    name: str
    replicas: int
    retrain_every: timedelta | None
    spread: Spread = "device"
    isolation: Isolation = "shared"
    residency: Residency = "pinned"
    slo_s: tuple[tuple[LatencyClass, float], ...] = ()
    """Promised p95 by latency class, in seconds, where it is not the class's usual one."""
    timeouts: Timeouts = USUAL_TIMEOUTS
    weight: int = 1
    """Turns in a row that a client gets where requests wait."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Declared load of one adapter."""

    peak_rpm: float
    """Requests per minute in the busiest hour."""
    hours: tuple[int, int] = (0, 24)
    """Business hours `[from, to)` in local time."""
    timezone: str = "UTC"
    batch: tuple[int, int] | None = None
    """A daily batch window `[from, to)`, local time, at peak rate."""
    prompt_tokens: int = 256
    output_tokens: int = 128
    offsets: tuple[int, ...] = (0,)
    """Minutes east of UTC that `timezone` has in the course of a year."""
    observed: tuple[float, ...] | None = None
    """Measured requests per minute in each hour of the day, UTC; replaces the declared hours."""
    faults: Faults | None = None
    """What was bad of the requests that were recorded; None: nothing was recorded."""


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU (or the CPU) of a host."""

    name: str
    kind: str
    """Profile, such as `h100_80g` or `cpu`."""
    memory_bytes: int
    price_per_hour: float
    port: int
    """Port of a server started on this device."""
    state: State = "active"
    vllm: str = ""
    """Version of the engine that runs on it, declared or observed; empty: not known."""


@dataclass(frozen=True, slots=True)
class AttachedServer:
    """A server that someone else runs."""

    name: str
    url: str
    base: str
    max_loras: int
    max_lora_rank: int
    price_per_hour: float
    state: State = "active"
    vllm: str = ""
    """Version of its engine; empty: not known."""


@dataclass(frozen=True, slots=True)
class Host:
    """A machine with devices, or a group of servers run by someone else."""

    name: str
    engine: Literal["local", "attach", "fake"]
    devices: tuple[Device, ...] = ()
    attached: tuple[AttachedServer, ...] = ()
    python: str = ""
    """Interpreter that has vLLM, for engine `local`; relative to the project."""
    paths: tuple[tuple[str, str], ...] = ()
    """Prefix here to prefix on the server's host, longest first (engine `attach`)."""
    address: str = "127.0.0.1"
    reserved_for: tuple[str, ...] = ()
    """Tiers and clients whose adapters alone may be placed here; empty: all."""
    memory_bytes: int | None = None
    """Main memory for the adapters that its servers list; None: not limited."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """What a client wants served under one alias."""

    name: AdapterName
    """The wanted version's full name."""
    rollout: str
    demand: Demand | None
    latency: LatencyClass
    replicas: int
    pin: str | None
    """Server or host that must hold it."""
    golden: str | None
    """Path of the golden set, relative to the project."""
    smoke: tuple[str, ...]
    """Inputs of the smoke test."""
    tier: str = "standard"
    slo_s: float = 2.0
    """Promised p95 of an answer, in seconds."""
    promised: bool = False
    """Whether its tier declares that p95; else it is the usual one of the latency class."""
    avoid: tuple[str, ...] = ()
    """Hosts and servers that must not hold it."""
    apart: tuple[str, ...] = ()
    """Aliases and clients that it never shares a server with."""
    spread: Spread = "device"
    isolation: Isolation = "shared"
    residency: Residency = "pinned"
    format: Format | None = None
    """What form its answers must have; a schema stands here in full."""
    sticky: Sticky = Sticky.SESSION
    limits: Limits = UNLIMITED
    choices: int = CHOICES
    shadow: Shadow | None = None
    """Its servers are known once it is placed."""
    rolling: str | None = None
    """Path of the golden set of fresh questions, relative to the project."""
    retrain: tuple[str, ...] = ()
    """The command that trains a new version; empty: none is declared."""

    @property
    def alias(self) -> str:
        """The name the client calls."""
        return self.name.alias

    @property
    def version(self) -> Version:
        """The wanted version."""
        return self.name.version


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A declared API key; the fingerprint is None where its secret is not readable."""

    name: str
    reference: str
    fingerprint: str | None


@dataclass(frozen=True, slots=True)
class Notify:
    """Where notices go."""

    webhook: str
    """A URL, or where it is kept: `env:NAME`, `file:path`."""
    template: str | None = None
    """Path of a Jinja template of the text, relative to the project."""
    events: tuple[Event, ...] = EVENTS
    """What is told."""


@dataclass(frozen=True, slots=True)
class Client:
    """A tenant."""

    name: str
    tier: str
    monthly_fee: float | None
    keys: tuple[ClientKey, ...]
    limits: Limits = UNLIMITED
    """Of all its adapters together; what it does not say, its tier does."""
    notify: Notify | None = None
    bill_evals: bool = False
    """Whether it pays for evaluations; what its own tier says where it says nothing."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A data-plane process."""

    name: str
    listen: str
    """`host:port` for clients."""
    admin: str
    """Unix socket path or URL of its admin side."""
    secret: str = ""
    """Reference of the operator's secret; empty: the one in the state folder."""
    kind: GatewayKind = "fleetctl"


@dataclass(frozen=True, slots=True)
class PlacementPolicy:
    """What holds for every placement."""

    utilization: float = 0.7
    """Part of a server's throughput that its worst hour may take."""
    canary_slots: int = 2
    """Slots that a server is started with beyond what it holds, so a canary needs no restart."""
    share_devices: bool = False
    """Whether servers of several bases may share one device."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything declared, in the form the planner reads. Mappings are sorted by name."""

    name: str
    clients: Mapping[str, Client]
    tiers: Mapping[str, Tier]
    bases: Mapping[str, Base]
    hosts: Mapping[str, Host]
    adapters: Mapping[str, Adapter]
    """By alias."""
    rollouts: Mapping[str, Rollout]
    gates: Mapping[str, Gate]
    gateways: Mapping[str, Gateway]
    keep_versions: int = LEAST_KEPT
    versions: Mapping[str, AdapterFacts] = field(default_factory=lambda: MappingProxyType({}))
    """Facts of every version in the lock, by full name."""
    origins: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Dotted path, such as `clients.acme.adapters.support.version`, to `file:line:col`."""
    renames: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Alias to the alias it was formerly known by."""
    warnings: tuple[str, ...] = ()
    policy: PlacementPolicy = PlacementPolicy()
    profiles: tuple[Profile, ...] = ()
    """Measured speeds of servers; what has none is estimated from first principles."""
    golden: Mapping[str, GoldenFacts] = field(default_factory=lambda: MappingProxyType({}))
    """By path of the golden set, relative to the project."""
    notify: Notify | None = None
    """Where operators are told."""
    overrides: tuple[Override, ...] = ()
    """Sorted by name; expired ones too."""
    compiled_for: tuple[CompiledFor, ...] = ()
    """Other gateways that the routes are compiled for."""

    evals: EvalPolicy = field(default_factory=EvalPolicy)
    """How golden sets are asked, and how often."""

    def origin(self, *path: str) -> str:
        """Return the place that declares `path`, or of its nearest declared parent."""
        for length in range(len(path), 0, -1):
            found = self.origins.get(".".join(path[:length]))
            if found:
                return found
        return ""
