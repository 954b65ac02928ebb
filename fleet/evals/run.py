"""Defines a run of a golden set against a served name, and writes and reads runs as JSON lines.

The first line is the head with the settings; every further line is an answer. The engine `command`
reads the same lines: a program prints answers, no head needed.

    {"item": "t-1", "answer": "queue=shipping", "scores": {"accuracy": 1}, "finish": "stop"}
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from fleet.codec import optional, plain
from fleet.evals.golden_item import MEASURES
from fleet.evals.records import EvalRecord
from fleet.resources import State
from fleet.spec import AdapterSpec, EvalSpec, JudgeSpec
from fleet.vllm import FAKE_SUFFIX

Purpose = Literal["gate", "anchor", "rolling", "smoke", "aa", "replay"]
"""Why a run is made. `aa`: stable against itself, for the noise floor. `replay`: captured requests
are asked again; no text of such a run is kept."""

NATIVE = "native"


def is_reusable(spec: EvalSpec) -> bool:
    """Say whether answers may be used again; never those of a program, which may have changed."""
    return spec.engine == NATIVE


def decoding_of(spec: EvalSpec) -> dict[str, Any]:
    """Return, in plain form, all that the answers depend on besides model and items."""
    judge = {"url": spec.judge.url, "model": spec.judge.model} if spec.judge else None
    return {
        "engine": spec.engine, "samples": spec.samples, "temperature": spec.temperature,
        "seed": spec.seed, "judge": judge, "command": list(spec.command),
    }  # fmt: skip


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
    """Whether no other way than the URL is taken: a person named it, or it is a canary's."""


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
    groups: Mapping[str, str] | None = optional()
    """Groups by item, of the items that name a group; None: no item does."""

    @property
    def made_up(self) -> bool:
        """Whether the fake engine answered, whose answers say nothing about the version."""
        return any(fingerprint.endswith(FAKE_SUFFIX) for fingerprint in self.fingerprints)

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


VERSION = 1
_TYPES: Mapping[str, tuple[type, ...]] = {
    "item": (str,), "sample": (int,), "answer": (str,), "scores": (dict,), "note": (str,),
    "label": (str,), "expected_label": (str,), "finish": (str,),
    "output_tokens": (int, type(None)), "seconds": (int, float, type(None)), "model": (str,),
    "fingerprint": (str,), "retry": (bool,), "error": (str,),
}  # fmt: skip
_USUAL = {**asdict(Sample("")), "item": None}
"""Default of every field; a line leaves out fields with their default, but never `item`."""
_LINE_ENDS = "\x85\u2028\u2029"
"""Characters that JSON leaves as they are, and at which a text parts into lines."""


def lines_of(run: EvalRun) -> Iterable[str]:
    """Yield a run's lines, without newlines."""
    head = plain(replace(run, samples=()))
    del head["samples"]
    yield _line({"eval_run": VERSION, **head})
    for sample in map(asdict, run.samples):
        yield _line({key: sample[key] for key in sample if sample[key] != _USUAL[key]})


def _line(document: Mapping[str, Any]) -> str:
    """Return a document as a single line; JSON reads back what `spelled_as_utf8` spells."""
    text = json.dumps(document, ensure_ascii=False)
    for line_end in _LINE_ENDS:
        text = text.replace(line_end, f"\\u{ord(line_end):04x}")
    return spelled_as_utf8(text)


