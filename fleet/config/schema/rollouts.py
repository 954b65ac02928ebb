"""Declares rollouts, gates, evaluations, and the rules and signing keys of plans."""

from datetime import timedelta
from typing import Literal

from fleet.config.scalars.quantities import (
    Amount,
    Count,
    Delay,
    Duration,
    GateLimit,
    Limit,
    Percent,
    Share,
    Spare,
)
from fleet.config.scalars.texts import Day, Digest, Id, Part, SecretRef, Url, Word
from fleet.config.schema.extensions import EvalEngineName
from fleet.config.schema.section import Section
from fleet.policies import USUAL_WEIGHTS, Metric


class JudgeModel(Section):
    """A model at an OpenAI-compatible endpoint that scores answers which code cannot score."""

    url: Url
    """URL of the endpoint, without `/v1`."""
    model: Word
    """The served name; an answer under another name is an error."""
    key: SecretRef | None = None
    """The endpoint's API key, `env:NAME` or `file:path`."""


class Evals(Section):
    """How versions are evaluated on golden sets, and how often."""

    every: Duration = timedelta(days=7)
    """Time between two scheduled evaluations of an adapter (`fleetctl eval run --due`)."""
    engine: EvalEngineName = "native"
    """The engine that asks the items and scores the answers: shipped, or of `extensions`."""
    samples: Count = 1
    """Answers to a golden item; 2 or more need a temperature above 0. Unit: answers."""
    temperature: Amount = 0.0
    """Of the sampling; 0 is greedy. Unit: none."""
    concurrency: Count = 4
    """Requests under way at the same time. Unit: requests."""
    max_missing: Spare = 0
    """Items without an answer that an evaluation may have; they count as wrong. Unit: items."""
    timeout: Delay = 60.0
    """Upper bound of the time of an answer."""
    judge: JudgeModel | None = None
    """The model that scores the items whose metric is `judge`."""
    through: Literal["server", "gateway"] = "server"
    """The receiver of the questions.

    `server`: a server that holds the version; no gateway is needed and no usage is logged.
    `gateway`: a gateway, with the operator's secret; each question has a row in the usage log with
    the purpose `eval`, counts for no limit and no live gate, and is billed where the tier or the
    client says so (`bill_evals`).
    """
    keep: Duration = timedelta(days=90)
    """How long the answers of an evaluation stay; `fleetctl gc` deletes older ones.

    Answers stay longer that a verdict on a version of the library was computed from, and answers
    that later answers are compared with. The ledger's figures of an evaluation stay for ever.
    """
    pause_above: Spare = 4
    """Upper bound of the requests waiting on a server; an evaluation pauses above the bound.

    Unit: requests.
    """
    command: tuple[Word, ...] = ()
    """The program of the engine `command`, as a list; the program prints samples as JSON lines.

    It inherits no secret but those that leading words name: `[env:ASK_KEY, python, ask.py]`.
    """


class Rollout(Section):
    """The pace at which a new version takes over a client's traffic.

    A version moves to the next weight when the version has baked at this weight and every gate
    passes. The version drops to 0 percent the moment a gate fails.
    """

    weights: tuple[Percent, ...] = USUAL_WEIGHTS
    """Share of requests by stage, ascending, ending at 100. Unit: percent."""
    bake: Duration = timedelta(hours=24)
    """Least time at a stage before the next, such as `24h`. Usual: 24 to 48 hours."""
    max_bake: Duration | None = None
    """Longest wait of a stage for a verdict before people decide, in hours of usual traffic.

    A stage with little traffic, over a weekend, waits for as many requests, four times as long at
    most. Default: twice `bake`.
    """
    retain: Duration = timedelta(days=7)
    """How long the replaced version stays loaded after the cut-over."""
    gates: tuple[Id, ...] = ()
    """Gates that a version must pass at every stage."""
    no_promote: tuple[Part, ...] = ()
    """Parts of the week in which no version gets more traffic: `"Fri 16:00-Mon 08:00"`."""
    timezone: Word = "UTC"
    """Time zone of `no_promote`, such as `Europe/Paris`.

    Around a change of the clock a part of the week holds by both clocks.
    """
    when_unsure: Literal["hold", "roll_back"] = "hold"
    """The decision when `max_bake` is over and a gate is inconclusive."""
    low_traffic: Share | None = None
    """First weight where the declared demand is too small to judge at the usual first weight."""
    drill: Duration | None = None
    """How often `reconcile` practises a rollback, such as `30d`; default: never.

    No traffic moves: routes are published as they are, and the version before is asked.
    """


