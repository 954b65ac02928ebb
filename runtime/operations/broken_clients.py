"""Set aside the clients whose golden sets or places are broken, so that the others go on."""

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from fleet.errors import ConfigError, FleetError, PlacementError
from fleet.evals import read_golden_set
from fleet.plan import Plan
from fleet.spec import FleetSpec
from runtime.files import read_plain
from runtime.workspace import Workspace


def plan_without_unplaced(
    workspace: Workspace, make: Callable[[], Plan], error: ConfigError | PlacementError
) -> Plan:
    """Set the clients aside that have no place, or other bytes than they served with.

    Raises:
        FleetError: `error` itself, where it is not of single clients.
    """
    before, broken = workspace.aside, _without_place(workspace.fleet(), error)
    if not broken:
        raise error
    alone = [{client: why} for client, why in broken.items()] if len(broken) > 1 else []
    for clients in alone:  # without the broken client, the others may have their places
        workspace.set_aside(clients)
        with suppress(ConfigError, PlacementError):
            return make()
        workspace.aside = before
    workspace.set_aside(broken)
    try:
        return make()
    except (ConfigError, PlacementError) as further:
        return plan_without_unplaced(workspace, make, further)


def _without_place(fleet: FleetSpec, error: FleetError) -> dict[str, str]:
    """Return the reasons by client; empty: the error is not of single clients."""
    found: dict[str, str] = {}
    for problem in error.diagnostics:
        if len(problem.clients) != 1 or problem.clients[0] in fleet.set_aside:
            return {}
        found[problem.clients[0]] = problem.reason
    return found


def set_spoilt_aside(workspace: Workspace) -> None:
    """Set aside the clients of which a golden set cannot be read, where the others may go on."""
    if workspace.without_broken:
        workspace.set_aside(_golden_faults(workspace.root, workspace.fleet()))


def _golden_faults(root: Path, fleet: FleetSpec) -> dict[str, str]:
    """Return why golden sets that only clients name cannot be read, by client."""
    users: dict[str, set[str]] = defaultdict(set)
    for gate in fleet.gates.values():
        users[gate.golden or ""].add("")
    for adapter in fleet.adapters.values():
        for path in filter(None, (adapter.golden, adapter.rolling)):
            users[path].add(adapter.name.client)
    found: dict[str, str] = {}
    for path, facts in fleet.golden.items():
        clients = users[path] - fleet.set_aside.keys()
        if clients and "" not in clients and (fault := _golden_fault(root, path, facts.digest)):
            found |= dict.fromkeys(clients, fault)
    return found


@lru_cache(maxsize=4096)
def _golden_fault(root: Path, path: str, _: str) -> str:
    """Return why a golden set cannot be read; empty: it can. The last argument is its digest."""
    try:
        read_golden_set(read_plain(root / path), path)
    except ConfigError as error:
        return error.diagnostics[0].reason
    return ""
