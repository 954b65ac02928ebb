"""The evaluations that a command line asks for, one after another, with their progress."""

import asyncio
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from fleet.errors import FleetError, did_you_mean, problem
from fleet.evals import EvalRecord, EvalSpec, Purpose
from fleet.names import AdapterName
from fleetctl.evaluation import Job, all_jobs, carry_out, elsewhere, jobs, jobs_due
from fleetctl.judging import office_of
from fleetctl.session import Session
from plans.diagnostics import render_text
from runtime.evals.evaluate import proves_nothing

SILENT_S = 2.0
"""How long a waiting person hears nothing."""


def todo_of(
    session: Session,
    names: tuple[str, ...],
    asked: Any,
    place: tuple[str, str | None] | None,
    *,
    due_only: bool,
) -> tuple[list[Job], list[str]]:
    """Return the evaluations to make, and a note for each that cannot be made."""
    if place is not None:
        golden, purpose = asked["golden"], asked["purpose"]
        return [elsewhere(session, each, place, golden, purpose) for each in names], []
    live = session.observe()
    if due_only:
        return jobs_due(session, live)
    if names:
        return list(jobs(session, live, names, **asked)), []
    return all_jobs(session, live, **asked)


def of_alias(
    session: Session, past: dict[str, list[EvalRecord]], alias: str | None
) -> dict[str, list[EvalRecord]]:
    """Return the evaluations of one alias, or of all where none is named.

    Raises:
        FleetError: FC5123, it is neither declared nor was ever evaluated.
    """
    if alias is None or alias in past:
        return {name: runs for name, runs in past.items() if alias in {None, name}}
    try:
        known = {*past, *session.fleet().adapters}
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
    session: Session, todo: list[Job], spec: EvalSpec, through: str = "", *, quiet: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """Make every evaluation; one that fails does not keep the others from being made."""
    done: list[dict[str, Any]] = []
    failed: list[str] = []
    for place, job in enumerate(todo, 1):
        try:
            teller = partial(_teller, job, f"[{place}/{len(todo)}]", quiet=quiet)
            made = asyncio.run(carry_out(session, job, spec, teller, through))
            done += [
                {**each, "finished": session.now().isoformat(timespec="seconds")} for each in made
            ]
            wrong = [fault for each in made for fault in each["summary"]["faults"]]
            if wrong:
                raise proves_nothing(f"`{job.target.adapter}`", tuple(wrong))
        except FleetError as error:
            failed.append(f"{job.target.adapter}: {error}")
            shown = render_text(error.diagnostics, colour=sys.stderr.isatty())
            click.echo(shown, err=True, nl=False)
    return done, failed


def imported(
    session: Session, path: Path, source: str, name: str, purpose: Purpose, chosen: str = ""
) -> dict[str, Any]:
    """Take over another tool's results of a locked version; return the ledger's entry.

    `chosen` is one of lm-eval's filters, where the file has several.

    Raises:
        FleetError: no such version, or not the results of a finished evaluation.
    """
    from runtime.evals.import_results import import_run  # noqa: PLC0415
    from runtime.evals.record import record  # noqa: PLC0415 (keeps small commands fast)

    known = session.fleet().versions
    if name not in known:
        detail = f"`{name}` is not in fleet.lock."
        hint = did_you_mean(name, sorted(known))
        raise FleetError(
            problem("FC3016", "No such version", detail, hint=hint, command="fleetctl adapter list")
        )
    office = office_of(session)
    alias, digest = AdapterName.parse(name).alias, known[name].digest
    run = import_run(
        path, source, alias=alias, adapter=name, digest=digest, purpose=purpose, context=office,
        chosen=chosen,
    )  # fmt: skip
    return record(run, office.store, session.ledger(), session.library)


def tell_people(session: Session) -> None:
    """Tell client and operators, once, what scheduled evaluations have shown."""
    from fleetctl.telling import standing, tell_occasions  # noqa: PLC0415 (keeps `--help` fast)

    found = [each for each in standing(session, session.observe()) if each.event == "drifted"]
    for line in asyncio.run(tell_occasions(session, found)):
        click.echo(f"Warning: {line}", err=True)


def _teller(job: Job, number: str, purpose: Purpose, *, quiet: bool) -> Callable[[int, int], None]:
    """Return what tells a waiting person how far an evaluation is, at most every two seconds."""
    begun = f"{number} {job.target.adapter} {purpose}"
    if not quiet:
        click.echo(begun, err=True)
    said = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if not quiet and done < total and now - said >= SILENT_S:
            said = now
            click.echo(f"{begun}: {done} of {total} answers", err=True)

    return tell
