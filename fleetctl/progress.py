"""Where an apply's events go: lines for people to stderr, JSON lines to stdout."""

from typing import Literal

import click

from fleet.steps import ApplyEvent, Emit
from fleetctl.session import Session

Form = Literal["text", "json"]


def teller(session: Session, plan_id: str, form: Form) -> Emit:
    """Return what an execution reports to. The machine's stream has no gaps in `seq`."""
    from plans.reports.apply_progress import line, record  # noqa: PLC0415 (keeps `--help` fast)

    seq = 0

    def tell(event: ApplyEvent) -> None:
        nonlocal seq
        seq += 1
        if form == "json":
            click.echo(record(event, seq, session.now(), session.run, plan_id))
            return
        text = line(event)
        if text:
            click.echo(text, err=True)

    return tell
