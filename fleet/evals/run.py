"""Defines a run of a golden set against one served name: what was asked how, and each answer."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from fleet.spec import EvalPolicy

Purpose = Literal["gate", "anchor", "rolling", "smoke", "aa"]
"""Why a run is made. `aa`: stable against itself, for the noise floor."""

NATIVE = "native"
"""The engine of our own."""
FAKE = "+fake"
"""How version and fingerprint of the fake engine end, whatever it is told to say."""


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """An OpenAI-compatible endpoint whose model scores what code cannot."""

    url: str
    model: str
    key: str = ""
    """Reference of its API key, `env:NAME` or `file:path`; never the key."""


@dataclass(frozen=True, slots=True)
class EvalSpec:
    """How a golden set is asked. Two runs compare only where `decoding` is the same."""

    engine: str = NATIVE
    """A key of `runtime.evals.ENGINES`."""
    samples: int = 1
    """Answers to each item; more than one makes sense only above temperature 0."""
    temperature: float = 0.0
    seed: int = 0
    concurrency: int = 4
    """Requests under way at the same time."""
    max_missing: int = 0
    """Items without an answer that a run may have; they count as wrong in both arms."""
    timeout_s: float = 60.0
    """For one answer."""
    judge: JudgeSettings | None = None
    command: tuple[str, ...] = ()
    """What the `command` engine starts; never through a shell."""
    pause_above: int = 4
    """Requests waiting on a server above which it is asked nothing more for now."""

    @property
    def reusable(self) -> bool:
        """Whether answers may be used again; never those of a program, which may have changed."""
        return self.engine == NATIVE

    def decoding(self) -> dict[str, Any]:
        """Return, in plain form, all that the answers depend on besides model and items."""
        judge = {"url": self.judge.url, "model": self.judge.model} if self.judge else None
        return {
            "engine": self.engine, "samples": self.samples, "temperature": self.temperature,
            "seed": self.seed, "judge": judge, "command": list(self.command),
        }  # fmt: skip


def eval_spec_of(policy: EvalPolicy) -> EvalSpec:
    """Return how a fleet declares that golden sets are asked."""
    judge = policy.judge
    return EvalSpec(
        engine=policy.engine,
        samples=policy.samples,
        temperature=policy.temperature,
        concurrency=policy.concurrency,
        max_missing=policy.max_missing,
        timeout_s=policy.timeout_s,
        judge=JudgeSettings(judge.url, judge.model, judge.key or "") if judge else None,
        command=policy.command,
        pause_above=policy.pause_above,
    )


@dataclass(frozen=True, slots=True)
class EvalTarget:
    """What is asked: a served name behind a URL, and the bytes it should be."""

    url: str
    """Of a server, or of a gateway."""
    model: str
    """The name that requests carry."""
    adapter: str
    """Full name of the version that must answer; the base's name where it is the base."""
    digest: str
    """Of the version's served files."""
    alias: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with each request, such as a key; never written down."""
    server: str = ""
    """URL of a server that answers in the end, whose queue is watched; empty: `url` is one."""
    serving: str = ""
    """Stands for the engine behind it: `fleet.rollouts.engine_digest`; empty: not known."""
    fixed: bool = False
    """Whether a person named the URL, so that no other way is taken."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer to one item."""

    item: str
    sample: int = 0
    """Which of the answers to this item, from 0; a repetition of a `must_pass` item goes on."""
    answer: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    """By measure, 0 to 1; lacks what could not be scored."""
    note: str = ""
    """Why a score is not 1."""
    label: str = ""
    """The class that the answer names, where classes are recognised."""
    expected_label: str = ""
    finish: str = ""
    output_tokens: int | None = None
    seconds: float | None = None
    model: str = ""
    """The name that answered, as the server says."""
    fingerprint: str = ""
    """Of the engine, as the server says."""
    retry: bool = False
    """A repetition of a `must_pass` item that failed; in no average."""
    error: str = ""
    """Why there is no answer; empty where there is one."""


@dataclass(frozen=True, slots=True)
class EvalRun:
    """A finished run. Whether it counts is for `fleet.evals.summary` to say."""

    id: str
    alias: str
    adapter: str
    digest: str
    purpose: Purpose
    golden: str
    golden_digest: str
    items: tuple[str, ...]
    """Ids of the golden set's items, in its order."""
    must_pass: tuple[str, ...]
    spec: EvalSpec
    engine_version: str
    samples: tuple[Sample, ...]
    started: datetime
    finished: datetime
    cached: bool = False
    """Whether the answers are those of an earlier run of the same bytes."""
    serving: str = ""
    """Of the engine that answered, as in `EvalTarget`: a fingerprint may cover its flags alone."""

    @property
    def made_up(self) -> bool:
        """Whether the fake engine answered, whose answers say nothing about the version."""
        return any(fingerprint.endswith(FAKE) for fingerprint in self.fingerprints)

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The engines that answered, sorted."""
        return tuple(sorted({sample.fingerprint for sample in self.samples if not sample.error}))

    @property
    def models(self) -> tuple[str, ...]:
        """The served names that answered, sorted."""
        return tuple(sorted({sample.model for sample in self.samples if not sample.error}))


def cache_key(
    target: EvalTarget | EvalRun, golden_digest: str, decoding: Mapping[str, Any], fingerprint: str
) -> str:
    """Return the key under which answers of a version are cached, 64 hex digits."""
    whole: dict[str, Any] = {"adapter": target.digest, "serving": target.serving}
    whole |= {"golden": golden_digest, "fingerprint": fingerprint, "decoding": dict(decoding)}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
