"""The live state that a command shows or plans by: a file, or the servers now."""

from pathlib import Path

from fleet.resources import State
from fleetctl.output import waiting
from plans.documents.live_file import load
from runtime.files import read_text
from runtime.workspace import Workspace


def live_state(workspace: Workspace, file: Path | None) -> State:
    """Return the live state from a file, or observed now."""
    if file:
        return load(read_text(file))
    with waiting("Observing the servers…"):
        return workspace.observe()
