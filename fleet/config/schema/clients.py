"""Declares clients, their adapters, and the tiers with what a tier promises."""

from fleet.config.scalars.quantities import Amount, Count, Delay, Duration, Hours, Switch
from fleet.config.scalars.texts import Id, SecretRef, Semver, Word
from fleet.config.schema.section import Latency, Section, Stickiness
from fleet.config.schema.traffic import ClientNotify, Format, Limits, Shadow, Timeouts
from fleet.spec import Isolation, Residency, Spread


class Demand(Section):
    """The load that a client expects on one adapter."""

    peak_rpm: Amount | None = None
    """Requests per minute in the busiest hour. May be left out where `observed` is true."""
    observed: Switch = False
    """Whether what `fleetctl demand record` measured replaces what is declared here.

    Until something was measured, the declared demand holds.
    """
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
    rolling: Word | None = None
    """A golden set of fresh labelled questions, replaced weekly; it sees the world change."""
    retrain: tuple[Word, ...] = ()
    """The command that trains a new version, as a list. Default: `defaults.retrain`.

    It is run in the project; `{alias}`, `{client}`, `{task}`, `{base}`, `{version}`, `{current}`,
    `{golden}` and `{folder}` are filled in, and it leaves the adapter in `{folder}`.
    """
    smoke: tuple[Word, ...] = ()
    """Inputs asked before a version gets traffic and after a rollback: 5 to 10, each once.

    At least one must be answered otherwise than the base does, or a new version gets no traffic.
    """
    latency: Latency | None = None
    """How fast answers are due (p95): classification 0.5 s, short 2 s, long 10 s.

    The tier may promise other times, see `slo`.
    """
    demand: Demand | None = None
    """Expected load; used to spread adapters over servers."""
    rollout: Id | None = None
    """The rollout that new versions go through. Default: `defaults.rollout`."""
    replicas: Count | None = None
    """Servers that hold it at the same time. Default: that of the tier."""
    pin: Id | None = None
    """The host or attached server that must hold it."""
    avoid: tuple[Id, ...] = ()
    """Hosts and attached servers that must not hold it."""
    apart: tuple[Word, ...] = ()
    """Aliases, and clients, that it never shares a server with."""
    spread: Spread | None = None
    """What its replicas never share, `device` or `host`. Default: that of the tier."""
    isolation: Isolation | None = None
    """With whom it may share a server. Default: that of the tier."""
    residency: Residency | None = None
    """Whether it has a LoRA slot of its own. Default: that of the tier."""
    format: Format | None = None
    """The form that its answers must have; counted on live traffic, and asked for by gates.

    `json`, `{json_schema: FILE}`, `{regex: PATTERN}` or `{labels: [A, B]}`.
    """
    sticky: Stickiness = "session"
    """What keeps a user on one version while traffic is split.

    `session`: the header X-Session-Id, else the user named in the body. `user`: only the latter.
    `key`: the API key. `request`: nothing, each request is assigned by chance.
    """
    limits: Limits = Limits()
    """How much may be asked of it."""
    choices: Count = 16
    """Most answers to one request: `n`, times the prompts in it."""
    shadow: Shadow | None = None
    """A version that gets copies of its requests."""


class Client(Section):
    """A tenant with its adapters."""

    tier: Id | None = None
    """Class of service. Default: `defaults.tier`."""
    monthly_fee: Amount | None = None
    """What the client pays a month, in the currency of the prices."""
    keys: dict[Id, SecretRef] = {}
    """API keys by name; each says where its secret is kept, `env:NAME` or `file:path`."""
    notify: ClientNotify | None = None
    """Where the client is told, such as that one of its aliases was rolled back."""
    limits: Limits = Limits()
    """How much may be asked, of all its adapters together. Default: that of the tier."""
    bill_evals: Switch | None = None
    """Whether the client pays for evaluations of its adapters. Default: that of the tier."""
    adapters: dict[Id, Adapter] = {}
    """Adapters by task; the alias is `{client}-{task}`."""


class Slo(Section):
    """The p95 of an answer that a tier promises, by latency class."""

    classification: Delay | None = None
    """For one-word answers. Default: `500ms`."""
    short_generation: Delay | None = None
    """For short answers. Default: `2s`."""
    long_generation: Delay | None = None
    """For long answers. Default: `10s`."""


class Tier(Section):
    """A class of service."""

    replicas: Count = 1
    """Servers that hold each adapter of the tier's clients."""
    retrain_every: Duration | None = None
    """The usual time between retrainings, such as `90d`."""
    spread: Spread = "device"
    """What replicas of an adapter never share: a `device`, or a whole `host`."""
    isolation: Isolation = "shared"
    """With whom an adapter may share a server.

    `shared`: anyone. `tier`: adapters of the same tier. `client`: adapters of the same client.
    """
    residency: Residency = "pinned"
    """`pinned`: each adapter has a LoRA slot of its own.

    `cached`: it waits in host memory for one; the first request after a pause takes longer.
    """
    slo: Slo = Slo()
    """Promised p95 of an answer, by latency class."""
    limits: Limits = Limits()
    """How much each client of the tier may ask, where it has no limits of its own."""
    timeouts: Timeouts = Timeouts()
    """How long answers to its clients may take."""
    bill_evals: Switch = False
    """Whether its clients pay for evaluations; they must go through a gateway, which counts."""
    weight: Count = 1
    """Turns in a row that a client gets while servers are busy, beside clients with 1.

    See `max_in_flight` of a base for when they are.
    """
