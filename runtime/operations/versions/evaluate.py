"""Make evaluations and record them, import those of other tools, compare the judge with labels."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from fleet.errors import EvalError, FleetError, did_you_mean
from fleet.evals import (
    DriftStatus,
    EvalRecord,
    EvalTarget,
    GoldenSet,
    Purpose,
    QualityDrift,
    ServedVersion,
    agreement,
    answering,
    drifts,
    due_evaluations,
    eval_records,
    floor,
    objection,
    read_golden_set,
    read_labels,
    served_versions,
    with_format,
)
from fleet.history import JudgeCompared, data_of
from fleet.names import AdapterName, alias_of
from fleet.resources import State
from fleet.spec import EvalSpec, FleetSpec
from runtime.evals.context import EvalContext, report_nothing, through_gateway
from runtime.evals.evaluate import evaluate, import_run, proves_nothing
from runtime.evals.judge import judge_labels
from runtime.evals.record import record
from runtime.evals.store import EvalStore
from runtime.files import read_plain
from runtime.messages import FailureMessage, report_quarters
from runtime.project.load import library_folder
from runtime.secrets import read_secret
from runtime.trust import authorization, require_bound
from runtime.workspace import Call, LedgerContext, ProjectContext, Workspace


@dataclass(frozen=True, slots=True)
class EvalJob:
    """An evaluation to make."""

    target: EvalTarget
    golden: str
    """Path of the set, relative to the project."""
    purpose: Purpose
    serving: str
    """Engine and flags of the server that answers."""


def choose_jobs(
    workspace: Workspace,
    names: tuple[str, ...],
    asked: Any,
    place: tuple[str, str | None] | None,
    *,
    due_only: bool,
) -> tuple[list[EvalJob], list[str]]:
    """Return the evaluations to make, and notes about those that cannot be made.

    `names`: aliases or versions; none: every alias with a golden set. `asked`: `version`, `golden`
    and `purpose` of the command line. `place`: a URL, and its key's reference; None: the fleet's
    servers. `due_only`: return the evaluations that are due, in place of `names`.

    Raises:
        FleetError: an unknown name, no golden set, a version that no server holds, or a key that
            cannot be read.
    """
    fleet = workspace.project.fleet()
    if place is not None:
        url, headers = place[0], _authorization(workspace.root, *place)
        golden: str = asked["golden"]
        purpose: Purpose = asked["purpose"] or "smoke"
        targets = (_target_at(url, headers, name, fleet) for name in names)
        return [EvalJob(target, golden, purpose, url) for target in targets], []
    live = workspace.machines.observe()
    if due_only:
        return _jobs_due(workspace, live)
    served, heads = served_versions(live), answering(live)
    if names:
        return [_job_of(fleet, served, heads, name, **asked) for name in names], []
    jobs: list[EvalJob] = []
    notes: list[str] = []
    for name, adapter in fleet.adapters.items():
        if adapter.golden or asked["golden"]:
            try:
                jobs.append(_job_of(fleet, served, heads, name, **asked))
            except FleetError as error:
                notes.append(error.diagnostics[0].detail)
    return jobs, notes


def _authorization(root: Path, url: str, key: str | None) -> dict[str, str]:
    if key is None:
        return {}
    require_bound(url, key)
    if secret := read_secret(root, key):
        return authorization(url, key, secret)
    detail = f"`{key}` cannot be read here."
    raise FleetError.of("FC6703", "No API key", detail, hint="Write env:NAME or file:path.")


def _target_at(url: str, headers: Mapping[str, str], name: str, fleet: FleetSpec) -> EvalTarget:
    """Return the target of requests to any served name at a URL."""
    try:
        alias = AdapterName.parse(name).alias
    except ValueError:
        alias = name
    digest = fleet.versions[name].digest if name in fleet.versions else ""
    return EvalTarget(url, name, name, digest, alias, headers, fixed=True)


def _job_of(
    fleet: FleetSpec,
    served: Mapping[str, ServedVersion],
    heads: Mapping[str, str],
    name: str,
    *,
    version: str | None,
    golden: str | None,
    purpose: Purpose | None,
) -> EvalJob:
    """Return the evaluation of an alias or a version. `heads`: by alias, the answering version."""
    alias, adapter = _version_of(fleet, name, version, heads)
    declared = fleet.adapters.get(alias)
    path = golden or (declared.golden if declared else None)
    if path is None:
        hint = "Declare `golden: golden/FILE.jsonl` on the adapter, or give --golden."
        raise FleetError.of("FC6701", "No golden set", f"`{alias}` declares none.", hint=hint)
    if adapter not in served:
        base = adapter.rpartition("-v")[0]
        held = [name for name in sorted(served) if name.rpartition("-v")[0] == base]
        also = f" Loaded of this adapter: {', '.join(held)}." if held else ""
        near = did_you_mean(adapter, sorted(served))
        detail = f"No reachable server holds `{adapter}`, so nothing can be asked of it.{also}"
        hint = near or "Declare it and apply: it is loaded before it gets any traffic."
        raise EvalError.of(
            "FC4507", "The version is not loaded", detail, hint=hint, command="fleetctl status"
        )
    purposes: dict[str | None, Purpose] = {}
    if declared is not None:
        purposes = {declared.rolling: "rolling", declared.golden: "anchor"}
    return _job(fleet, served[adapter], path, purpose or purposes.get(path, "smoke"))


def _job(fleet: FleetSpec, version: ServedVersion, golden: str, purpose: Purpose) -> EvalJob:
    locked, name = fleet.versions.get(version.adapter), version.adapter
    digest = version.digest or (locked.digest if locked else "")
    target = EvalTarget(version.url, name, name, digest, alias_of(name))
    return EvalJob(target, golden, purpose, version.engine)


def _jobs_due(workspace: Workspace, live: State) -> tuple[list[EvalJob], list[str]]:
    """Return the evaluations due now, and notes about versions that no reachable server holds."""
    fleet, served = workspace.project.fleet(), served_versions(live)
    serving = {
        alias: (fleet.adapters[alias], name, served[name].engine if name in served else "")
        for alias, name in answering(live).items()
        if alias in fleet.adapters
    }
    jobs: list[EvalJob] = []
    notes: list[str] = []
    past = eval_records(workspace.ledger.open().read())
    for due in due_evaluations(serving, past, fleet.evals.every, workspace.now()):
        if due.adapter in served:
            jobs.append(_job(fleet, served[due.adapter], due.golden, due.purpose))
        else:
            notes.append(f"{due.adapter} is due ({due.reason}), and no reachable server holds it")
    return jobs, notes


def _version_of(
    fleet: FleetSpec, name: str, version: str | None, heads: Mapping[str, str]
) -> tuple[str, str]:
    """Return alias and full version name of a name from the command line."""
    with suppress(ValueError):
        return AdapterName.parse(name).alias, name
    if name not in fleet.adapters:
        detail = f"`{name}` is neither declared nor the full name of a version."
        hint = did_you_mean(name, sorted(fleet.adapters))
        raise FleetError.of("FC5123", "No such alias", detail, hint=hint)
    declared = fleet.adapters[name].name
    if version is not None:
        return name, f"{declared.alias}-{declared.base}-v{version.removeprefix('v')}"
    return name, heads.get(name, str(declared))


def read_set(root: Path, path: str) -> GoldenSet:
    """Read a golden set; its name in errors is as given.

    Raises:
        ConfigError: with every bad line.
        FleetError: FC6702, there is no such file.
    """
    try:
        content = read_plain(root / path)
    except OSError as error:
        detail = f"`{path}` cannot be read: {error.strerror}."
        hint = "Paths are relative to the project."
        raise FleetError.of("FC6702", "No such golden set", detail, hint=hint) from None
    return read_golden_set(content, path)


def drift_standings(
    past: Mapping[str, Sequence[EvalRecord]], live: State, wanted: Collection[DriftStatus]
) -> list[tuple[str, str, QualityDrift]]:
    """Return alias, version and finding of drift rules on serving versions, of wanted kinds."""
    return [
        (alias, adapter, drift)
        for alias, adapter in sorted(answering(live).items())
        for drift in drifts(past.get(alias, ()), adapter)
        if drift.standing in wanted
    ]


def spec_for(project: ProjectContext, changes: Mapping[str, Any]) -> EvalSpec:
    """Return the declared way of asking sets, with the changes of a command line."""
    given = {key: value for key, value in changes.items() if value is not None}
    return replace(project.fleet().evals.spec, **given)


def read_evals(ledger: LedgerContext) -> dict[str, list[EvalRecord]]:
    """Return every evaluation in the ledger, by alias."""
    return eval_records(ledger.open().read())


SILENT_S: Final = 2.0
"""Lower bound of the time between two lines of progress. Seconds."""


def eval_context(workspace: Workspace, through: str = "") -> EvalContext:
    """Return store, clock and secrets of this project's evaluations, and the way to versions.

    `through`: `server` or `gateway`; empty: as declared.

    Raises:
        FleetError: requests go through a gateway, and there is none or no secret of its operator.
    """
    fleet = workspace.project.fleet()

    def judge_objection(client: str) -> str:
        judge = workspace.project.fleet().evals.spec.judge
        return objection(workspace.ledger.open().read(), judge, client)

    context = EvalContext(
        EvalStore(workspace.state_dir / "evals"),
        workspace.now,
        lambda: uuid4().hex[:12],
        workspace.root,
        partial(read_secret, workspace.root),
        judge_objection,
        packages=fleet.extensions.get("eval_engines", {}),
    )
    if (through or fleet.evals.through) == "server":
        return context
    resolve = through_gateway(fleet.gateways.values(), workspace.state_dir)
    return replace(context, resolve_target=resolve)


def evals_of(
    project: ProjectContext, past: dict[str, list[EvalRecord]], alias: str | None
) -> dict[str, list[EvalRecord]]:
    """Return the evaluations of an alias; None: of all.

    Raises:
        FleetError: FC5123, the alias is neither declared nor was ever evaluated.
    """
    if alias is None or alias in past:
        return {name: runs for name, runs in past.items() if alias in {None, name}}
    try:
        known = {*past, *project.fleet().adapters}
    except (FleetError, OSError):  # works without declarations
        known = {*past}
    if alias in known:
        return {}
    detail = f"`{alias}` is not declared, and was never evaluated."
    raise FleetError.of("FC5123", "No such alias", detail, hint=did_you_mean(alias, sorted(known)))


def run_all(
    workspace: Workspace, todo: list[EvalJob], spec: EvalSpec, through: str = "", *, quiet: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """Make every evaluation; a failed evaluation does not end the others."""
    done: list[dict[str, Any]] = []
    failed: list[str] = []
    for place, job in enumerate(todo, 1):
        try:
            number = f"[{place}/{len(todo)}]"
            progress = partial(_progress, workspace, job, number, quiet=quiet)
            made = asyncio.run(_run(workspace, job, spec, progress, through))
            done += [
                {**entry, "finished": workspace.now().isoformat(timespec="seconds")}
                for entry in made
            ]
            wrong = [fault for entry in made for fault in entry["summary"]["faults"]]
            if wrong:
                raise proves_nothing(f"`{job.target.adapter}`", tuple(wrong))
        except FleetError as error:
            failed.append(f"{job.target.adapter}: {error}")
            workspace.emit(FailureMessage(error.diagnostics))
    return done, failed


def import_results(
    workspace: Workspace, path: Path, source: str, name: str, purpose: Purpose, chosen: str = ""
) -> dict[str, Any]:
    """Import another tool's results of a locked version; return the ledger's entry.

    `chosen` is one of lm-eval's filters, where the file has several.

    Raises:
        FleetError: no such version, or not the results of a finished evaluation.
    """
    known = workspace.project.fleet().versions
    if name not in known:
        detail = f"`{name}` is not in fleet.lock."
        hint = did_you_mean(name, sorted(known))
        raise FleetError.of(
            "FC3016", "No such version", detail, hint=hint, command="fleetctl adapter list"
        )
    context = eval_context(workspace)
    alias, digest = AdapterName.parse(name).alias, known[name].digest
    run = import_run(
        path, source, alias=alias, adapter=name, digest=digest, purpose=purpose, context=context,
        chosen=chosen,
    )  # fmt: skip
    library = library_folder(workspace.root)
    return data_of(record(run, context.store, workspace.ledger.open(), library))


async def _run(
    workspace: Workspace,
    job: EvalJob,
    spec: EvalSpec,
    progress: Callable[[Purpose], Callable[[int, int], None]],
    through: str = "",
) -> list[dict[str, Any]]:
    """Make and record an evaluation; return the ledger's entries.

    The first anchor run of a version is made twice: the number of answers that differ then is the
    noise floor of later runs.
    """
    declared = workspace.project.fleet().adapters.get(job.target.alias)
    golden = with_format(
        read_set(workspace.root, job.golden), declared.format if declared else None
    )
    context = eval_context(workspace, through)
    # Read before the first request: without the ledger the run would be in vain.
    known = floor(read_evals(workspace.ledger).get(job.target.alias, []), job.target.adapter)

    async def once(purpose: Purpose) -> dict[str, Any]:
        run = await evaluate(
            job.target, golden, spec, context, purpose=purpose, report=progress(purpose)
        )
        library = library_folder(workspace.root)
        return data_of(record(run, context.store, workspace.ledger.open(), library, job.serving))

    first = await once(job.purpose)
    if job.purpose != "anchor" or not first["summary"]["valid"] or known is not None:
        return [first]
    return [first, await once("aa")]


def _progress(
    call: Call, job: EvalJob, number: str, purpose: Purpose, *, quiet: bool
) -> Callable[[int, int], None]:
    """Return a reporter of an evaluation's progress, at most every two seconds."""
    begun = f"{number} {job.target.adapter} {purpose}"
    if not quiet:
        call.inform(begun)
    last = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if not quiet and done < total and now - last >= SILENT_S:
            last = now
            call.inform(f"{begun}: {done} of {total} answers")

    return progress


