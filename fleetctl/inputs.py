"""Reads live states, saved plans and durations that options name."""

from datetime import timedelta
from pathlib import Path

import click

from fleet.config import parse_duration
from fleet.plan import Plan
from fleet.resources import State
from fleetctl.output import waiting
from plans.documents import live_file, plan_file
from runtime.files import read_text
from runtime.workspace import Workspace


def live_state(workspace: Workspace, file: Path | None) -> State:
    """Return the live state from a file, or observed now."""
    if file:
        return live_file.load(read_text(file))
    with waiting("Observing the servers…"):
        return workspace.observe()


def saved_plan(file: Path) -> Plan:
    """Return the plan of a file."""
    return plan_file.load(read_text(file))


def duration(text: str, option: str) -> timedelta:
    """Read a duration such as `30s`.

    Raises:
        click.BadParameter: another form; names the option.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=f"'{option}'") from None
