"""Make evaluations and record them, import those of other tools, compare the judge with labels."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from fleet.errors import FleetError, did_you_mean
from fleet.evals import (
    EvalRecord,
    EvalSpec,
    Purpose,
    agreement,
    eval_spec_of,
    floor,
    objection,
    read_labels,
    with_format,
)
from fleet.history import JudgeCompared, data_of
from fleet.names import AdapterName
from runtime.evals.context import EvalContext, report_nothing
from runtime.evals.evaluate import evaluate, proves_nothing
from runtime.evals.import_results import import_run
from runtime.evals.judge import judge_labels
from runtime.evals.record import record
from runtime.evals.store import EvalStore
from runtime.evals.target import through_gateway
from runtime.files import read_plain
from runtime.messages import FailureMessage, report_quarters
from runtime.operations.versions.eval_jobs import EvalJob, read_evals, read_set
from runtime.project.load import library_folder
from runtime.secrets import read_secret
from runtime.workspace import Workspace

SILENT_S: Final = 2.0
"""Lower bound of the time between two lines of progress. Seconds."""


def eval_context(workspace: Workspace, through: str = "") -> EvalContext:
    """Return store, clock and secrets of this project's evaluations, and the way to versions.

    `through`: `server` or `gateway`; empty: as declared.

    Raises:
        FleetError: requests go through a gateway, and there is none or no secret of its operator.
    """
    fleet = workspace.fleet()

    def judge_objection(client: str) -> str:
        judge = eval_spec_of(workspace.fleet().evals).judge
        return objection(workspace.ledger().read(), judge, client)

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
    workspace: Workspace, past: dict[str, list[EvalRecord]], alias: str | None
) -> dict[str, list[EvalRecord]]:
    """Return the evaluations of an alias; None: of all.

    Raises:
        FleetError: FC5123, the alias is neither declared nor was ever evaluated.
    """
    if alias is None or alias in past:
        return {name: runs for name, runs in past.items() if alias in {None, name}}
    try:
        known = {*past, *workspace.fleet().adapters}
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
    known = workspace.fleet().versions
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
    return data_of(record(run, context.store, workspace.ledger(), library))


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
    declared = workspace.fleet().adapters.get(job.target.alias)
    golden = with_format(
        read_set(workspace.root, job.golden), declared.format if declared else None
    )
    context = eval_context(workspace, through)
    # Read before the first request: without the ledger the run would be in vain.
    known = floor(read_evals(workspace).get(job.target.alias, []), job.target.adapter)

    async def once(purpose: Purpose) -> dict[str, Any]:
        run = await evaluate(
            job.target, golden, spec, context, purpose=purpose, report=progress(purpose)
        )
        library = library_folder(workspace.root)
        return data_of(record(run, context.store, workspace.ledger(), library, job.serving))

    first = await once(job.purpose)
    if job.purpose != "anchor" or not first["summary"]["valid"] or known is not None:
        return [first]
    return [first, await once("aa")]


def _progress(
    workspace: Workspace, job: EvalJob, number: str, purpose: Purpose, *, quiet: bool
) -> Callable[[int, int], None]:
    """Return a reporter of an evaluation's progress, at most every two seconds."""
    begun = f"{number} {job.target.adapter} {purpose}"
    if not quiet:
        workspace.inform(begun)
    last = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if not quiet and done < total and now - last >= SILENT_S:
            last = now
            workspace.inform(f"{begun}: {done} of {total} answers")

    return progress


def compare_judge(workspace: Workspace, path: Path, client: str, *, quiet: bool) -> dict[str, Any]:
    """Compare the LLM judge with people's labels; record the agreement, return the entry.

    Raises:
        FleetError: no such client, a label is wrong, or the judge does not answer.
    """
    workspace.require_client(client)
    fleet = workspace.fleet()
    content = read_plain(path)
    labels, spec = read_labels(content, str(path)), eval_spec_of(fleet.evals)
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
    workspace.ledger().append([event])
    differs = [
        {"id": label.item.id, "label": _word(label.right), "judge": _word(answer)}
        for label, answer in pairs
        if answer is not label.right
    ]
    return {**data_of(event), "decides": not found.objection, "differs": differs}


def _word(answer: bool | None) -> str:  # noqa: FBT001 (a judge's answer)
    return {True: "yes", False: "no", None: "neither"}[answer]
