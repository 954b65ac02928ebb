"""What may stand in the YAML files, as models. Their docstrings are the schema's texts."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fleet.units import (
    Amount,
    Count,
    Duration,
    FlagValue,
    Hours,
    Id,
    Limit,
    Listen,
    Percent,
    Port,
    SecretRef,
    Semver,
    Size,
    Url,
    Word,
)


class Section(BaseModel):
    """A map with known keys; keys that begin with `x-` are left to the reader."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


Latency = Literal["classification", "short_generation", "long_generation"]
Flag = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]


class Demand(Section):
    """The load that a client expects on one adapter."""

    peak_rpm: Amount
    """Requests per minute in the busiest hour."""
    hours: Hours = (0, 24)
    """Business hours in local time, from and to, such as `"09-18"`."""
    timezone: Word = "UTC"
    """Time zone of `hours` and `batch`, such as `Europe/Paris`."""
    batch: Hours | None = None
    """A daily batch window in local time, at peak rate, such as `"22-04"`."""
    prompt_tokens: Count = 256
    """Usual length of a prompt. Unit: tokens."""
    output_tokens: Count = 128
    """Usual length of an answer. Unit: tokens."""


class Adapter(Section):
    """One task of a client: the adapter version that its alias shall answer with."""

    base: Id
    """The base model it was trained on."""
    version: Semver
    """The wanted version, quoted: `"2.1.0"`. A new one is rolled out in stages."""
    formerly: Word | None = None
    """The alias it was known by before, such as `acme-helpdesk`; keeps its history."""
    golden: Word | None = None
    """The golden set (JSON Lines), relative to the project."""
    smoke: tuple[Word, ...] = ()
    """Inputs asked before a version gets traffic; 5 to 10 are usual."""
    latency: Latency | None = None
    """How fast answers are due (p95): classification 0.5 s, short 2 s, long 10 s."""
    demand: Demand | None = None
    """Expected load; used to spread adapters over servers."""
    rollout: Id | None = None
    """The rollout that new versions go through. Default: `defaults.rollout`."""
    replicas: Count | None = None
    """Servers that hold it at the same time. Default: that of the tier."""
    pin: Id | None = None
    """The host or attached server that must hold it."""


class Client(Section):
    """A tenant with its adapters."""

    tier: Id | None = None
    """Class of service. Default: `defaults.tier`."""
    monthly_fee: Amount | None = None
    """What the client pays a month, in the currency of the prices."""
    keys: dict[Id, SecretRef] = {}
    """API keys by name; each says where its secret is kept, `env:NAME` or `file:path`."""
    adapters: dict[Id, Adapter] = {}
    """Adapters by task; the alias is `{client}-{task}`."""


class Tier(Section):
    """A class of service."""

    replicas: Count = 1
    """Servers that hold each adapter of the tier's clients."""
    retrain_every: Duration | None = None
    """The usual time between retrainings, such as `90d`."""


class Base(Section):
    """A base model; a server has one of them in memory and serves many adapters on it."""

    model: Word
    """Path of its weights as its servers see it; relative paths start at the project."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type of the weights in memory."""
    max_model_len: Count | None = None
    """Longest prompt plus answer. Unit: tokens. Default: that of the model."""
    kv_cache: Size | None = None
    """Memory for the KV cache, such as `64MiB`. Default: what the device has left."""
    min_kv_tokens: Count = 4096
    """Least size of the KV cache that a placement must leave. Unit: tokens."""
    max_loras: Count | None = None
    """LoRA slots of each server. Default: chosen from the adapters placed on it."""
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] | None = None
    """Largest adapter rank of each server. Default: chosen from the adapters."""
    flags: dict[Flag, FlagValue] = {}
    """Further vLLM flags without dashes, such as `enable-prefix-caching: true`."""


class Device(Section):
    """A GPU, or the CPU, of a host."""

    kind: Word
    """Profile, such as `h100_80g`, `rtx4090_24g` or `cpu`."""
    memory: Size
    """Memory that a server may use, such as `80GiB`."""
    price_per_hour: Amount = 0.0
    """Cost while in use, in any one currency."""
    port: Port | None = None
    """Port of its server. Default: the host's port plus the device's position."""


