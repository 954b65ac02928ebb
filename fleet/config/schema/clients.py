"""Declares clients, their adapters, and the tiers with their promises."""

from typing import Literal

from fleet.config.scalars.quantities import (
    Amount,
    Count,
    Duration,
    Hours,
    PromisedTime,
    Spare,
    Switch,
)
from fleet.config.scalars.texts import Id, SecretRef, Semver, Word
from fleet.config.schema.section import Section
from fleet.config.schema.traffic import Capture, ClientNotify, Format, Limits, Shadow, Timeouts
from fleet.spec import Isolation, LatencyClass, Residency, Spread


class Demand(Section):
    """The load that a client expects on an adapter."""

    peak_rpm: Amount | None = None
    """Requests per minute in the busiest hour. May be left out where `observed` is true.

    Unit: requests per minute.
    """
    observed: Switch = False
    """Whether the demand that `fleetctl demand record` measured replaces the declared demand.

    Until a demand was measured, the declared demand holds.
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
    """A task of a client: the adapter version that answers under the task's alias."""

    base: Id
    """The base model that the adapter was trained on."""
    version: Semver
    """The wanted version, quoted: `"2.1.0"`. A new one is rolled out in stages."""
    same_as: Word | None = None
    """Another version that has the same bytes on purpose, such as `acme-support-tiny-v1.0.0`.

    Without it, the bytes of another client or of an earlier version of the adapter are refused.
    `adapter add` records it in fleet.lock; it may be deleted then.
    """
    formerly: Word | None = None
    """The former alias of a renamed adapter, such as `acme-helpdesk`; keeps its history."""
    alias_for: Word | None = None
    """A further name that the client calls the adapter by, such as that of a former server.

    Gateways answer as they answer the alias; requests count for the alias.
    """
    served_as: Word | None = None
    """The name under which attached servers serve the adapter already. Default: `alias_for`.

    An adapter that is loaded under that name takes no slot beside the alias's versions in plans.
    """
    golden: Word | None = None
    """The golden set (JSON Lines), relative to the project."""
    rolling: Word | None = None
    """A golden set of fresh labelled questions, replaced weekly; shows when the world changes."""
    retrain: tuple[Word, ...] = ()
    """The command that trains a new version, as a list. Default: `defaults.retrain`.

    The command runs in the project and leaves the adapter in `{folder}`. Filled in are `{alias}`,
    `{client}`, `{task}`, `{base}`, `{version}`, `{current}`, `{golden}` and `{folder}`. It inherits
    no secret but those that leading words name: `[env:HF_TOKEN, python, train.py]`.
    """
    smoke: tuple[Word, ...] = ()
    """Inputs asked before a version gets traffic and after a rollback: 5 to 10, all different.

    The answer to at least one input must differ from the base's, or a new version gets no traffic.
    Not declared: a built-in prompt, to which any answer passes that is not empty. Each is asked as
    a chat; where the base has no chat template, as a bare prompt.
    """
    latency: LatencyClass | None = None
    """How fast answers aim to be (p95): classification 0.5 s, short 2 s, long 10 s.

    The tier may promise times, or drop the aim, see `slo`. Default: `defaults.latency`.
    """
    demand: Demand | None = None
    """Expected load; used to spread adapters over servers."""
    rollout: Id | None = None
    """The rollout that new versions go through. Default: `defaults.rollout`."""
    replicas: Count | None = None
    """Servers that hold the adapter at the same time. Unit: servers. Default: that of the tier."""
    pin: Id | None = None
    """The host or attached server that must hold the adapter."""
    avoid: tuple[Id, ...] = ()
    """Hosts and attached servers that must not hold the adapter."""
    apart: tuple[Word, ...] = ()
    """Aliases, and clients, that the adapter never shares a server with."""
    spread: Spread | None = None
    """The machine part that replicas never share, `device` or `host`. Default: that of the tier."""
    isolation: Isolation | None = None
    """The adapters that may share a server with this adapter. Default: that of the tier."""
    residency: Residency | None = None
    """Whether the adapter has a LoRA slot of its own. Default: that of the tier."""
    format: Format | None = None
    """The form that answers must have; counted on live traffic, and asked for by gates.

    `json`, `{json_schema: FILE}`, `{regex: PATTERN}` or `{labels: [A, B]}`.
    """
    sticky: Literal["session", "user", "request", "key"] = "session"
    """The part of a request that keeps a user on the same version while traffic is split.

    `session`: the header X-Session-Id, else the user named in the body. `user`: the user named in
    the body. `key`: the API key. `request`: none, every request is assigned by chance.
    """
    limits: Limits = Limits()
    """Upper bounds of the requests to the adapter."""
    choices: Count = 16
    """Upper bound of the answers to a request: `n`, times the prompts in the request.

    Unit: answers.
    """
    shadow: Shadow | None = None
    """A version that gets copies of the adapter's requests."""
    prevent_destroy: Switch = False
    """Whether a plan that ends the alias is an error. Lifting it takes an apply of its own."""


