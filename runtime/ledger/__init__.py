"""Ledger: the append-only record of what fleetctl did and saw. One file per home."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from fleet.errors import FleetError, did_you_mean, problem
from runtime.ledger.file import FileLedger
from runtime.ledger.protocol import Lease, Ledger

__all__ = ["HOMES", "Lease", "Ledger", "open_ledger"]

Clock = Callable[[], datetime]
Opener = Callable[[str, Path, str, str, Clock], Ledger]
"""Opens a ledger at an address, for a state folder, a run, its author and a clock."""


def _file(address: str, state_dir: Path, run: str, by: str, clock: Clock) -> Ledger:
    folder = Path(address.removeprefix("file:").removeprefix("//")) if address else state_dir
    return FileLedger(folder, run=run, by=by, clock=clock)


HOMES: Mapping[str, Opener] = MappingProxyType({"file": _file})
"""The homes by the scheme of their address."""


def open_ledger(state_dir: Path, run: str, by: str, clock: Clock, address: str = "") -> Ledger:
    """Return the ledger of a fleet; nothing is read or written yet.

    Args:
        state_dir: Folder of the file home, unless the address names another.
        run: Id of this run, stamped on every entry that it writes.
        by: Who runs it.
        clock: Gives the time, in UTC.
        address: Where the ledger lives, such as `file:///var/lib/fleet`; empty: `state_dir`.

    Raises:
        FleetError: FC5101, no home has the address's scheme.
    """
    scheme = address.partition(":")[0] if address else "file"
    if scheme not in HOMES:
        raise FleetError(
            problem(
                "FC5101",
                "No such home for a ledger",
                f"`{address}` has the scheme `{scheme}`; there are {', '.join(sorted(HOMES))}.",
                hint=did_you_mean(scheme, sorted(HOMES)),
            )
        )
    return HOMES[scheme](address, state_dir, run, by, clock)