class AttachedServer(Section):
    """A vLLM server that someone else starts and stops."""

    url: Url
    """Where it answers, such as `http://10.0.0.5:8000`."""
    base: Id
    """The base it serves."""
    max_loras: Count
    """LoRA slots it was started with."""
    max_lora_rank: Count
    """Largest adapter rank it was started with."""
    price_per_hour: Amount = 0.0
    """Cost, in the currency of the other prices."""


class Host(Section):
    """A machine whose devices run servers, or a group of servers run by someone else."""

    engine: Literal["local", "attach", "fake"] = "local"
    """`local`: fleetctl starts vLLM. `attach`: someone else does. `fake`: answers made up."""
    python: Word | None = None
    """Interpreter that has vLLM (engine `local`); relative to the project."""
    address: Word = "127.0.0.1"
    """Where its servers listen."""
    port: Port = 8100
    """Port of the first device's server; each further device counts up."""
    devices: dict[Id, Device] = {}
    """Devices by name, in the order of their ports."""
    servers: dict[Id, AttachedServer] = {}
    """Servers by name (engine `attach`)."""
    paths: dict[Word, Word] = {}
    """Folders here to the same folders as the servers see them (engine `attach`)."""


class Gateway(Section):
    """A process that clients talk to."""

    listen: Listen
    """Host and port for clients, such as `127.0.0.1:8080`."""
    admin: Word | None = None
    """Socket path or URL of its admin side. Default: a socket in the state folder."""


class Rollout(Section):
    """The pace at which a new version takes over a client's traffic.

    A version moves to the next weight when it has baked at this one and every gate
    passes. It drops to 0 percent the moment one gate fails.
    """

    weights: tuple[Percent, ...] = (10, 50, 100)
    """Share of requests at each stage, ascending, ending at 100. Unit: percent."""
    bake: Duration = timedelta(hours=24)
    """Least time at each stage before the next, such as `24h`. Usual: 24 to 48 hours."""
    retain: Duration = timedelta(days=7)
    """How long the replaced version stays loaded after the cut-over."""
    gates: tuple[Id, ...] = ()
    """Gates that a version must pass at each stage."""


Metric = Literal[
    "accuracy_drop",
    "hallucination_rise",
    "format_drop",
    "error_rate_rise",
    "error_rate",
    "p95_latency",
    "p95_ratio",
]
UNITS: dict[str, tuple[str, ...]] = {
    "accuracy_drop": ("pp",),
    "hallucination_rise": ("pp",),
    "format_drop": ("pp",),
    "error_rate_rise": ("pp",),
    "error_rate": ("%",),
    "p95_latency": ("ms", "s"),
    "p95_ratio": ("x",),
}
"""Units in which each metric's limit may be given."""


class Gate(Section):
    """A condition that a new version must meet before it takes more traffic."""

    metric: Metric
    """What is compared: drops and rises are against the version it replaces."""
    max: Limit
    """The worst value that passes, with its unit: `3pp`, `2%`, `1.5x`, `500ms`."""


class Defaults(Section):
    """What holds where a client or adapter says nothing else."""

    tier: Id = "standard"
    """Tier of clients. A tier `standard` exists even when none is declared."""
    rollout: Id = "standard"
    """Rollout of adapters. `standard` exists even when none is declared."""
    latency: Latency = "short_generation"
    """Latency class of adapters."""
    keep_versions: Count = 3
    """Earlier versions of each adapter that stay in the library."""


class Declarations(Section):
    """A fleet, merged from `fleet.yaml`, `clients/*.yaml` and an overlay."""

    fleet: Id
    """The fleet's name."""
    library: Word = "models"
    """Folder of base models and adapter versions, relative to the project."""
    defaults: Defaults = Defaults()
    """What holds where nothing else is said."""
    tiers: dict[Id, Tier] = {}
    """Classes of service, by name."""
    bases: dict[Id, Base] = {}
    """Base models, by name."""
    hosts: dict[Id, Host] = {}
    """Machines and attached servers, by name."""
    gateways: dict[Id, Gateway] = {}
    """Gateways, by name."""
    rollouts: dict[Id, Rollout] = {}
    """Paces at which new versions take over, by name."""
    gates: dict[Id, Gate] = {}
    """Conditions that rollouts ask for, by name."""
    clients: dict[Id, Client] = {}
    """Tenants with their adapters, by name."""
