"""Tell which API keys clients use, so that no new key replaces them by accident."""

import asyncio
from collections.abc import Mapping

from fleet.errors import Diagnostic, FleetError, problem
from fleet.resources import Key
from runtime.gateway.control import LocalGateways
from runtime.gateway.table import RoutingTable
from runtime.workspace import Workspace


def fingerprints_in_use(workspace: Workspace) -> Mapping[str, str]:
    """Return the fingerprints of keys that gateways take or applies established, by CLIENT/KEY.

    Raises:
        FleetError: FC6062, the routing table or the ledger cannot be read.
    """
    try:
        table = asyncio.run(_newest_table(workspace))
        known = workspace.last_known().history().established.values()
    except FleetError as error:
        first = error.diagnostics[0]
        detail = f"A new key could lock a client out. {first.summary}: {first.detail}"
        hint = first.hint
        raise FleetError.of(
            "FC6062", "The keys in use cannot be told", detail, hint=hint, command=first.command
        ) from error
    used = {
        f"{key.client}/{key.name}": key.fingerprint or "unknown"
        for key in known
        if isinstance(key, Key)
    }
    return used | {name: entry.fingerprint for name, entry in table.keys.items()}


async def _newest_table(workspace: Workspace) -> RoutingTable:
    state_dir, declared = workspace.state_dir, workspace.fleet().gateways
    async with LocalGateways(state_dir, declared, workspace.envoys()) as gateways:
        table, notes = await gateways.read_table()
        silent = [note for note in notes if note.runs and not note.answers]
        if silent and not table.revision:
            detail = f"There is no routing table here, and {silent[0]}"
            command = "fleetctl gateway status"
            raise FleetError.of("FC6062", "The keys in use cannot be told", detail, command=command)
    return table


def in_use(workspace: Workspace, name: str, place: str, fingerprint: str) -> Diagnostic:
    """Return the problem that a key of clients has no file here; `place` is the declared path."""
    path = workspace.root / place
    return problem(
        "FC6061",
        "A key that clients use has no file here",
        f"`{name}` is in use, with fingerprint {fingerprint}, and `{path}` is not there. The "
        "gateways go on taking the key, and a new one would lock out who holds it: nothing is "
        "made.",
        hint="Put the file back from where the client keeps its key; `fleetctl plan` then shows no "
        "change. To replace the key on purpose, which locks the client out at the next apply:",
        command=f"fleetctl key create {name} --replace",
    )
