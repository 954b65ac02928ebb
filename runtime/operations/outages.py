"""Observe a fleet with its outages: gateways, servers, keys, table, ledger."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fleet.history import settled
from fleet.names import LEDGER, Address
from fleet.planning import DriftCause, classify_drift, outages_of
from fleet.resources import Fault, OutageKind, State
from runtime.ledger.protocol import LedgerSnapshot
from runtime.library.served_copies import damaged
from runtime.operations.hung_servers import (
    OutageMemory,
    find_silent,
    read_memory,
    seen_again,
    with_limits,
    with_times,
    write_memory,
)
from runtime.secrets import read_secret
from runtime.store_paths import STORE
from runtime.workspace import Workspace

_FILE = "file:"


async def observe_faults(workspace: Workspace, *, remember: bool = False) -> State:
    """Observe every server and gateway, and add the faults that no engine and no gateway shows.

    Each server is asked for one token. `remember`: for later rounds.
    """
    live = await workspace.observe_now()
    memory, now = read_memory(workspace.state_dir), workspace.now()
    keys = await asyncio.to_thread(_unreadable_keys, live, workspace.root)
    live = replace(live, faults={**live.faults, **keys})
    live, silent = await find_silent(workspace.fleet(), live, workspace.state_dir, memory, now)
    if remember:
        memory = OutageMemory(seen_again(live, memory, now), silent)
        await asyncio.to_thread(write_memory, workspace.state_dir, memory)
    return with_times(live, memory)


def _unreadable_keys(live: State, root: Path) -> Mapping[Address, Fault]:
    """Return the faults of served keys whose file cannot be read here."""
    return {
        address: Fault(
            f"its secret cannot be read from `{key.reference.removeprefix(_FILE)}`: put the file "
            "back from a backup, or declare a second key and move the client over",
            f"fleetctl explain {address}",
            OutageKind.KEY_GONE,
        )
        for address, key in live.keys().items()
        if key.reference.startswith(_FILE) and read_secret(root, key.reference) is None
    }


def with_ledger(workspace: Workspace, live: State, known: LedgerSnapshot) -> State:
    """Add all that the ledger tells of faults: its own, and how often servers were replaced.

    A ledger is at fault that cannot be read, or lacks entries that were read before.
    """
    live = with_limits(live, known.standing(), workspace.now())
    fault: Fault | None = None
    if known.away is not None:
        first = known.away.diagnostics[0]
        command = first.command or "fleetctl history"
        fault = Fault(first.detail, command, OutageKind.LEDGER_DAMAGED)
    elif lacking := workspace.replica.cut(known.entries):
        path, number = next(iter(lacking.items()))
        text = (
            f"has {len(known.entries)} entries and lacks some of the {number} that were read of it "
            f"before and that `{path}` keeps: put them back, or delete that file if you know why "
            "they are gone"
        )
        fault = Fault(text, "fleetctl evidence verify", OutageKind.LEDGER_DAMAGED)
    return live if fault is None else replace(live, faults={**live.faults, LEDGER: fault})


async def causes_left(workspace: Workspace) -> tuple[DriftCause, ...]:
    """Observe again, hash the served copies, and return the causes of drift, outages first."""
    known = workspace.last_known()
    live = with_ledger(workspace, await observe_faults(workspace), known)
    history = settled(known.history(), live)
    store = workspace.state_dir / STORE
    copies = await asyncio.to_thread(damaged, live.adapters().values(), store)
    found = classify_drift(history, live, copies)
    return tuple(dict.fromkeys((*outages_of(history, live, copies), *found)))
