"""The lease of a file ledger: one small file beside it, written whole.

The file keeps the newest fencing token for ever, also while no run holds the lease.
"""

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from fleet.codec import decode_json
from fleet.errors import FleetError, LockHeldError
from runtime.files import read_plain, replace_file
from runtime.processes import start_mark

LEASE_FILE = "lease.json"


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """The holder of the right to change the fleet, and its end."""

    token: int = 0
    """The newest fencing token ever given out."""
    holder: str = ""
    """Empty: no run holds the lease."""
    expires: str = ""
    """ISO 8601, UTC."""
    machine: str = ""
    """Which kernel and process namespace the holder's number counts in."""
    pid: int = 0
    started: str = ""

    def is_held(self, now: datetime) -> bool:
        """Return whether the lease is held: not expired, and the holder may be alive.

        A holder of this machine whose process is gone holds nothing, so that a killed run
        does not lock the fleet until its lease expires.
        """
        if not self.holder or datetime.fromisoformat(self.expires) <= now:
            return False
        return self.machine != this_machine() or start_mark(self.pid) == self.started


def read(folder: Path) -> LeaseRecord | None:
    """Return the record, or None where there is none.

    Raises:
        FleetError: FC5103, it cannot be read; which token is the newest is then unknown.
    """
    path = folder / LEASE_FILE
    try:
        return LeaseRecord(**decode_json(read_plain(path)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        detail = f"`{path}` cannot be read, so it is unknown who may change the fleet."
        hint = "See that no apply is running, then remove the file; tokens go on from the ledger's."
        raise FleetError.of("FC5103", "The lease's file is damaged", detail, hint=hint) from None


def write(folder: Path, record: LeaseRecord) -> None:
    """Keep the record, durable when this returns."""
    replace_file(folder / LEASE_FILE, json.dumps(asdict(record), sort_keys=True).encode() + b"\n")


def this_machine() -> str:
    """Return an id of this machine's boot and process namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 (not a path)
    except OSError:
        return ""


def held(record: LeaseRecord, now: datetime) -> LockHeldError:
    """Return the error that names the holder and the end of its lease."""
    rest = max(0, round((datetime.fromisoformat(record.expires) - now).total_seconds()))
    detail = (
        f"{record.holder} is changing it; its lease {record.token} ends in {rest} s unless it "
        "is renewed."
    )
    hint = "Wait for it. Planning, `status` and `rollback` work meanwhile."
    return LockHeldError.of("FC5104", "The fleet is locked", detail, hint=hint)


def lost(token: int, newest: int) -> LockHeldError:
    """Return the error of a run whose lease has been taken over."""
    detail = (
        f"This run holds lease {token}, and lease {newest} has been given out since: another "
        "run may be changing the fleet. Nothing more is done."
    )
    hint = "Wait for the other run, then plan again."
    return LockHeldError.of("FC5105", "The lease was lost", detail, hint=hint)
