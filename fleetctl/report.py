"""What a person reads when an execution has ended."""

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from runtime.execute.outcome import ApplyOutcome

SHOWN = 5
"""Failures and warnings told in full; every failure has had its line already."""


def tell_outcome(outcome: "ApplyOutcome") -> None:
    """Print failures with their remedies, and what is not as it should be, to stderr."""
    from plans.diagnostics import render_text  # noqa: PLC0415 (keeps `--help` fast)

    told = [each.diagnostics for each in outcome.results.values() if each.diagnostics]
    told.sort(key=lambda diagnostics: diagnostics[0].severity)  # errors first
    failed = [each for each in told if each[0].severity == "error"]
    for diagnostics in told[:SHOWN]:
        text = render_text(diagnostics, colour=sys.stderr.isatty())
        click.echo(f"\n{text}", err=True, nl=False)
    if len(told) > SHOWN:
        click.echo(f"\n… and {len(told) - SHOWN} more.", err=True)
    if not failed:
        for address in outcome.unconverged:
            click.echo(f"Not as planned: {address}", err=True)
    for note in outcome.notes:
        click.echo(f"Note: {note}", err=True)
    if outcome.due:
        click.echo(f"{outcome.due} further changes are due: fleetctl plan", err=True)
