"""Offline gates: evaluates both versions on the same golden set and judges pair by pair."""

import asyncio
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple

from fleet.errors import Diagnostic, EvalError, FleetError, problem_of
from fleet.evals import (
    ACCURACY,
    GROUNDED,
    NATIVE,
    CapturedText,
    EvalRun,
    EvalTarget,
    GoldenItem,
    GoldenItemError,
    GoldenSet,
    Purpose,
    in_pairs,
    must_pass_failed,
    paired_scores,
    read_golden_set,
    replayed,
    scored_by,
    spelled_as_utf8,
    to_judge,
)
from fleet.gates import LEAST_ITEMS, Finding, Verdict, judge_paired
from fleet.history import EvalFinished
from fleet.names import client_of
from fleet.policies import NEWEST, REPLAY, GateSpec
from fleet.resources import State
from fleet.response_format import ResponseFormat
from fleet.rollouts import GateTrial, engine_digest, golden_of
from fleet.spec import EvalSpec, FleetSpec
from runtime.evals.context import EvalContext, ReportProgress, report_nothing
from runtime.evals.evaluate import evaluate_pair
from runtime.evals.record import eval_event
from runtime.files import read_plain
from runtime.gates.evidence import JudgedGate, unjudged
from runtime.usage.captured import read_captured, request_of

NAME: Final = "captured"
"""The name of the requests in the place of a golden set's path."""
MOST_OF_USER: Final = 5
"""Upper bound of the requests of a user, or of a session, so that many users are asked for."""
USERS_ALIKE: Final = 0.2
"""How alike requests of a user are taken to be: less than items that were written about a document.

`make bench-gates` prints what verdicts are good for with requests that are so alike.
"""
UNANSWERED: Final = 20
"""Requests of which a single request may stay unanswered, such as a prompt that is too long."""


def read_replays(evals: EvalContext, fleet: FleetSpec, alias: str) -> GoldenSet:
    """Return the newest captured requests of an alias; each expects the answer of its time.

    A repeated request is asked once, and requests of a user, or of a session, are a group.

    Raises:
        EvalError: FC4537, fewer requests than a verdict needs.
    """
    client = client_of(alias)
    agreed = fleet.clients[client].capture is not None
    items: dict[str, GoldenItem] = {}
    first: dict[str, str] = {}
    members: Counter[str] = Counter()
    asked = hashlib.sha256()
    for found in read_captured(evals.state_dir, client, newest_first=True) if agreed else ():
        who = found.user or found.session
        group = first.get(who, found.request_id) if who else ""
        if found.alias != alias or (group and members[group] == MOST_OF_USER):
            continue
        text = CapturedText(found.request_id, request_of(found), found.answer, found.output_tokens)
        item = replayed(text, group)
        question = json.dumps([item.messages, item.prompt]) if item else ""
        if item is None or question in items:
            continue
        items[question] = item
        members[group] += 1
        first.setdefault(who, group)
        asked.update(f"{question}{found.answer}".encode())
        if len(items) == NEWEST:
            break
    if len(items) < LEAST_ITEMS:
        raise _too_few(client, alias, len(items), agreed=agreed)
    by_id = {item.id: item for item in items.values()}
    return GoldenSet(NAME, asked.hexdigest(), tuple(by_id.values()), by_id)


