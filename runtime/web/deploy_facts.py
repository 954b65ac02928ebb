"""Gather the facts of the page that declares another version, and make its branch."""

from dataclasses import dataclass

from fleet.errors import FleetError
from runtime.operations.deploy import branch_change, other_versions, plan_change, version_change
from runtime.web.facts import Documents
from runtime.web.snapshot import FleetSnapshot
from runtime.web.writes import WriteOutcome
from runtime.workspace import Workspace


@dataclass(frozen=True, slots=True)
class DeployPage:
    """The page `/deploy/ALIAS`."""

    alias: str
    declared: str
    versions: tuple[str, ...]
    """Other versions of the library, the newest first."""
    version: str = ""
    """The version chosen; empty: none yet, and neither patch nor plan."""
    file: str = ""
    patch: str = ""
    plan: str = ""


def deploy_page(
    workspace: Workspace, seen: FleetSnapshot, make: Documents, alias: str, version: str, by: str
) -> DeployPage | WriteOutcome:
    """Return the change of a version and its plan; `by` a person: commit it on a branch. Blocks.

    The plan is for the servers as last read.

    Raises:
        FleetError: the version is not there, cannot be declared, or does not fit; FC6113.
    """
    names = {str(name.version): name for name in other_versions(seen.fleet, alias)}
    declared = str(seen.fleet.adapters[alias].version)
    if not version:
        return DeployPage(alias, declared, (*names,))
    change = None
    if version in names:
        change = version_change(workspace.root, seen.fleet, names[version])
    if change is None:
        raise FleetError.of(
            "FC6114",
            "The version cannot be declared here",
            f"`{alias}` has no other version of that name in fleet.lock, or its present version is "
            "not written as a plain value.",
            hint="Change the declaration by hand, then plan.",
            command="fleetctl adapter list",
        )
    if by:
        return WriteOutcome(complete=True, lines=branch_change(workspace, by, change))
    plan = make.plan(plan_change(workspace, seen.status.live, change))
    return DeployPage(alias, declared, (*names,), version, change.file, change.patch, plan)
