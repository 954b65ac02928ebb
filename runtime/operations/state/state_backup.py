"""Back up and restore a state folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from fleet import __version__
from fleet.errors import FleetError
from fleet.history import ApplyStarted, BackedUp, BackupDrilled, Entry, Noted, Restored
from runtime.backup.archive import (
    STORE,
    Backup,
    Manifest,
    content_of,
    left_out,
    parts_in,
    unpack,
    write_backup,
)
from runtime.backup.restore import put_state_in_place, scratch_folder
from runtime.engines.launch_records import RECORD, LaunchRecords
from runtime.files import LARGEST_LOG, make_private, read_plain, replace_file
from runtime.gateway.admin.state_dir import PREVIOUS_FILE, TABLE_FILE, read_table
from runtime.ledger import chain
from runtime.ledger import lease as leases
from runtime.ledger.chain import DamagedLedgerError
from runtime.ledger.file import LEDGER_FILE, FileLedger, locked_ledger
from runtime.ledger.lease import LeaseRecord
from runtime.ledger.protocol import RestoredLedger
from runtime.ledger.replica import MIRROR_FILE
from runtime.operations.watch.usage import WAIT_S
from runtime.usage.tables import FOLDER, alone
from runtime.workspace import Call, LedgerContext, ProjectContext, Workspace

QUIET = (BackedUp, BackupDrilled, Restored)
"""Events that are no loss where a backup lacks them."""


@dataclass(frozen=True, slots=True)
class BackupResult:
    """A backup that was written."""

    file: Path
    sha256: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """A state folder that was restored."""

    backup: Backup
    lost: int
    """Number of entries here that the backup lacks; they are kept in `aside`."""
    aside: str
    """Name of the file with the ledger before; empty: nothing was lost."""
    kept: tuple[str, ...]
    """Files that stay as they are, because they describe the live fleet."""


def fleet_name(project: ProjectContext, entries: Sequence[Entry]) -> str:
    """Return the fleet's name, declared or else of the last apply; empty: unknown."""
    try:
        return project.fleet().name
    except (FleetError, OSError):
        applies = (entry.event for entry in entries if isinstance(entry.event, ApplyStarted))
        return max((event.fleet for event in applies), default="")


def back_up(workspace: Workspace, file: Path, *, with_keys: bool, force: bool) -> BackupResult:
    """Write a backup of the state folder, taken while no process writes to the ledger.

    Raises:
        FleetError: FC5102, the ledger was tampered with; FC6070, the file is there; FC6075, the
            fleet has no name.
    """
    path, state_dir = file.absolute(), workspace.state_dir
    if path.exists() and not force:
        detail = f"`{file}` is not overwritten: it may be the only backup that works."
        hint = "Choose another name, such as one with the date; --force overwrites."
        raise FleetError.of("FC6070", "The backup's file is there", detail, hint=hint)
    workspace.ledger.open().read()  # a lost ledger is refused, and what is queued is written down
    home = FileLedger(state_dir, run=workspace.run, by=workspace.by, clock=workspace.now)
    with locked_ledger(state_dir):
        is_home = workspace.project.home.is_state_folder
        entries = home.read() if is_home else workspace.ledger.open().read()
        contents = {
            name: content_of(part) for name, part in parts_in(state_dir, with_keys=with_keys)
        }
        sizes = left_out(state_dir, with_keys=with_keys)
        table = read_table(state_dir)
    contents[LEDGER_FILE] = b"".join(entry.line + b"\n" for entry in entries)
    name = fleet_name(workspace.project, entries)
    if not name:
        detail = (
            "Neither the declarations nor the ledger name the fleet, and a backup without a name "
            "could be restored over another fleet."
        )
        command = "fleetctl validate"
        raise FleetError.of("FC6075", "The backup would have no fleet", detail, command=command)
    keys = [entry.key() for entry in table.keys.values()] if table else []
    manifest = Manifest(
        fleet=name,
        created=workspace.now().isoformat(timespec="seconds"),
        by=workspace.by,
        version=__version__,
        seq=len(entries),
        head=entries[-1].hash if entries else "",
        with_keys=with_keys,
        fingerprints={str(key.address): key.fingerprint or "" for key in keys},
        left_out=sizes,
    )
    digest = write_backup(path, manifest, contents)
    workspace.ledger.open().append([BackedUp(str(path), digest, manifest.seq, with_keys)])
    return BackupResult(file, digest, manifest)


