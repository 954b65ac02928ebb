"""Tells with the error of a single client's mistake how the other clients go on meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from fleet.errors import ConfigError, FleetError, PlacementError
from runtime.operations.planning import plan_fleet
from runtime.workspace import Workspace


@contextmanager
def way_on_told(workspace: Workspace) -> Iterator[None]:
    """Add the way on to errors for which `--without-broken` makes a plan of a live fleet."""
    try:
        yield
    except (ConfigError, PlacementError) as error:
        trial = replace(workspace, without_broken=True, emit=lambda _: None)
        is_due = not workspace.without_broken
        try:
            aside = plan_fleet(trial).set_aside if is_due and trial.history().owned else ()
        except FleetError:
            aside = ()
        if not aside:
            raise
        names = ", ".join(note.subject for note in aside)
        way = f"Meanwhile, `--without-broken` leaves {names} as live, and the others go on."
        *others, last = error.diagnostics  # whose hint may lead to a command
        raise type(error)(*others, replace(last, detail=f"{last.detail} {way}")) from None