class Gate(Section):
    """A condition that a new version must meet before the version takes more traffic.

    A gate's verdict is PASS, FAIL or INCONCLUSIVE; missing data is never a PASS.
    """

    metric: Metric
    """The compared figure.

    Before any traffic, on a golden set: `accuracy_drop`, `hallucination_rise`; on captured requests
    that both versions are asked again: `replay_drop`. On live requests against the replaced
    version: `error_rate_rise`, `format_drop`, `truncation_rise`, and the 95th percentiles
    `first_token_ratio` and `token_time_ratio`, by which longer answers alone are not slow, and
    `p95_ratio` of whole answers; `neighbour_ratio` compares other adapters on its servers with
    those elsewhere. Against a fixed limit:
    `error_rate`, `p95_latency`, and `baseline_ratio`, both versions against the time before the
    rollout.
    """
    max: GateLimit
    """The worst value that passes, with its unit: `3pp`, `2%`, `1.5x`, `500ms`.

    On a golden set also `auto`: the smallest drop, in whole points, that the adapter's set excludes
    4 times in 5 for an unchanged version. The plan shows the value.
    """
    golden: Word | None = None
    """Golden set of this gate, relative to the project. Default: the adapter's.

    Of `replay_drop`: captured requests.
    """
    score: Word | None = None
    """Metric that scores every answer, such as `exact`. Default: the metric of each item.

    `declared_format`: whether an answer has the form that the adapter's `format` asks for.
    `intact`, the default of `replay_drop`: whether it is as sound as the earlier answer.
    """
    samples: Count | None = None
    """Answers asked for a golden item; several make a small set more conclusive.

    Unit: answers. Default: 1.
    """
    floor: Percent | None = None
    """Lower bound of the share of golden items answered well, independent of the old version."""
    alarm: Limit | None = None
    """Value beyond which a version surely is for a FAIL, in the unit of `max` and at most `max`.

    Default: `max`, the worst value that may pass. A smaller one takes a harmful version back
    sooner, and also a version that is a little worse and would pass.
    """
    tolerate: Limit | None = None
    """Multiple of the old version's rate that is no finding yet. Default: `1.25x`."""
    min_requests: Count | None = None
    """Requests of the new version below which no version passes.

    Unit: requests. Default: 50; 500 are better.
    """
    false_alarm: Share | None = None
    """Chance that a healthy version is ever failed by this gate. Default: `1%`."""


class Override(Section):
    """A person's acceptance of a version that gates reject, until a day."""

    accept: Digest
    """Digest of the accepted bytes, as the plan shows the digest."""
    alias: Word
    """The alias of the accepted version, such as `acme-support`."""
    gates: tuple[Id, ...] = ()
    """Gates whose verdict no longer counts. Default: all."""
    reason: Word
    """Why this version is good enough."""
    by: Word
    """The person responsible for the acceptance."""
    until: Day
    """The last day (UTC) of the acceptance, such as `2026-12-01`."""


class SigningKey(Section):
    """A public key whose signatures of versions count."""

    file: Word
    """The key, a PEM file of the project: a public key of an elliptic curve."""
    until: Day | None = None
    """The last day (UTC) on which its signatures count. Default: no end."""


class RuleException(Section):
    """A client or an adapter that a rule leaves out, until a day."""

    client: Id | None = None
    """The client; else `adapter`."""
    adapter: Word | None = None
    """The alias, such as `acme-support`; else `client`."""
    until: Day
    """The last day (UTC) of the exception, such as `2026-12-01`."""
    reason: Word
    """Why the rule does not hold here."""


class PlanRule(Section):
    """A limit of plans, of a single kind of the five."""

    level: Literal["advise", "warn", "deny"] = "deny"
    """The consequence of a plan that breaks the rule.

    `advise`: the plan says so. `warn`: its verdict is at least `look before you apply`, and
    `apply` repeats the warning. `deny`: `plan` exits with 1, and `apply` refuses the plan.
    """
    max_traffic_per_day: Percent | None = None
    """Kind 1: part of all requests that may move to other versions in 24 hours. Unit: percent."""
    closed: tuple[Part, ...] = ()
    """Kind 2: parts of the week in which nothing is applied, such as `"Fri 16:00-Mon 08:00"`."""
    timezone: Word = "UTC"
    """Time zone of `closed`, such as `Europe/Paris`."""
    two_approvals: Id | None = None
    """Kind 3: the tier of which every change needs the approvals of two people."""
    max_cost_rise: Percent | None = None
    """Kind 4: how much the price of the devices in use may rise with a plan. Unit: percent."""
    signed: Id | None = None
    """Kind 5: the tier of which a plan loads only signed versions, and sends requests to no other.

    `signatures` has the keys.
    """
    exceptions: dict[Id, RuleException] = {}
    """Clients and adapters that the rule leaves out, by name."""
