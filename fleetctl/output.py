"""What commands print besides their result: progress, outcomes, what is waited for."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import TYPE_CHECKING, Literal

import click

from fleet.steps import ApplyEvent, Emit
from plans.diagnostics import render_text
from plans.reports.apply_progress import line, record
from runtime.messages import FailureMessage, Message
from runtime.workspace import Workspace

if TYPE_CHECKING:  # a rollback works while an apply cannot be imported
    from runtime.execute.outcome import ApplyOutcome

Form = Literal["text", "json"]

PREFIXES = {"info": "", "warning": "Warning: ", "error": "Error: "}
"""Beginning of a message's line, by severity."""
MAX_SHOWN = 5
"""Upper bound of failures and warnings printed in full; every failure has had its line already."""


def print_message(message: Message | FailureMessage) -> None:
    """Print a message of an operation to stderr."""
    match message:
        case Message(text, severity):
            click.echo(f"{PREFIXES[severity]}{text}", err=True)
        case FailureMessage(diagnostics):
            click.echo(render_text(diagnostics, colour=sys.stderr.isatty()), err=True, nl=False)


@contextmanager
def waiting(message: str, after_s: float = 1.0) -> Iterator[None]:
    """Print `message` to stderr if the block takes longer than `after_s` seconds."""
    timer = Timer(after_s, click.echo, args=(message,), kwargs={"err": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def progress_printer(workspace: Workspace, plan_id: str, form: Form) -> Emit:
    """Return a printer of events: lines to stderr, or JSON lines to stdout with gapless `seq`."""
    seq = 0

    def emit(event: ApplyEvent) -> None:
        nonlocal seq
        seq += 1
        if form == "json":
            click.echo(record(event, seq, workspace.now(), workspace.run, plan_id))
            return
        text = line(event)
        if text:
            click.echo(text, err=True)

    return emit


def print_outcome(outcome: "ApplyOutcome") -> None:
    """Print failures with their remedies, and addresses that are not as planned, to stderr."""
    shown = [result.diagnostics for result in outcome.results.values() if result.diagnostics]
    shown.sort(key=lambda diagnostics: diagnostics[0].severity)  # errors first
    failed = [diagnostics for diagnostics in shown if diagnostics[0].severity == "error"]
    for diagnostics in shown[:MAX_SHOWN]:
        text = render_text(diagnostics, colour=sys.stderr.isatty())
        click.echo(f"\n{text}", err=True, nl=False)
    if len(shown) > MAX_SHOWN:
        click.echo(f"\n… and {len(shown) - MAX_SHOWN} more.", err=True)
    if not failed:
        for address in outcome.unconverged:
            click.echo(f"Not as planned: {address}", err=True)
    for note in outcome.notes:
        click.echo(f"Note: {note}", err=True)
    if outcome.due:
        click.echo(f"{outcome.due} further changes are due: fleetctl plan", err=True)
