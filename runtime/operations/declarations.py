"""Go on while declarations are broken: by those that were valid last, else by the valid files.

A loop that watches a fleet does not stop for a typing error in the file of a client. Without
valid declarations a round heals and rolls back; no rollout moves on.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from fleet.errors import ConfigError
from fleet.spec import FleetSpec
from runtime.messages import FailureMessage, Message
from runtime.project.load import MAIN, load_project
from runtime.workspace import Workspace


@dataclass(slots=True)
class LastValid:
    """Reads the declarations anew for every round of a process, and keeps the last valid ones."""

    _last: tuple[FleetSpec, datetime] | None = None

    def read(self, workspace: Workspace) -> tuple[Workspace, bool]:
        """Return a workspace that reads the files anew, and whether they are valid.

        Where they are not, its fleet is the last valid one, and the errors are emitted.

        Raises:
            ConfigError: no fleet was valid in this process, and `fleet.yaml` itself is broken.
        """
        fresh = replace(workspace)
        try:
            self._last = fresh.fleet(), fresh.now()
        except ConfigError as error:
            if self._last is None:
                return with_valid_files(workspace, error), False
            fleet, when = self._last
            _report(workspace, error, f"by the declarations of {when:%Y-%m-%d %H:%M:%S} UTC")
            return replace(workspace, given=fleet), False
        return fresh, True


def with_valid_files(workspace: Workspace, error: ConfigError) -> Workspace:
    """Return a workspace whose fleet is declared by the files without an error.

    Raises:
        ConfigError: `error` itself, where a problem is in `fleet.yaml` or in no file.
    """
    without: frozenset[str] = frozenset()
    found = error
    while True:
        wrong = {problem.place.file for problem in found.diagnostics if problem.place} - without
        if not wrong or MAIN in wrong:
            raise error
        without |= wrong
        try:
            rest = load_project(
                workspace.root,
                workspace.environment,
                workspace.variables,
                workspace.state_dir,
                without,
            )
        except ConfigError as more:
            found = more
            continue
        names = ", ".join(sorted(without))
        _report(workspace, error, f"by the files that are sound, without {names}")
        return replace(workspace, given=rest.fleet)


def _report(workspace: Workspace, error: ConfigError, how: str) -> None:
    workspace.emit(FailureMessage(error.diagnostics))
    text = (
        "the declarations are broken, so nothing new is deployed and no rollout moves on. "
        f"Goes {how}."
    )
    workspace.emit(Message(text, "warning"))
