"""Put the verified copy of the ledger in the place of a ledger that is damaged or gone."""

from collections.abc import Sequence

from fleet.errors import FleetError
from fleet.history import Entry, Noted
from runtime.ledger.chain import DamagedLedgerError
from runtime.ledger.protocol import RestoredLedger
from runtime.workspace import Workspace


def covers_ledger(workspace: Workspace) -> bool:
    """Return whether the copy has an entry for every line of the ledger, so that no entry lacks."""
    try:
        return 0 < workspace.ledger().count() <= len(workspace.replica.read())
    except (FleetError, OSError):
        return False


def restore_ledger(workspace: Workspace) -> RestoredLedger | None:
    """Put the copy in the place of a damaged ledger, and record that; None: nothing is amiss.

    A ledger that has gone back, as after a restored backup, gets the entries that it lacks.

    Raises:
        FleetError: FC5181, there is no whole copy; FC5182, the copy is of another ledger.
    """
    ledger, copy = workspace.ledger(), list[Entry]()
    if not workspace.is_ledger_lost():
        try:
            copy = workspace.replica.beyond(ledger.read())
        except DamagedLedgerError:
            pass
        else:
            if not copy:
                return None
    done = ledger.restore(copy or _copy(workspace))
    kept = f"; the damaged file is `{done.aside.name}`" if done.aside else ""
    ledger.append([Noted(f"restored from the local copy, {done.entries} entries{kept}")])
    return done


def _copy(workspace: Workspace) -> Sequence[Entry]:
    why = "It is empty"
    try:
        if kept := workspace.replica.read():
            return kept
    except FleetError as error:
        why = error.diagnostics[0].detail
    except OSError as error:
        why = error.strerror or str(error)
    raise FleetError.of(
        "FC5181",
        "There is no whole copy of the ledger",
        f"`{workspace.replica.path}`: {why.rstrip('.')}.",
        hint="Put back a backup of the state folder. Without one, move the ledger away and rebuild "
        "it from what is live; what was held for a reason is held no more then.",
        command="fleetctl adopt",
    )
