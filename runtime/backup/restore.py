"""Puts the files of a restore into place: all of them, or none.

The files are made ready in a scratch folder inside the state folder. The rename of that folder to
`restoring` decides: before, the state is the old one; afterwards every command that opens the state
folder first moves what is left of the files into place, also after a kill or a power failure.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from runtime.files import make_private, sync
from runtime.ledger.file import locked_ledger

RESTORING: Final = "restoring"
"""Folder with files that wait for their place, laid out as the state folder."""
_SCRATCH: Final = ".restoring-"


def finish_restore(state_dir: Path) -> None:
    """Finish an interrupted restore; without one nothing happens.

    Raises:
        FleetError: FC5107, another process restores and has stopped.
        OSError: a file cannot be moved.
    """
    if (state_dir / RESTORING).is_dir():
        with locked_ledger(state_dir):
            _move_into_place(state_dir)


@contextmanager
def scratch_folder(state_dir: Path) -> Iterator[Path]:
    """Give an empty folder inside the state folder, deleted at the end unless moved."""
    scratch = state_dir / f"{_SCRATCH}{os.getpid()}"
    shutil.rmtree(scratch, ignore_errors=True)
    make_private(scratch)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def put_state_in_place(scratch: Path, state_dir: Path) -> None:
    """Give the files of a scratch folder their places; the caller has locked the ledger.

    Raises:
        OSError: the disk; before the decision nothing has changed.
    """
    for path in [*scratch.rglob("*"), scratch]:
        sync(path)
    _move_into_place(state_dir)  # what an earlier restore has left
    scratch.rename(state_dir / RESTORING)
    sync(state_dir)
    _move_into_place(state_dir)


def _move_into_place(state_dir: Path) -> None:
    waiting = state_dir / RESTORING
    if not waiting.is_dir():
        return
    for path in sorted(path for path in waiting.rglob("*") if path.is_file()):
        target = state_dir / path.relative_to(waiting)
        make_private(target.parent)
        path.replace(target)
        sync(target.parent)
    shutil.rmtree(waiting)
    sync(state_dir)
