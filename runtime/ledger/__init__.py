"""Ledger: the append-only record of changes and verdicts. A file per home."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from runtime.ledger.chain import EntrySigner
from runtime.ledger.file import FileLedger
from runtime.ledger.postgres import PostgresLedger
from runtime.ledger.protocol import Lease, Ledger
from runtime.state.home import HomeAddress
from runtime.state.postgres import Database
from runtime.state_folder import require_private

__all__ = ["Lease", "Ledger", "open_ledger"]

HERE = HomeAddress()


def open_ledger(
    state_dir: Path,
    run: str,
    by: str,
    clock: Callable[[], datetime],
    home: HomeAddress = HERE,
    root: Path = Path(),
    signer: EntrySigner | None = None,
) -> Ledger:
    """Return the ledger of a fleet; nothing is read or written yet.

    Args:
        state_dir: Folder of the ledger, unless the home is another.
        run: Id of this run, stamped on every entry that it writes.
        by: Author of the run.
        clock: Gives the time, in UTC.
        home: Where the ledger lives.
        root: The project, where a file with the database's URI counts from.
        signer: Signs the entries that decide; None: none is signed.

    Raises:
        FleetError: FC6080, FC6081: the home is a folder that others may have written.
    """
    if home.postgresql:
        database = Database(root, home.postgresql)
        return PostgresLedger(database, home.fleet, run, by, clock, signer)
    folder = Path(home.folder) if home.folder else state_dir
    require_private(folder)
    return FileLedger(folder, run=run, by=by, clock=clock, signer=signer)
