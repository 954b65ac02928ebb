"""Makes the workspace of a call, with the printer of messages and the renderers."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.errors import FleetError
from fleet.history import Audience
from fleet.spec import FleetSpec, NotifyEvent
from fleetctl.advice import completed, given_options
from fleetctl.lazy_group import FOR_FORKS
from fleetctl.output import print_message
from runtime.ci import fork_of
from runtime.trust import require_outside
from runtime.workspace import Workspace

if TYPE_CHECKING:
    from runtime.gateway.envoy.admin import Envoys


def open_workspace(
    root: Path,
    environment: str | None,
    variables: Mapping[str, str],
    state_dir: Path,
    given: FleetSpec | None = None,
) -> Workspace:
    """Return the workspace of a project; `given` stands in for the declared fleet.

    Raises:
        FleetError: FC1274, the checkout could carry the operator's file of what is trusted.
    """
    require_outside(root)
    options = given_options(root, environment, variables, state_dir)
    notice = partial(_notice, options)
    return Workspace(
        root, environment, variables, state_dir, print_message, notice, _envoys, given=given
    )


def allowed_fork(command: str) -> str:
    """Return the words of a CI job that tell of a fork's branch; empty: there are none.

    Raises:
        FleetError: FC1278, the branch is a fork's, and the command is not for such a branch.
    """
    fork = fork_of()
    if fork and command not in FOR_FORKS:
        raise FleetError.of(
            "FC1278",
            "Command is not for the branch of a fork",
            f"`{command}` would use hosts, secrets or programs ({fork}).",
            hint="Run it once the branch is merged. Until then, plan without a connection:",
            command="fleetctl plan --offline",
        )
    return fork


def _notice(
    options: tuple[str, ...],
    event: NotifyEvent,
    audience: Audience,
    facts: Mapping[str, Any],
    template: str,
) -> Mapping[str, Any]:
    from plans.reports.notifications import document  # noqa: PLC0415 (a rollback works without)

    made = document(event, audience, facts, template)
    if audience == "client":
        return made
    return {
        name: completed(its, options) if isinstance(its, str) else its for name, its in made.items()
    }


def _envoys(root: Path) -> "Envoys":
    from fleetctl.envoys import envoys_of  # noqa: PLC0415 (most commands ask no gateway)

    return envoys_of(root)
