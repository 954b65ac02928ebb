"""Removes folders as their owner does, who need not be root."""

import shutil
from contextlib import suppress
from pathlib import Path


def remove_tree(folder: Path) -> None:
    """Remove a folder with read-only copies in it, which only root removes as they are."""
    for place in (folder, *folder.rglob("*")):
        if place.is_dir() and not place.is_symlink():
            place.chmod(0o700)
    shutil.rmtree(folder)


def remove_tree_in_use(folder: Path) -> None:
    """Remove a folder in which processes go on to write."""
    while folder.exists():
        with suppress(OSError):
            remove_tree(folder)
