"""The routing table's file: compare-and-swap by revision, durable and atomic.

It holds the table's digest and then its canonical document. The file before it is kept: from that
one a gateway starts where the newest is torn or was changed by hand.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from fleet.errors import FleetError, LockHeldError, StalePlanError, problem
from fleet.file_formats import NewerFormatError
from runtime.files import PRIVATE, replace_file
from runtime.gateway.table import RoutingTable
from runtime.gateway.tableparse import require_format

TABLE_FILE = "routes.json"
PREVIOUS_FILE: Final = "routes.previous.json"
_LOCK_FILE = "routes.lock"
_DIGEST: Final = b'{"digest":"'
_DIGITS: Final = 64


def read_table(state_dir: Path) -> RoutingTable | None:
    """Return the table in the file, or None if there is no file.

    Raises:
        FleetError: FC6002, the file is not a routing table, or not the one that was written.
        NewerFormatError: FC5007, it is of a later format.
    """
    return _read(state_dir / TABLE_FILE)


def read_previous(state_dir: Path) -> RoutingTable | None:
    """Return the table that was replaced by the newest, or None if there was none.

    Raises:
        FleetError: as `read_table`.
    """
    return _read(state_dir / PREVIOUS_FILE)


def _read(path: Path) -> RoutingTable | None:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    require_format(raw, str(path))
    if raw.startswith(_DIGEST):  # one that was written before digests were has none
        start = len(_DIGEST)
        digest, raw = raw[start:][:_DIGITS], b"{" + raw[start + _DIGITS + 2 :].removesuffix(b"\n")
        if hashlib.sha256(raw).hexdigest().encode() != digest:
            raise _damaged(f"`{path}` is torn or was changed by hand: its digest does not fit.")
    try:
        return RoutingTable.model_validate_json(raw)
    except ValidationError as error:
        raise _damaged(
            f"`{path}` is not a routing table: {error.error_count()} problems, the first: "
            f"{error.errors(include_input=False)[0]['msg']}."
        ) from None


def _damaged(detail: str) -> FleetError:
    return FleetError(
        problem(
            "FC6002",
            "The routing table's file is damaged",
            detail,
            hint="With a gateway running, the next change of routes writes it anew from "
            "there; one that starts begins with the table before it, if there was one. Without "
            "any, move it away: routes are then made anew.",
        )
    )


def write_table(state_dir: Path, table: RoutingTable) -> None:
    """Replace the table in the file by a newer one; the very same one is fine.

    A damaged file is kept beside it: what is written came from a running gateway then.

    Raises:
        StalePlanError: the file holds this revision or a later one, written by another.
        LockHeldError: the file's table was written under a newer lease.
        NewerFormatError: FC5007, the file's table is of a later format, and stays.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    with _locked(state_dir):
        found = _found(state_dir)
        if found is not None:
            if found.digest == table.digest:
                return
            _check(found, table)
            _keep_previous(state_dir)
        body = table.canonical().encode()
        digest = hashlib.sha256(body).hexdigest().encode()
        replace_file(state_dir / TABLE_FILE, b'%b%b",%b\n' % (_DIGEST, digest, body[1:]))


def _keep_previous(state_dir: Path) -> None:
    """Give the file a second name; that takes no room, which a full disk may not have.

    Where a file system knows no such names, routes are written all the same.
    """
    scratch = state_dir / f".{PREVIOUS_FILE}"
    with suppress(OSError):
        scratch.unlink(missing_ok=True)
        scratch.hardlink_to(state_dir / TABLE_FILE)
        scratch.replace(state_dir / PREVIOUS_FILE)


def _found(state_dir: Path) -> RoutingTable | None:
    try:
        return read_table(state_dir)
    except NewerFormatError:
        raise
    except FleetError:
        path = state_dir / TABLE_FILE
        path.replace(path.with_suffix(".damaged.json"))
        return None


def _check(found: RoutingTable, table: RoutingTable) -> None:
    if table.token < found.token:
        raise LockHeldError(
            problem(
                "FC6003",
                "A newer run holds the fleet",
                f"Routes were last written under lease {found.token}; this run holds lease "
                f"{table.token}, which has expired.",
                hint="Wait for the other run, then plan again.",
            )
        )
    if table.revision <= found.revision:
        raise StalePlanError(
            problem(
                "FC6004",
                "The routing table has changed meanwhile",
                f"Revision {found.revision} was written by another run; this one wanted to write "
                f"revision {table.revision}.",
                hint="Nothing was changed. Run the command again.",
            )
        )


@contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    handle = os.open(state_dir / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
