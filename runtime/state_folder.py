"""Keeps the state folder its owner's alone, and refuses a folder that came with a checkout.

Ledger, routes, launch records and secrets lie there: a writer of the folder decides which bytes
answer, and which processes are stopped.
"""

import os
import shlex
import stat
from pathlib import Path

from fleet.errors import FleetError
from runtime.files import PRIVATE_FOLDER
from runtime.git import tracked
from runtime.store_paths import STORE

_OTHERS = 0o077


def require_private(folder: Path) -> None:
    """Refuse a state folder that others may have written; mend the modes of one that is ours.

    Below the folder modes are mended once: with the folder closed, they let nobody in. Copies that
    servers load stay readable, for servers that see the store by a mount of their own.

    Raises:
        FleetError: FC6080, FC6081.
        OSError: the folder cannot be looked into.
    """
    try:
        status = folder.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    wrong = ""
    if stat.S_ISLNK(status.st_mode):
        wrong = f"is a link to `{folder.readlink()}`, which another person may have placed"
    elif not stat.S_ISDIR(status.st_mode):
        wrong = "is no folder"
    elif status.st_uid != os.geteuid():
        wrong = f"belongs to user {status.st_uid}, and this is user {os.geteuid()}"
    if wrong:
        raise FleetError.of(
            "FC6080",
            "State folder is not this user's own",
            f"`{folder}` {wrong}. A writer of it decides which bytes answer, so nothing was read.",
            hint="Run fleetctl as the user that owns the folder, or name the folder itself: "
            "`--state-dir DIR`.",
        )
    if file := tracked(folder.absolute()):
        raise FleetError.of(
            "FC6081",
            "State folder came with the checkout",
            f"git tracks `{file}` in `{folder}`, so a branch can plant routes, approvals and "
            "records of processes. Nothing was read.",
            hint="Where this folder is yours, take it out of git; else delete it, or leave the "
            "branch.",
            command=f"git rm -r --cached {shlex.quote(str(folder))}",
        )
    if status.st_mode & _OTHERS:
        folder.chmod(PRIVATE_FOLDER)
        _close(folder)


def _close(folder: Path) -> None:
    """Take the bits of others off all that lies in a folder but the store."""
    for place, folders, files in os.walk(folder):
        if Path(place) == folder and STORE in folders:
            folders.remove(STORE)
        for name in (*folders, *files):
            path = Path(place, name)
            mode = path.lstat().st_mode
            if not stat.S_ISLNK(mode) and mode & _OTHERS:
                path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
