"""Ledger: the append-only record of changes and verdicts. A file per home."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from fleet.errors import FleetError, did_you_mean
from runtime.ledger.file import FileLedger
from runtime.ledger.protocol import Lease, Ledger

__all__ = ["Lease", "Ledger", "open_ledger"]


def open_ledger(
    state_dir: Path, run: str, by: str, clock: Callable[[], datetime], address: str = ""
) -> Ledger:
    """Return the ledger of a fleet; nothing is read or written yet.

    Args:
        state_dir: Folder of the file home, unless the address names another.
        run: Id of this run, stamped on every entry that it writes.
        by: Author of the run.
        clock: Gives the time, in UTC.
        address: Where the ledger lives, such as `file:///var/lib/fleet`; empty: `state_dir`.

    Raises:
        FleetError: FC5101, no home has the address's scheme.
    """
    scheme = address.partition(":")[0] if address else "file"
    if scheme != "file":
        detail = f"`{address}` has the scheme `{scheme}`; there are file."
        hint = did_you_mean(scheme, ["file"])
        raise FleetError.of("FC5101", "No such home for a ledger", detail, hint=hint)
    folder = Path(address.removeprefix("file:").removeprefix("//")) if address else state_dir
    return FileLedger(folder, run=run, by=by, clock=clock)
