"""Declares how new versions take over, and how golden sets are asked: rollouts, gates, evals."""

from datetime import timedelta
from typing import Literal

from fleet.config.scalars.quantities import (
    Amount,
    Count,
    Delay,
    Duration,
    Limit,
    Percent,
    Share,
    Spare,
)
from fleet.config.scalars.texts import Day, Digest, Id, Part, SecretRef, Url, Word
from fleet.config.schema.section import Section
from fleet.rollout_policy import Metric


class JudgeModel(Section):
    """A model at an OpenAI-compatible endpoint that scores what code cannot."""

    url: Url
    """Where it listens, without `/v1`."""
    model: Word
    """The name it is served under; another one that answers in its place is an error."""
    key: SecretRef | None = None
    """Its API key, `env:NAME` or `file:path`."""


class Evals(Section):
    """How golden sets are asked, and how often each adapter is."""

    every: Duration = timedelta(days=7)
    """Time between two scheduled evaluations of an adapter (`fleetctl eval run --due`)."""
    engine: Literal["native", "inspect", "lm_eval", "command"] = "native"
    """What asks and scores."""
    samples: Count = 1
    """Answers to each item; more than one needs a temperature above 0."""
    temperature: Amount = 0.0
    """Of the sampling; 0 is greedy."""
    concurrency: Count = 4
    """Requests under way at the same time."""
    max_missing: Spare = 0
    """Items without an answer that an evaluation may have; they count as wrong."""
    timeout: Delay = 60.0
    """For one answer."""
    judge: JudgeModel | None = None
    """Who scores the items whose metric is `judge`."""
    through: Literal["server", "gateway"] = "server"
    """Whom questions are sent to.

    `server`: a server that holds the version, which needs no gateway and is logged nowhere.
    `gateway`: with the operator's secret; each question has a row in the usage log with the
    purpose `eval`, counts for no limit and no live gate, and is billed where the tier or the
    client says so (`bill_evals`).
    """
    keep: Duration = timedelta(days=90)
    """How long the answers of an evaluation stay; `fleetctl gc` deletes older ones.

    Longer stay those that a verdict on a version of the library was computed from, and those
    that later ones are compared with. What the ledger says of an evaluation stays for ever.
    """
    pause_above: Spare = 4
    """Requests waiting on a server above which it is asked nothing more until they are served."""
    command: tuple[Word, ...] = ()
    """What the `command` engine starts, as a list; it prints samples as JSON lines."""


class Rollout(Section):
    """The pace at which a new version takes over a client's traffic.

    A version moves to the next weight when it has baked at this one and every gate
    passes. It drops to 0 percent the moment one gate fails.
    """

    weights: tuple[Percent, ...] = (10, 50, 100)
    """Share of requests at each stage, ascending, ending at 100. Unit: percent."""
    bake: Duration = timedelta(hours=24)
    """Least time at each stage before the next, such as `24h`. Usual: 24 to 48 hours."""
    max_bake: Duration | None = None
    """How long a stage may wait for a verdict before people decide. Default: twice `bake`."""
    retain: Duration = timedelta(days=7)
    """How long the replaced version stays loaded after the cut-over."""
    gates: tuple[Id, ...] = ()
    """Gates that a version must pass at each stage."""
    no_promote: tuple[Part, ...] = ()
    """Parts of the week in which no version gets more traffic: `"Fri 16:00-Mon 08:00"`."""
    timezone: Word = "UTC"
    """Time zone of `no_promote`, such as `Europe/Paris`.

    Around a change of the clock a part of the week holds by both.
    """
    when_unsure: Literal["hold", "roll_back"] = "hold"
    """What follows when `max_bake` is over and a gate cannot tell."""
    low_traffic: Share | None = None
    """First weight where the declared demand is too small to judge the usual one."""
    drill: Duration | None = None
    """How often `reconcile` practises a rollback, such as `30d`; default: never.

    No traffic moves: routes are published as they are, and the version before is asked.
    """


class Gate(Section):
    """A condition that a new version must meet before it takes more traffic.

    What it says is PASS, FAIL or INCONCLUSIVE; missing data is never a PASS.
    """

    metric: Metric
    """What is compared.

    On a golden set, before any traffic: `accuracy_drop`, `hallucination_rise`. On live
    requests against the version it replaces: `error_rate_rise`, `format_drop`,
    `truncation_rise`, and the 95th percentiles `p95_ratio` (whole answers),
    `first_token_ratio`, `token_time_ratio`; `neighbour_ratio` compares other adapters on its
    servers with those elsewhere. Against a fixed limit: `error_rate`, `p95_latency`, and
    `baseline_ratio`, both versions against the time before the rollout.
    """
    max: Limit
    """The worst value that passes, with its unit: `3pp`, `2%`, `1.5x`, `500ms`."""
    golden: Word | None = None
    """Golden set of this gate, relative to the project. Default: the adapter's."""
    score: Word | None = None
    """Metric that scores every answer, such as `exact`. Default: what each item says.

    `declared_format`: whether it has the form that the adapter's `format` asks for.
    """
    samples: Count | None = None
    """Answers asked for each golden item; more of them make a small set say more. Default: 1."""
    floor: Percent | None = None
    """Least part of golden items answered well, whatever the old version reached."""
    tolerate: Limit | None = None
    """How many times the old version's rate is no finding yet. Default: `1.25x`."""
    min_requests: Count | None = None
    """Requests of the new version below which nothing passes. Default: 50; 500 are better."""
    false_alarm: Share | None = None
    """Chance that a healthy version is ever failed by this gate. Default: `1%`."""


class Override(Section):
    """A person's acceptance of one version that gates reject, until a day."""

    accept: Digest
    """Digest of the accepted bytes, as the plan shows it."""
    alias: Word
    """The alias it holds for, such as `acme-support`."""
    gates: tuple[Id, ...] = ()
    """Gates whose verdict no longer counts. Default: all."""
    reason: Word
    """Why this version is good enough."""
    by: Word
    """Who answers for it."""
    until: Day
    """The last day on which it holds (UTC), such as `2026-12-01`."""
