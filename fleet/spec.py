"""Defines `FleetSpec`, the declared fleet: defaults merged, references checked, facts attached."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, get_args

from fleet import policies, traffic
from fleet.errors import Position
from fleet.hardware import BaseSpec as Base
from fleet.hardware import HostSpec, Profile, ServerTls
from fleet.names import AdapterName, Version
from fleet.policies import (
    ClientCosts,
    CostPolicy,
    EndpointFaults,
    GateSpec,
    GoldenFacts,
    OverrideSpec,
    RolloutPolicy,
    SigningSpec,
)
from fleet.response_format import ResponseFormat

ClientEvent = Literal[
    "rolled_back", "gate_failed", "undecided", "drifted", "drill_failed", "retraining_overdue",
    "retraining_planned", "rollout_started", "rollout_finished",
]  # fmt: skip
"""Events of a single alias, of which its client may be notified."""
NotifyEvent = Literal[ClientEvent, "ledger_away", "alert", "alert_resolved"]
NOTIFY_EVENTS: tuple[NotifyEvent, ...] = get_args(NotifyEvent)
USUAL_FOR_CLIENTS: tuple[ClientEvent, ...] = ("rolled_back",)
"""Default events for a client: those that changed the answering version."""
ExtensionGroup = Literal[
    "engines", "compile_targets", "eval_engines", "sources", "notice_sinks"
]  # fmt: skip
"""Groups of entry points of packages that extend fleetctl, without `fleetctl.`."""
LEAST_KEPT = 3  # lower bound of the earlier versions of an adapter that stay in the library


@dataclass(frozen=True, slots=True)
class JudgeSpec:
    """A model at an OpenAI-compatible endpoint that scores answers where code cannot."""

    url: str
    model: str
    key: str  # reference of its API key, `env:NAME` or `file:path`; empty: none


@dataclass(frozen=True, slots=True)
class EvalSpec:
    """How a golden set is asked. Runs of one `fleet.evals.decoding_of` compare."""

    engine: str = "native"
    """Name of a shipped engine, or of an engine of an extension."""
    samples: int = 1  # answers to an item; 2 or more make sense only above temperature 0
    temperature: float = 0.0
    seed: int = 0
    concurrency: int = 4
    max_missing: int = 0
    """Items without an answer that a run may have; they count as wrong in both arms."""
    timeout_s: float = 60.0
    judge: JudgeSpec | None = None
    command: tuple[str, ...] = ()  # program of the engine `command`; started without a shell
    pause_above: int = 4
    """Upper bound of the requests waiting on a server; the run pauses above the bound."""


@dataclass(frozen=True, slots=True)
class EvalPolicy:
    """Settings of evaluations on golden sets."""

    spec: EvalSpec = EvalSpec()
    every: timedelta = timedelta(days=7)
    through: Literal["server", "gateway"] = "server"
    keep: timedelta = timedelta(days=90)
    """Time for which answers stay that no version is compared with."""


LatencyClass = Literal["classification", "short_generation", "long_generation"]
Spread = Literal["device", "host"]
"""Hardware that replicas of an adapter never share."""
Isolation = Literal["shared", "tier", "client"]
"""Adapters that may share a server with an adapter: all, its own tier's, its own client's."""
Residency = Literal["pinned", "cached"]
"""`pinned`: has a LoRA slot of its own. `cached`: waits in host memory for a slot."""
GatewayKind = Literal["fleetctl", "envoy"]
"""`fleetctl`: a process of fleetctl. `envoy`: an Envoy that follows files of fleetctl."""
CompiledFor = Literal["envoy", "litellm", "gateway_api"]


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """Facts of an adapter version in the lock."""

    digest: str
    """SHA-256, 64 hex digits, over the served files."""
    rank: int  # largest over all modules
    bytes: int
    modules: tuple[str, ...]
    """Adapted modules, such as `q_proj`, sorted."""
    source: str = field(default="", compare=False)  # of the bytes; empty: not known


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
    """Promised p95 by latency class, in seconds; infinite: not even the aim of the class."""
    timeouts: traffic.TimeoutPolicy = traffic.USUAL_TIMEOUTS
    weight: int = 1
    """Turns in a row of a client where requests wait."""


@dataclass(frozen=True, slots=True)
class DemandSpec:
    """Declared load of an adapter."""

    peak_rpm: float
    hours: tuple[int, int] = (0, 24)
    """Business hours `[from, to)` in local time."""
    timezone: str = "UTC"
    batch: tuple[int, int] | None = None
    """A daily batch window `[from, to)`, local time, at peak rate."""
    prompt_tokens: int = 256
    output_tokens: int = 128
    offsets: tuple[int, ...] = (0,)
    """Minutes east of UTC of `timezone` in the course of a year."""
    observed: tuple[float, ...] | None = None
    """Measured requests per minute by hour of the day, UTC; replaces the declared hours."""
    faults: EndpointFaults | None = None
    """Bad requests of the recording; None: no recording."""
    users: int | None = None  # of the recording's last 28 days, or sessions; None: not known


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """An alias of a client with its declared version."""

    name: AdapterName
    rollout: str
    demand: DemandSpec | None
    latency: LatencyClass
    replicas: int
    pin: str | None  # server or host that must hold the adapter
    golden: str | None
    """Path of the golden set, relative to the project."""
    smoke: tuple[str, ...]
    tier: str = "standard"
    slo_s: float = 2.0  # due p95 of an answer
    promised: bool = False
    """Whether its tier promises the p95; else `slo_s` is the usual time of the latency class."""
    aimed: bool = True  # whether later answers are late: its tier may drop the aim of the class
    avoid: tuple[str, ...] = ()
    """Hosts and servers that must not hold the adapter."""
    apart: tuple[str, ...] = ()
    """Aliases and clients that never share a server with the adapter."""
    spread: Spread = "device"
    isolation: Isolation = "shared"
    residency: Residency = "pinned"
    format: ResponseFormat | None = None
    """Form that its answers must have, with a schema in full."""
    sticky: traffic.Sticky = traffic.Sticky.SESSION
    limits: traffic.LimitPolicy = traffic.UNLIMITED
    choices: int = traffic.CHOICES
    shadow: traffic.ShadowPolicy | None = None
    """Version that gets copies of requests, without its servers until placed."""
    rolling: str | None = None
    retrain: tuple[str, ...] = ()  # command that trains a new version; empty: not declared
    alias_for: str = ""  # a further name that the client calls it by
    served_as: str = ""  # name of the adapter of others that has its bytes; it takes no slot

    @property
    def alias(self) -> str:
        """The name that the client calls."""
        return self.name.alias

    @property
    def version(self) -> Version:
        """The declared version."""
        return self.name.version


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A declared API key; the fingerprint is None where its secret is not readable."""

    name: str
    reference: str
    fingerprint: str | None
    is_weak: bool = False  # whether its secret is estimated below 128 bits


