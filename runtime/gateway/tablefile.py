"""The routing table's file: compare-and-swap by revision, durable and atomic."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from fleet.errors import FleetError, LockHeldError, StalePlanError, problem
from runtime.durable import PRIVATE, replace_file
from runtime.gateway.table import RoutingTable

TABLE_FILE = "routes.json"
_LOCK_FILE = "routes.lock"


def read_table(state_dir: Path) -> RoutingTable | None:
    """Return the table in the file, or None if there is no file.

    Raises:
        FleetError: the file is not a routing table.
    """
    path = state_dir / TABLE_FILE
    try:
        return RoutingTable.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise FleetError(
            problem(
                "FC6002",
                "The routing table's file is damaged",
                f"`{path}` is not a routing table: {error.error_count()} problems, the first: "
                f"{error.errors(include_input=False)[0]['msg']}.",
                hint="With a gateway running, the next apply or reconcile writes it anew from "
                "there. Without one, move it away first: routes are then made anew.",
            )
        ) from None


def write_table(state_dir: Path, table: RoutingTable) -> None:
    """Replace the table in the file by a newer one; the very same one is fine.

    A damaged file is kept beside it: what is written came from a running gateway then.

    Raises:
        StalePlanError: the file holds this revision or a later one, written by another.
        LockHeldError: the file's table was written under a newer lease.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    with _locked(state_dir):
        found = _found(state_dir)
        if found is not None:
            if found.digest == table.digest:
                return
            _check(found, table)
        replace_file(state_dir / TABLE_FILE, table.canonical().encode() + b"\n")


def _found(state_dir: Path) -> RoutingTable | None:
    try:
        return read_table(state_dir)
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