class Overage(Section):
    """The price of tokens beyond those that the monthly fee covers."""

    above: Spare
    """Tokens of prompts and answers a month that the fee covers. Unit: tokens per month."""
    per_million: Amount
    """Price of a million further tokens. Unit: currency per million tokens."""


class Client(Section):
    """A tenant with its adapters."""

    formerly: Id | None = None
    """The first name of a renamed client; it stays in aliases, keys, versions and bills."""
    prevent_destroy: Switch = False
    """Whether a plan that ends an alias of the client is an error, as `prevent_destroy` there."""
    tier: Id | None = None
    """Class of service. Default: `defaults.tier`."""
    monthly_fee: Amount | None = None
    """Amount that the client pays a month, in the currency of the prices.

    Unit: currency per month.
    """
    overage: Overage | None = None
    """Price of tokens beyond those that the fee covers. Default: the fee covers all."""
    staff_hours: Amount | None = None
    """Hours of work for the client a month. Unit: hours per month. Default: that of the tier."""
    staff_rate: Amount | None = None
    """Price of an hour of work. Unit: currency per hour. Default: that of the tier."""
    keys: dict[Id, SecretRef] = {}
    """API keys by name; a key says where its secret is kept, `env:NAME` or `file:path`."""
    notify: ClientNotify | None = None
    """Where the client is notified, such as of the rollback of an alias."""
    limits: Limits = Limits()
    """Upper bounds of the requests to all adapters together. Default: that of the tier."""
    bill_evals: Switch | None = None
    """Whether the client pays for evaluations of its adapters. Default: that of the tier."""
    capture: Capture | None = None
    """Capture of the client's requests and answers. Default: no text is ever kept."""
    adapters: dict[Id, Adapter] = {}
    """Adapters by task; the alias is `{client}-{task}`."""


class Slo(Section):
    """The p95 of an answer that a tier promises, by latency class.

    Without a promise the class has an aim, which plans and alerts tell of; `none`: not even that.
    """

    classification: PromisedTime | None = None
    """For answers of a single word. Default: the aim, `500ms`."""
    short_generation: PromisedTime | None = None
    """For short answers. Default: the aim, `2s`."""
    long_generation: PromisedTime | None = None
    """For long answers. Default: the aim, `10s`."""


class Tier(Section):
    """A class of service."""

    replicas: Count = 1
    """Servers that hold an adapter of the tier's clients at the same time. Unit: servers."""
    retrain_every: Duration | None = None
    """The usual time between retrainings, such as `90d`."""
    spread: Spread = "device"
    """The machine part that replicas of an adapter never share: a `device`, or a whole `host`."""
    isolation: Isolation = "shared"
    """The adapters that may share a server with an adapter of the tier.

    `shared`: all. `tier`: adapters of the same tier. `client`: adapters of the same client.
    """
    residency: Residency = "pinned"
    """`pinned`: every adapter has a LoRA slot of its own.

    `cached`: the adapter waits in host memory for a slot, and the first request after a pause
    takes longer.
    """
    staff_hours: Amount = 0.0
    """Hours of work a month for a client of the tier. Unit: hours per month."""
    staff_rate: Amount = 0.0
    """Price of an hour of work. Unit: currency per hour."""
    slo: Slo = Slo()
    """Promised p95 of an answer, by latency class."""
    limits: Limits = Limits()
    """Upper bounds of the requests of a client of the tier that has no limits of its own."""
    timeouts: Timeouts = Timeouts()
    """Upper bounds of the time of answers to the tier's clients."""
    bill_evals: Switch = False
    """Whether the tier's clients pay for evaluations, which then must go through a gateway."""
    weight: Count = 1
    """Turns in a row that a client gets while servers are busy, beside clients of weight 1.

    Unit: turns.

    See `max_in_flight` of a base for when servers are busy.
    """
