"""Defines a run of a golden set against a served name: the settings, and all answers."""

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
"""Suffix of the version and the fingerprint of the fake engine, scripted or not."""


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """An OpenAI-compatible endpoint whose model scores answers which code cannot score."""

    url: str
    model: str
    key: str = ""
    """Reference of the endpoint's API key, `env:NAME` or `file:path`; never the key."""


@dataclass(frozen=True, slots=True)
class EvalSpec:
    """How a golden set is asked. Two runs compare only where `decoding` is the same."""

    engine: str = NATIVE
    """A key of `runtime.evals.ENGINES`."""
    samples: int = 1
    """Answers to an item; 2 or more make sense only above temperature 0."""
    temperature: float = 0.0
    seed: int = 0
    concurrency: int = 4
    """Requests under way at the same time."""
    max_missing: int = 0
    """Items without an answer that a run may have; they count as wrong in both arms."""
    timeout_s: float = 60.0
    """Upper bound of the time of an answer, in seconds."""
    judge: JudgeSettings | None = None
    command: tuple[str, ...] = ()
    """The program of the engine `command`; never started through a shell."""
    pause_above: int = 4
    """Upper bound of the requests waiting on a server; the run pauses above the bound."""

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
    """A served name behind a URL, and the bytes that should answer."""

    url: str
    """URL of a server, or of a gateway."""
    model: str
    """The name that requests carry."""
    adapter: str
    """Full name of the version that must answer; the base's name where it is the base."""
    digest: str
    """Digest of the version's served files."""
    alias: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers of every request, such as a key; never written down."""
    server: str = ""
    """URL of a server that answers in the end, whose queue is watched; empty: `url` is one."""
    serving: str = ""
    """Digest of the engine behind the URL: `fleet.rollouts.engine_digest`; empty: not known."""
    fixed: bool = False
    """Whether a person named the URL, so that no other way is taken."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer to an item."""

    item: str
    sample: int = 0
    """Number of the answer to this item, from 0; repetitions of a `must_pass` item count on."""
    answer: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Scores by measure, 0 to 1; measures that could not be scored are left out."""
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
    """Fingerprint of the engine, as the server says."""
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
    """Digest of the engine, as in `EvalTarget`: a fingerprint may cover the flags alone."""

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
