"""Freeze and thaw the fleet; refuse work that a freeze stops."""

from collections.abc import Collection

from fleet.errors import FleetError
from fleet.history import Frozen, Thawed, frozen_fleet
from fleet.plan import Freeze
from runtime.messages import FailureMessage
from runtime.workspace import Workspace


def require_thawed(workspace: Workspace, stopped: str) -> None:
    """Refuse work while the fleet is frozen; `stopped` is a clause without its full stop.

    Raises:
        FrozenError: FC6067, the fleet is frozen.
    """
    if (freeze := workspace.history().freeze) is not None:
        raise frozen_fleet(freeze, stopped)


def freeze_fleet(workspace: Workspace, reason: str) -> Freeze:
    """Freeze the fleet, also while an apply runs, which stops before its next step.

    Raises:
        FleetError: FC6068, the fleet is frozen already, with another reason.
    """
    before = workspace.history().freeze
    if before is not None:
        raise FleetError.of(
            "FC6068",
            "The fleet is frozen already",
            f"{before.by} froze it at {before.at:%Y-%m-%d %H:%M} UTC: {before.reason}. This reason "
            "was not written down, and the first thaw would end both.",
            hint="Agree with them when to thaw. The fleet stays frozen until:",
            command="fleetctl thaw",
        )
    workspace.ledger().append([Frozen(reason)])
    after = workspace.history().freeze
    assert after is not None, "the entry was written"
    return after


def thaw_fleet(workspace: Workspace, reason: str) -> Freeze | None:
    """End the freeze; None: the fleet was not frozen, and nothing was written."""
    before = workspace.history().freeze
    if before is not None:
        workspace.ledger().append([Thawed(reason)])
    return before


def report_frozen(workspace: Workspace, freeze: Freeze, held: Collection[str]) -> int:
    """Report a freeze and the rollouts held by the freeze; return the exit code."""
    if not held:
        since = f"{freeze.at:%Y-%m-%d %H:%M} UTC by {freeze.by}: {freeze.reason}"
        workspace.inform(f"The fleet is frozen since {since}. No rollout is due.")
        return 0
    stopped = f"Rollouts that would be promoted now stay: {', '.join(sorted(held))}"
    refusal = frozen_fleet(freeze, stopped)
    workspace.emit(FailureMessage(refusal.diagnostics))
    return refusal.exit_code