def restore(workspace: Workspace, file: Path, *, force: bool) -> RestoreResult:
    """Put the files of a backup in the place of those here: all of them, or none.

    Servers and gateways are not touched. A newer routing table stays, and so do the records of
    servers that run: they describe what is live, and `drift` compares them with the ledger. A
    usage store that is here stays: it is of the logs here.

    Raises:
        FleetError: FC6071, the backup is torn or altered; FC6072, it is of another fleet; FC6073,
            the state here is ahead; FC6078, the ledger has another home.
        LockHeldError: FC5104, another run holds the lease.
    """
    state_dir = workspace.state_dir
    if not workspace.project.home.is_state_folder:
        raise _elsewhere(workspace.project, file)
    make_private(state_dir / FOLDER)
    with (
        scratch_folder(state_dir) as scratch,
        locked_ledger(state_dir),
        alone(state_dir / FOLDER, WAIT_S),
    ):
        lease = leases.read(state_dir) or LeaseRecord()
        if lease.is_held(workspace.now()):
            raise leases.held(lease, workspace.now())
        backup = unpack(file, scratch)
        here, entries = _entries_here(workspace)
        _require_same_fleet(workspace.project, backup, entries, file)
        lost = _lost(backup, here, entries)
        if lost and not force:
            raise _ahead(backup, lost, file)
        left = here if lost or entries is None else b""
        aside = _stage_ledger(workspace, backup, left, lost, file)
        kept = _keep_live(state_dir, scratch)
        tokens = [lease.token, *(entry.token for entry in backup.entries)]
        if (found := leases.read(scratch)) is not None:
            tokens.append(found.token)
        leases.write(scratch, LeaseRecord(max(tokens)))
        put_state_in_place(scratch, state_dir)
    return RestoreResult(backup, lost, aside, kept)


def _entries_here(call: Call) -> tuple[bytes, list[Entry] | None]:
    """Return lines and entries of the ledger here, or of its copy where the ledger is lost.

    None: the chain is broken, and only the number of the lines is known.
    """
    for name in (LEDGER_FILE, MIRROR_FILE):
        path = call.state_dir / name
        content = read_plain(path, LARGEST_LOG) if path.is_file() else b""
        if content := content[: content.rfind(b"\n") + 1]:
            try:
                return content, list(chain.entries(content, str(path)))
            except FleetError:
                return content, None
    return b"", []


def _lost(backup: Backup, here: bytes, entries: list[Entry] | None) -> int:
    """Return the number of entries here that the backup lacks."""
    if entries is None:
        return max(0, here.count(b"\n") - len(backup.entries))
    same = 0
    for mine, theirs in zip(entries, backup.entries, strict=False):
        if mine.hash != theirs.hash:
            break
        same += 1
    return sum(not isinstance(entry.event, QUIET) for entry in entries[same:])


def _require_same_fleet(
    project: ProjectContext, backup: Backup, entries: list[Entry] | None, file: Path
) -> None:
    name = fleet_name(project, entries or ())
    if name in {"", backup.manifest.fleet}:
        return
    detail = (
        f"`{file}` is of fleet `{backup.manifest.fleet}`; this is `{name}`. Its routes and its "
        "ledger would be taken for those of this fleet."
    )
    hint = "Restore it in its own project (-C DIR), or with another --state-dir."
    raise FleetError.of("FC6072", "The backup is of another fleet", detail, hint=hint)


def _elsewhere(project: ProjectContext, file: Path) -> FleetError:
    home = str(project.home)
    return FleetError.of(
        "FC6078",
        "The ledger has another home",
        f"{home[:1].upper()}{home[1:]} has the ledger of all checkouts, and `{file}` would put an "
        "earlier one beside it.",
        hint="Restore the home by backups of its own, then add what this checkout has read since:",
        command="fleetctl ledger restore",
    )