@dataclass(frozen=True, slots=True)
class MailSpec:
    """Server and addresses of mails."""

    server: str
    """`host:port`."""
    sender: str
    to: tuple[str, ...]
    login: str = ""
    """Reference of `user:password`; empty: the server asks for none."""


@dataclass(frozen=True, slots=True)
class NotifySpec:
    """Receivers and events of notifications."""

    webhook: str = ""
    """A URL, or the place of a URL: `env:NAME`, `file:path`; empty: none."""
    template: str | None = None
    """Path of a Jinja template of the text, relative to the project."""
    events: tuple[NotifyEvent, ...] = NOTIFY_EVENTS
    mail: MailSpec | None = None
    alertmanager: str = ""
    """URL of an Alertmanager that `watch` hands alerts to; empty: none."""
    sinks: Mapping[str, str] = field(default_factory=dict)
    """Address by sink of an extension, sorted."""


@dataclass(frozen=True, slots=True)
class ClientSpec:
    """A tenant."""

    name: str
    tier: str
    monthly_fee: float | None
    keys: tuple[ClientKey, ...]
    limits: traffic.LimitPolicy = traffic.UNLIMITED
    """Limits of all its adapters together; the tier's where the client declares none."""
    notify: NotifySpec | None = None
    bill_evals: bool = False
    """Whether the client pays for evaluations; the tier's setting where not declared."""
    costs: ClientCosts = field(default_factory=ClientCosts)
    capture: traffic.CapturePolicy | None = None


