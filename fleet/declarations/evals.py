"""Evaluations: how golden sets are asked, by what, and how often."""

from datetime import timedelta
from typing import Literal

from fleet.declarations.section import Section
from fleet.units import Amount, Count, Delay, Duration, SecretRef, Spare, Url, Word


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