def _ahead(backup: Backup, lost: int, file: Path) -> FleetError:
    return FleetError.of(
        "FC6073",
        "The state here is ahead of the backup",
        f"`{file}` ends with entry {backup.manifest.seq}, and the ledger here has {lost} entries "
        "that it lacks: versions that were loaded, rolled back or held since would be forgotten.",
        hint="Without need, keep the state. Else --force sets the entries here aside in a file.",
        command="fleetctl history --limit 20",
    )


def _stage_ledger(call: Call, backup: Backup, here: bytes, lost: int, file: Path) -> str:
    """Write the ledger of then, and the lines `here` aside; return the name of their file."""
    scratch, state_dir, manifest = backup.folder, call.state_dir, backup.manifest
    event = Restored(str(file.absolute()), backup.sha256, lost)
    seq, now = manifest.seq + 1, call.now()
    entry = Entry(seq, now, event, call.run, call.by, 0, manifest.head, "")
    content = b"".join(entry.line + b"\n" for entry in backup.entries) + chain.line(entry)[0]
    for name in (LEDGER_FILE, MIRROR_FILE):
        replace_file(scratch / name, content)
    if not here:
        return ""
    names = (Path(f"ledger-before-restore.{number}.jsonl") for number in count(1))
    aside = next(
        name for name in names if not ((state_dir / name).exists() or (scratch / name).exists())
    )
    replace_file(scratch / aside, here)
    return str(aside)


def _keep_live(state_dir: Path, scratch: Path) -> tuple[str, ...]:
    """Drop the files that would hide the live fleet from a restore; return their names.

    Records of servers that another machine started go too: the fleet goes on here.
    """
    for record in LaunchRecords(scratch / "servers").all():
        if record.is_elsewhere:
            (scratch / "servers" / record.name / RECORD).unlink()
    records = LaunchRecords(state_dir / "servers").all()
    running = (record.name for record in records if record.leader() is not None)
    kept = [f"servers/{name}/{RECORD}" for name in running]
    try:
        now, then = read_table(state_dir), read_table(scratch)
    except FleetError:  # a damaged table: the backup's is better
        now = then = None
    if now is not None and (then is None or now.revision >= then.revision):
        kept += [TABLE_FILE, PREVIOUS_FILE]
    if (state_dir / STORE).exists():
        kept.append(STORE)
    else:
        for end in ("-wal", "-shm"):  # of a store that was lost
            (state_dir / f"{STORE}{end}").unlink(missing_ok=True)
    there = [name for name in kept if (scratch / name).exists()]
    for name in there:
        (scratch / name).unlink()
    return tuple(there)


def covers_ledger(ledger: LedgerContext) -> bool:
    """Return whether the copy has an entry for every line of the ledger, so that no entry lacks."""
    try:
        return 0 < ledger.open().count() <= len(ledger.replica.read())
    except (FleetError, OSError):
        return False


def restore_ledger(workspace: Workspace) -> RestoredLedger | None:
    """Put the copy in the place of a damaged ledger, and record that; None: nothing is amiss.

    A ledger that has gone back, as after a restored backup, gets the entries that it lacks.

    Raises:
        FleetError: FC5181, there is no whole copy; FC5182, the copy is of another ledger.
    """
    ledger, copy = workspace.ledger.open(), list[Entry]()
    if not workspace.ledger.is_lost():
        try:
            copy = workspace.ledger.replica.beyond(ledger.read())
        except DamagedLedgerError:
            pass
        else:
            if not copy:
                return None
    done = ledger.restore(copy or _copy(workspace.ledger))
    kept = f"; the damaged file is `{done.aside.name}`" if done.aside else ""
    ledger.append([Noted(f"restored from the local copy, {done.entries} entries{kept}")])
    return done


def _copy(ledger: LedgerContext) -> Sequence[Entry]:
    why = "It is empty"
    try:
        if kept := ledger.replica.read():
            return kept
    except FleetError as error:
        why = error.diagnostics[0].detail
    except OSError as error:
        why = error.strerror or str(error)
    raise FleetError.of(
        "FC5181",
        "There is no whole copy of the ledger",
        f"`{ledger.replica.path}`: {why.rstrip('.')}.",
        hint="Put back a backup of the state folder. Without one, move the ledger away and rebuild "
        "it from what is live; what was held for a reason is held no more then.",
        command="fleetctl adopt",
    )