@dataclass(frozen=True, slots=True)
class GatewaySpec:
    """A data-plane process; `listen` is `host:port`, `admin` the socket or URL of the operator."""

    name: str
    listen: str
    admin: str
    secret: str = ""  # reference of the operator's secret; empty: that of the state folder
    kind: GatewayKind = "fleetctl"
    servers_secret: str = ""  # reference of the secret of servers' keys; empty: they have none
    certificate: str = ""  # file with certificate and key of its admin side; empty: plain HTTP
    ssh: str = ""  # destination on whose loopback the admin side is; empty: none is needed
    server_keys: tuple[tuple[str, str], ...] = ()  # attached servers, references of their keys
    server_tls: tuple[tuple[str, ServerTls], ...] = ()  # attached servers, files for TLS to them
    usage_log: int = 0  # bytes of its usage log above which old files are removed; 0: as usual


@dataclass(frozen=True, slots=True)
class PlacementPolicy:
    """Settings of every placement."""

    utilization: float = 0.7
    """Part of a server's throughput that its worst hour may take."""
    canary_slots: int = 2
    """Slots of a starting server beyond its adapters, so that a canary needs no restart."""
    share_devices: bool = False
    """Whether servers of several bases may share a device."""


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """The declared fleet in the form for planning. Mappings are sorted by name."""

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
    versions: Mapping[str, AdapterFacts] = field(default_factory=dict)  # of the lock, by full name
    origins: Mapping[str, Position] = field(default_factory=dict)
    """Place of a field by dotted path, such as `clients.acme.adapters.support.version`."""
    renames: Mapping[str, str] = field(default_factory=dict)  # former alias by alias
    called: Mapping[str, str] = field(default_factory=dict)
    """Name in the files by dotted path, of bases, hosts and clients that are renamed."""
    warnings: tuple[str, ...] = ()
    policy: PlacementPolicy = PlacementPolicy()
    profiles: tuple[Profile, ...] = ()
    """Measured speeds of servers; other servers are estimated from first principles."""
    golden: Mapping[str, GoldenFacts] = field(default_factory=dict)
    """By path of the golden set, relative to the project."""
    notify: NotifySpec | None = None
    overrides: tuple[OverrideSpec, ...] = ()  # sorted by name; expired overrides too
    plan_rules: tuple[policies.PlanRuleSpec, ...] = ()  # sorted by name
    signing: SigningSpec = field(default_factory=SigningSpec)
    compiled_for: tuple[CompiledFor, ...] = ()  # other gateways that get the routes
    evals: EvalPolicy = field(default_factory=EvalPolicy)
    costs: CostPolicy = field(default_factory=CostPolicy)
    servers_secret: str = ""  # reference; the servers' keys are derived from it; empty: none
    settings: Mapping[str, str] = field(default_factory=dict)
    """Declared values other than the defaults by dotted path, as texts; secrets as references."""
    removed: frozenset[str] = frozenset()
    """Hosts in `hosts` that are no longer declared: all of their devices drain."""
    set_aside: Mapping[str, str] = field(default_factory=dict)  # clients that stay, with the reason
    extensions: Mapping[ExtensionGroup, Mapping[str, str]] = field(default_factory=dict)
    """Package by declared name that fleetctl does not ship, by group."""

    def declared_at(self, *path: str) -> Position | None:
        """Return the place of `path`, or of its nearest declared parent; None: not of a file."""
        parents = (".".join(path[:length]) for length in range(len(path), 0, -1))
        return next((self.origins[parent] for parent in parents if self.origins.get(parent)), None)

    def origin(self, *path: str) -> str:
        """Return `declared_at` as text, `file:line:col`; empty: not of a file."""
        return str(self.declared_at(*path) or "")