def replay_spec(spec: EvalSpec, items: int) -> EvalSpec:
    """Return the way in which captured requests are asked."""
    return replace(spec, engine=NATIVE, max_missing=max(spec.max_missing, items // UNANSWERED))


def _too_few(client: str, alias: str, number: int, *, agreed: bool) -> EvalError:
    why = f"{number} captured requests of `{alias}` can be asked again, and {LEAST_ITEMS} must be"
    hint = "Wait until more are captured, or name prompts: `golden: golden/FILE.jsonl` on the gate."
    if not agreed:
        why = f"`{client}` has not agreed to `capture`, so that none of its requests is kept"
        hint = 'Declare the consent: `capture: {consent: "WHO, WHEN"}`.'
    return EvalError.of("FC4537", "Too few captured requests", f"{why}.", hint=hint)


SHOWN = 3
"""Upper bound of the problems that a verdict lists in full."""
WARM = 0.7
"""Temperature where several answers to an item are asked for: at 0 they would be the same."""


@dataclass(frozen=True, slots=True)
class OfflineResult:
    """Findings and evaluations of a trial."""

    judged: tuple[JudgedGate, ...] = ()
    events: tuple[EvalFinished, ...] = ()
    """Evaluations for the ledger."""
    crashed: bool = False
    """Whether an error that nothing foresees ended an evaluation."""


class _Questions(NamedTuple):
    """The questions of gates; gates with the same questions share an evaluation."""

    path: str
    samples: int
    score: str
    replayed: bool


async def judge_golden(
    trial: GateTrial,
    fleet: FleetSpec,
    live: State,
    evals: EvalContext,
    report: ReportProgress = report_nothing,
) -> OfflineResult:
    """Judge the offline gates of a trial; gates with the same questions share an evaluation.

    An evaluation that is prevented (no server answers, another version answers, the judge is away,
    the golden set is wrong) leaves its gates INCONCLUSIVE, with the reason.
    """
    groups: dict[_Questions, list[GateSpec]] = defaultdict(list)
    for gate in trial.offline:
        path = golden_of(fleet.adapters[trial.alias], gate)
        replayed = gate.metric == REPLAY and not path
        groups[_Questions(path, gate.samples, gate.score or "", replayed)].append(gate)
    result = OfflineResult()
    for key, gates in groups.items():
        try:
            more = await _judge_group(trial, fleet, live, evals, key, gates, report)
        except Exception as error:  # noqa: BLE001 (the other rollouts must not wait for this one)
            more = prevented(trial, gates, error)
        result = OfflineResult(
            result.judged + more.judged, result.events + more.events, result.crashed or more.crashed
        )
    return result


def prevented(trial: GateTrial, gates: Iterable[GateSpec], error: Exception) -> OfflineResult:
    """Return the findings of gates whose evaluation was ended by an error: the code, no verdict."""
    why = obstacle(error)
    judged = tuple(unjudged(trial, gate, why) for gate in gates)
    return OfflineResult(judged, crashed=not isinstance(error, FleetError))


async def _judge_group(
    trial: GateTrial,
    fleet: FleetSpec,
    live: State,
    evals: EvalContext,
    asked: _Questions,
    gates: Sequence[GateSpec],
    report: ReportProgress,
) -> OfflineResult:
    form, spec = fleet.adapters[trial.alias].format, fleet.evals.spec
    purpose: Purpose = "replay" if asked.replayed else "gate"
    if asked.replayed:
        read = await asyncio.to_thread(read_replays, evals, fleet, trial.alias)
        spec = replay_spec(spec, len(read.items))
    else:
        read = await asyncio.to_thread(_read, evals, asked.path)
    golden = _scored(read, asked.score, form) if asked.score else read
    gates, advisory = _by_judge(golden, gates, evals, trial)
    if not gates:
        return OfflineResult(advisory)
    warm = spec.temperature or (WARM if asked.samples > 1 else 0.0)
    spec = replace(spec, samples=asked.samples, temperature=warm)
    old, new = targets(trial, live)
    stable, canary = await evaluate_pair(
        old,
        new,
        golden,
        spec,
        evals,
        report,
        purpose=purpose,
        engines_differ=trial.upgrade is not None,
        decided=partial(_decided, gates),
    )
    made = tuple(
        JudgedGate(
            trial,
            judge_runs(gate, stable, canary),
            {"terms": gate.terms_for(form)} | ({} if asked.replayed else {"golden": read.digest}),
            fingerprint=next(iter(canary.fingerprints), ""),
            runs=(stable.id, canary.id),
        )
        for gate in gates
    )
    events = tuple(eval_event(run, evals.store, run.serving) for run in (stable, canary))
    return OfflineResult((*made, *advisory), events)


def obstacle(error: Exception) -> str:
    """Return the obstacles of an evaluation in a line: their codes, places and remedies."""
    problems = problem_of(error).diagnostics
    why = "; ".join(map(_obstacle, problems[:SHOWN]))
    if more := len(problems[SHOWN:]):
        why += f"; and {more} more: fleetctl validate"
    return spelled_as_utf8(why)


def _obstacle(diagnostic: Diagnostic) -> str:
    where = f"{diagnostic.place}: " if diagnostic.place else ""
    command = diagnostic.command or ("fleetctl validate" if diagnostic.place else "")
    next_step = f": {command}" if command else f". {diagnostic.hint}" if diagnostic.hint else ""
    said = f"{diagnostic.summary} [{diagnostic.code}]"
    return f"{where}{said}: {diagnostic.detail.rstrip('.')}{next_step}"


def _by_judge(
    golden: GoldenSet, gates: Sequence[GateSpec], evals: EvalContext, trial: GateTrial
) -> tuple[list[GateSpec], tuple[JudgedGate, ...]]:
    """Return gates that may be judged, and findings for those that an untrusted judge decides."""
    judged = {measure for item in golden.items for measure in to_judge(item)}
    judged |= {ACCURACY} if any(map(in_pairs, golden.items)) else set()
    theirs = [gate for gate in gates if _measure(gate) in judged]
    why = evals.judge_objection(client_of(trial.alias)) if theirs else ""
    if not why:
        return list(gates), ()
    reason = f"a judge scores its answers, and {why}: fleetctl eval judge LABELS --client NAME"
    advisory = tuple(unjudged(trial, gate, reason) for gate in theirs)
    return [gate for gate in gates if gate not in theirs], advisory


def _measure(gate: GateSpec) -> str:
    return GROUNDED if gate.metric == "hallucination_rise" else ACCURACY


def judge_runs(gate: GateSpec, stable: EvalRun, canary: EvalRun) -> Finding:
    """Judge the stored scores of both versions pair by pair."""
    measure = _measure(gate)
    pair = paired_scores(stable, canary, measure)
    failed = must_pass_failed(canary) if measure == ACCURACY else ()
    return judge_paired(
        gate,
        pair.stable,
        pair.canary,
        must_pass_failed=failed,
        clusters=pair.clusters,
        alike=USERS_ALIKE if gate.metric == REPLAY else 1.0,
        early=len(canary.items) < len(stable.items),
        by_chance=pair.by_chance,
    )


def _decided(gates: Sequence[GateSpec], stable: EvalRun, canary: EvalRun) -> bool:
    """Say whether all gates have a verdict before all items were asked."""
    found = (judge_runs(gate, stable, canary).verdict for gate in gates)
    return all(verdict is not Verdict.INCONCLUSIVE for verdict in found)


def targets(trial: GateTrial, live: State) -> tuple[EvalTarget, EvalTarget]:
    """Return both targets, the old version first; on the same server where possible.

    A canary server is asked itself, as no gateway sends requests there.

    Raises:
        EvalError: FC4530, a version is loaded nowhere that can be reached.
    """
    both = [server for server in trial.servers if server in trial.stable_servers]

    def target(adapter: str, servers: Iterable[str], digest: str) -> EvalTarget:
        for name in (name for name in (*both, *servers) if name in live.urls):
            url, engine = live.urls[name], engine_digest(live, name)
            return EvalTarget(
                url,
                adapter,
                adapter,
                digest,
                trial.alias,
                serving=engine,
                fixed=trial.upgrade is not None,
            )
        detail = f"No server that answers lists `{adapter}`, so it cannot be evaluated."
        hint = "An apply loads what is declared."
        command = "fleetctl apply --auto"
        raise EvalError.of(
            "FC4530", "The version is not loaded", detail, hint=hint, command=command
        )

    return (
        target(trial.stable, trial.stable_servers, trial.digests.get("stable", "")),
        target(trial.adapter, trial.servers, trial.digests["adapter"]),
    )


def _read(evals: EvalContext, path: str) -> GoldenSet:
    if not path:
        detail = (
            "The gate compares answers on a golden set, and neither it nor the adapter names one."
        )
        hint = "Add `golden: FILE` to the adapter."
        raise EvalError.of("FC4531", "No golden set is declared", detail, hint=hint)
    try:
        content = read_plain(evals.root / path)
    except OSError as error:
        raise EvalError.of(
            "FC4532",
            "A golden set cannot be read",
            f"`{path}`: {error.strerror}. The gate has no verdict without it.",
            hint="Put the file there, or correct `golden`; paths are relative to the project.",
            command="fleetctl validate",
        ) from None
    return read_golden_set(content, path)


def _scored(golden: GoldenSet, score: str, form: ResponseFormat | None) -> GoldenSet:
    try:
        return scored_by(golden, score, form)
    except GoldenItemError as error:
        raise EvalError.of(
            "FC4536", "A gate cannot score its golden set", f"{error}.", hint=error.hint
        ) from None