def compare_judge(workspace: Workspace, path: Path, client: str, *, quiet: bool) -> dict[str, Any]:
    """Compare the LLM judge with people's labels; record the agreement, return the entry.

    Raises:
        FleetError: no such client, a label is wrong, or the judge does not answer.
    """
    workspace.project.require_client(client)
    fleet = workspace.project.fleet()
    content = read_plain(path)
    labels, spec = read_labels(content, str(path)), fleet.evals.spec
    context = eval_context(workspace, "server")
    progress = report_nothing if quiet else report_quarters(workspace.emit, "", "labelled answers")
    answers = asyncio.run(judge_labels(labels, spec, context, progress))
    pairs = list(zip(labels, answers, strict=True))
    found = agreement([(label.right, answer) for label, answer in pairs])
    assert spec.judge is not None, "it was asked"
    digest = hashlib.sha256(content).hexdigest()
    event = JudgeCompared(
        client, spec.judge.url, spec.judge.model, str(path), digest, **found.plain()
    )
    workspace.ledger.open().append([event])
    differs = [
        {"id": label.item.id, "label": _word(label.right), "judge": _word(answer)}
        for label, answer in pairs
        if answer is not label.right
    ]
    return {**data_of(event), "decides": not found.objection, "differs": differs}


def _word(answer: bool | None) -> str:  # noqa: FBT001 (a judge's answer)
    return {True: "yes", False: "no", None: "neither"}[answer]
