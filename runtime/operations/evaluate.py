"""Make evaluations one after another and record them; import those of other tools."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from fleet.errors import FleetError, did_you_mean, problem
from fleet.evals import EvalRecord, EvalSpec, Purpose, floor, with_format
from fleet.history import data_of
from fleet.names import AdapterName
from runtime.evals.evaluate import evaluate, proves_nothing
from runtime.evals.import_results import import_run
from runtime.evals.record import record
from runtime.messages import FailureMessage, Message
from runtime.operations.eval_context import eval_context
from runtime.operations.eval_jobs import (
    EvalJob,
    all_jobs,
    job_at_url,
    jobs_due,
    jobs_of,
    read_evals,
    read_set,
)
from runtime.project.load import library_folder
from runtime.workspace import Workspace

SILENT_S: Final = 2.0
"""Lower bound of the time between two lines of progress. Seconds."""


def choose_jobs(
    workspace: Workspace,
    names: tuple[str, ...],
    asked: Any,
    place: tuple[str, str | None] | None,
    *,
    due_only: bool,
) -> tuple[list[EvalJob], list[str]]:
    """Return the evaluations to make, and a note for each that cannot be made."""
    if place is not None:
        golden, purpose = asked["golden"], asked["purpose"]
        return [job_at_url(workspace, name, place, golden, purpose) for name in names], []
    live = workspace.observe()
    if due_only:
        return jobs_due(workspace, live)
    if names:
        return list(jobs_of(workspace, live, names, **asked)), []
    return all_jobs(workspace, live, **asked)


def evals_of(
    workspace: Workspace, past: dict[str, list[EvalRecord]], alias: str | None
) -> dict[str, list[EvalRecord]]:
    """Return the evaluations of one alias, or of all where none is named.

    Raises:
        FleetError: FC5123, it is neither declared nor was ever evaluated.
    """
    if alias is None or alias in past:
        return {name: runs for name, runs in past.items() if alias in {None, name}}
    try:
        known = {*past, *workspace.fleet().adapters}
    except (FleetError, OSError):  # works without declarations
        known = {*past}
    if alias in known:
        return {}
    raise FleetError(
        problem(
            "FC5123",
            "No such alias",
            f"`{alias}` is not declared, and was never evaluated.",
            hint=did_you_mean(alias, sorted(known)),
        )
    )


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
        raise FleetError(
            problem("FC3016", "No such version", detail, hint=hint, command="fleetctl adapter list")
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
    """Make an evaluation and record it; return the ledger's entries.

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
        workspace.emit(Message(begun))
    last = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if not quiet and done < total and now - last >= SILENT_S:
            last = now
            workspace.emit(Message(f"{begun}: {done} of {total} answers"))

    return progress
