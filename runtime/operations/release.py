"""Release versions that are kept out of traffic, or accept a route that was changed by hand."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fleet.codec import plain
from fleet.errors import FleetError, did_you_mean
from fleet.history import (
    Released,
    clock_behind,
    kept_out,
    same_bytes,
    tampered_evidence,
)
from fleet.names import alias_of, route_address, version_of
from fleet.spec import AdapterFacts
from runtime.operations.drills import read_routing_table
from runtime.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Release:
    """The versions that were released, or the route that was accepted."""

    versions: tuple[str, ...] = ()
    """Full names of the released versions, sorted."""
    route_accepted: bool = False
    """Whether the live route was accepted in place of a version."""
    nothing: bool = False
    """Whether nothing was kept out and the route is as applied: nothing was written."""


def release_versions(workspace: Workspace, alias: str, version: str | None, reason: str) -> Release:
    """Lift all that keeps versions of an alias out, and accept its live route. Moves no traffic.

    `version`: such as `2.2.0`; None: every version that is kept out.

    Raises:
        FleetError: FC5123, no such alias; FC5124, the version is not held.
    """
    table = asyncio.run(read_routing_table(workspace))
    entries = workspace.ledger().read()
    history = workspace.history()
    holds = kept_out(history, alias) | history.fell.get(alias, {}).keys()
    entry = table.aliases.get(alias)
    tampered = alias in tampered_evidence(entries, history, {alias})
    # A release vouches for the clock here.
    late = clock_behind(entries, workspace.now()) is not None
    if entry is None and not (holds or tampered):
        detail = f"`{alias}` has neither a route nor a hold."
        hint = did_you_mean(alias, sorted(table.aliases))
        raise FleetError.of("FC5123", "No such alias", detail, hint=hint, command="fleetctl status")
    versions = _locked(workspace, alias) if version else {}
    known = {version_of(name): name for name in (*versions, *holds)}
    named = same_bytes(history, versions, alias, known[version]) if version in known else set()
    named |= {known[version]} & holds if version in known else set()  # given up
    if version is not None and not named:
        held = ", ".join(sorted(map(version_of, holds)))
        detail = f"{version} of `{alias}` is not held; held are {held or 'none'}."
        raise FleetError.of("FC5124", "The version is not held", detail, command="fleetctl status")
    route = entry.route(alias) if entry else None
    if not (holds or tampered or late) and history.established.get(route_address(alias)) == route:
        return Release(nothing=True)
    event = Released(alias, reason, plain(route))
    workspace.ledger().append([replace(event, adapter=name) for name in sorted(named)] or [event])
    freed = tuple(sorted(named or holds))
    return Release(freed, route_accepted=not freed)


def _locked(workspace: Workspace, alias: str) -> Mapping[str, AdapterFacts]:
    """Return the alias's versions in the lock; none where the declarations cannot be read."""
    try:
        found = workspace.fleet().versions
    except (FleetError, OSError):
        return {}
    return {name: facts for name, facts in found.items() if alias_of(name) == alias}
