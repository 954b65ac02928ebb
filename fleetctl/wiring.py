"""Makes the workspace of a call, with the printer of messages and the renderers."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.spec import FleetSpec, NotifyEvent
from fleetctl.output import print_message
from runtime.messages import Audience
from runtime.trust_file import require_outside
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
    return Workspace(
        root, environment, variables, state_dir, print_message, _notice, _envoys, given=given
    )


def _notice(
    event: NotifyEvent, audience: Audience, facts: Mapping[str, Any], template: str
) -> Mapping[str, Any]:
    from plans.reports.notifications import document  # noqa: PLC0415 (a rollback works without)

    return document(event, audience, facts, template)


def _envoys(root: Path) -> "Envoys":
    from fleetctl.envoys import envoys_of  # noqa: PLC0415 (most commands ask no gateway)

    return envoys_of(root)