def spelled_as_utf8(text: str) -> str:
    """Return a text that UTF-8 can hold: half a character, as models may say, is spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def run_of(lines: Iterable[str]) -> EvalRun:
    """Read the lines that `lines_of` wrote.

    Raises:
        ValueError: the lines are of another form; the text names the line.
    """
    rest = iter(lines)
    head = _object(next(rest, ""), 1)
    if head.pop("eval_run", None) != VERSION:
        raise ValueError("line 1 is not the head of an evaluation of this version")
    try:
        spec = dict(head.pop("spec"))
        judge = spec.pop("judge", None)
        spec["command"] = tuple(spec.get("command", ()))
        whole = EvalSpec(**spec, judge=JudgeSpec(**judge) if judge else None)
        head |= {name: datetime.fromisoformat(head[name]) for name in ("started", "finished")}
        head |= {name: tuple(head[name]) for name in ("items", "must_pass")}
        samples = tuple(sample_of(line, number) for number, line in enumerate(rest, 2))
        return EvalRun(**head, spec=whole, samples=samples)
    except (KeyError, TypeError) as error:
        raise ValueError(f"the head of an evaluation lacks or has too much: {error}") from None


def sample_of(line: str, number: int) -> Sample:
    """Read a sample line.

    Raises:
        ValueError: the line is no sample; the text names the line.
    """
    document = _object(line, number)
    if not isinstance(document.get("item"), str):
        raise ValueError(f"line {number} has no `item`")  # noqa: TRY004 (of the file, not the code)
    for key, value in document.items():
        if key not in _TYPES:
            raise ValueError(f"line {number}: unknown key `{key}`")
        if not isinstance(value, _TYPES[key]) or (isinstance(value, bool) and key != "retry"):
            raise ValueError(f"line {number}: `{key}` is {value!r}")
    for measure, score in document.get("scores", {}).items():
        if measure not in MEASURES:
            raise ValueError(f"line {number}: scores are {', '.join(MEASURES)}, not `{measure}`")
        if type(score) not in {int, float} or not 0 <= score <= 1:
            raise ValueError(f"line {number}: a score is a number from 0 to 1, not {score!r}")
    return Sample(**document)


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError(f"line {number} is not JSON: {line[:80]!r}") from None
    if not isinstance(document, dict):
        raise ValueError(f"line {number} is not a JSON object")  # noqa: TRY004 (of the file)
    return document


@dataclass(frozen=True, slots=True)
class DueEvaluation:
    """An evaluation that is due."""

    alias: str
    adapter: str
    """The version that serves."""
    purpose: Purpose
    golden: str
    """Path of the set, relative to the project."""
    reason: str


def due_evaluations(
    serving: Mapping[str, tuple[AdapterSpec, str, str]],
    past: Mapping[str, Sequence[EvalRecord]],
    every: timedelta,
    now: datetime,
) -> Iterator[DueEvaluation]:
    """Yield the evaluations that are due; `every` is the time between two of a purpose.

    `serving` has by alias: the declaration, the version with the largest share, and the identity of
    its engine and flags. `past` has all evaluations by alias.
    """
    purposes: tuple[Purpose, ...] = ("anchor", "rolling")
    for alias, (declared, adapter, engine) in sorted(serving.items()):
        for purpose, golden in zip(purposes, (declared.golden, declared.rolling), strict=True):
            runs = [
                record for record in past.get(alias, ())
                if record.valid and record.purpose == purpose and record.adapter == adapter
            ]  # fmt: skip
            reason = _reason(runs, engine if purpose == "anchor" else "", every, now)
            if golden is not None and reason:
                yield DueEvaluation(alias, adapter, purpose, golden, reason)


def _reason(runs: Sequence[EvalRecord], engine: str, every: timedelta, now: datetime) -> str:
    if not runs:
        return "never evaluated"
    last = runs[-1]
    before = str(last.summary.get("serving") or "")
    if engine and before and before != engine:
        return f"served by {engine} now, by {before} at the last"
    if now - last.at >= every:
        return f"last evaluated {(now - last.at).days} days ago"
    return ""


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A version on a server that answers."""

    adapter: str
    server: str
    url: str
    digest: str
    """Digest of the loaded bytes; empty where their path does not tell."""
    engine: str
    """Version of the engine and digest of the server's flags."""


def served_versions(live: State) -> Mapping[str, ServedVersion]:
    """Return the versions that reachable servers list, by full name: the first server by name."""
    servers = live.servers()
    served: dict[str, ServedVersion] = {}
    for adapter in live.adapters().values():
        url = live.urls.get(adapter.server)
        if url and adapter.adapter not in served:
            flags = servers[adapter.server].digest if adapter.server in servers else None
            engine = f"{live.versions.get(adapter.server, 'engine')} {flags or ''}".strip()
            served[adapter.adapter] = ServedVersion(
                adapter.adapter, adapter.server, url, adapter.digest or "", engine
            )
    return served


def answering(live: State) -> Mapping[str, str]:
    """Return the version with the largest share, by alias; of equal shares the older version."""
    return {
        alias: max(reversed(route.shares), key=lambda share: share.percent).adapter
        for alias, route in live.routes().items()
        if route.shares
    }
