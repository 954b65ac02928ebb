"""Defines `FleetSpec`, the declared fleet: defaults merged, references checked, facts attached."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Literal, get_args

from fleet.hardware import BaseSpec as Base
from fleet.hardware import HostSpec, Profile
from fleet.names import AdapterName, Version
from fleet.response_format import ResponseFormat
from fleet.rollout_policy import EndpointFaults, GateSpec, GoldenFacts, OverrideSpec, RolloutPolicy
from fleet.traffic import (
    CHOICES,
    UNLIMITED,
    USUAL_TIMEOUTS,
    LimitPolicy,
    ShadowPolicy,
    Sticky,
    TimeoutPolicy,
)

ClientEvent = Literal[
    "rolled_back", "gate_failed", "undecided", "drifted", "drill_failed", "retraining_overdue"
]
"""What is about one alias, so that its client may be told."""
NotifyEvent = Literal[ClientEvent, "ledger_away"]
NOTIFY_EVENTS: tuple[NotifyEvent, ...] = get_args(NotifyEvent)
USUAL_FOR_CLIENTS: tuple[ClientEvent, ...] = ("rolled_back",)
"""What a client is told where nothing else is declared: what changed who answers."""

LEAST_KEPT = 3
"""Earlier versions of an adapter that stay in the library at the least."""


@dataclass(frozen=True, slots=True)
class JudgeSpec:
    """A model at an OpenAI-compatible endpoint that scores what code cannot."""

    url: str
    model: str
    key: str | None
    """Reference of its API key, `env:NAME` or `file:path`."""


@dataclass(frozen=True, slots=True)
class EvalPolicy:
    """How golden sets are asked, and how often."""

    every: timedelta = timedelta(days=7)
    engine: str = "native"
    samples: int = 1
    temperature: float = 0.0
    concurrency: int = 4
    max_missing: int = 0
    timeout_s: float = 60.0
    judge: JudgeSpec | None = None
    command: tuple[str, ...] = ()
    """What the `command` engine starts."""
    through: Literal["server", "gateway"] = "server"
    """Whom questions are sent to."""
    keep: timedelta = timedelta(days=90)
    """How long answers stay that nothing is compared with."""
    pause_above: int = 4
    """Requests waiting on a server above which nothing more is asked of it for now."""


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
class TierSpec:
    """A class of service."""

    name: str
    replicas: int
    retrain_every: timedelta | None
    spread: Spread = "device"
    isolation: Isolation = "shared"
    residency: Residency = "pinned"
    slo_s: tuple[tuple[LatencyClass, float], ...] = ()
    """Promised p95 by latency class, in seconds, where it is not the class's usual one."""
    timeouts: TimeoutPolicy = USUAL_TIMEOUTS
    weight: int = 1
    """Turns in a row that a client gets where requests wait."""


@dataclass(frozen=True, slots=True)
class DemandSpec:
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
    faults: EndpointFaults | None = None
    """What was bad of the requests that were recorded; None: nothing was recorded."""


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """What a client wants served under one alias."""

    name: AdapterName
    """The wanted version's full name."""
    rollout: str
    demand: DemandSpec | None
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
    format: ResponseFormat | None = None
    """What form its answers must have; a schema stands here in full."""
    sticky: Sticky = Sticky.SESSION
    limits: LimitPolicy = UNLIMITED
    choices: int = CHOICES
    shadow: ShadowPolicy | None = None
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
class NotifySpec:
    """Where notices go."""

    webhook: str
    """A URL, or where it is kept: `env:NAME`, `file:path`."""
    template: str | None = None
    """Path of a Jinja template of the text, relative to the project."""
    events: tuple[NotifyEvent, ...] = NOTIFY_EVENTS
    """What is told."""


@dataclass(frozen=True, slots=True)
class ClientSpec:
    """A tenant."""

    name: str
    tier: str
    monthly_fee: float | None
    keys: tuple[ClientKey, ...]
    limits: LimitPolicy = UNLIMITED
    """Of all its adapters together; what it does not say, its tier does."""
    notify: NotifySpec | None = None
    bill_evals: bool = False
    """Whether it pays for evaluations; what its own tier says where it says nothing."""


@dataclass(frozen=True, slots=True)
class GatewaySpec:
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
class FleetSpec:
    """Everything declared, in the form the planner reads. Mappings are sorted by name."""

    name: str
    clients: Mapping[str, ClientSpec]
    tiers: Mapping[str, TierSpec]
    bases: Mapping[str, Base]
    hosts: Mapping[str, HostSpec]
    adapters: Mapping[str, AdapterSpec]
    """By alias."""
    rollouts: Mapping[str, RolloutPolicy]
    gates: Mapping[str, GateSpec]
    gateways: Mapping[str, GatewaySpec]
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
    notify: NotifySpec | None = None
    """Where operators are told."""
    overrides: tuple[OverrideSpec, ...] = ()
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
