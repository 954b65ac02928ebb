"""Keeps paths of declarations in the project, and in folders that the operator trusts.

Links are followed first: what counts is the file that would be read. Nothing is opened here.
"""

import os
import shlex
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fleet.codes import diagnostic
from fleet.errors import ConfigError, Diagnostic, Position
from runtime.trust import load_trust

_KERNEL = ("/proc", "/sys", "/dev")
"""Folders whose files are no files: reading one may hang, end never, or tell secrets."""
_MEMORY = "/dev/shm"  # noqa: S108 (an ordinary file system)


class Outside(NamedTuple):
    """A path that leads out of the project and of every trusted folder."""

    named: str
    """The path as declared, with its place."""
    real: Path
    """The path with its links followed."""
    place: Position | None = None


def confined(root: Path, path: str | Path) -> Path:
    """Return where a path leads, its links followed: in the project `root` or a trusted folder.

    Raises:
        ConfigError: FC1285, FC1286.
    """
    real = Path(os.path.realpath(root / path))
    if fault := fault_of(real):
        raise ConfigError(special(f"`{path}`", fault))
    if outside := left_outside(root, [Outside(f"`{path}`", real)]):
        raise ConfigError(refused(outside))
    return real


def confined_folder(root: Path, path: str | Path) -> Path:
    """Return where a folder leads, as `confined`, once its own links lead nowhere else either."""
    real = confined(root, path)
    for link in links_in(real):
        confined(root, link)
    return real


def links_in(folder: Path) -> list[Path]:
    """Return the links and the special files in a folder, sorted; none where it is no folder."""
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry) for entry in entries if not _is_plain(entry)]
    except OSError:
        return []
    return sorted(found)


def _is_plain(entry: "os.DirEntry[str]") -> bool:
    return entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)


def fault_of(real: Path, *, is_socket: bool = False) -> str:
    """Return why a file must not be opened, as the end of a sentence; empty: it may be."""
    text = os.fspath(real)
    is_kernel = any(text == folder or text.startswith(f"{folder}/") for folder in _KERNEL)
    if is_kernel and not text.startswith(f"{_MEMORY}/"):
        return "lies in a folder of the kernel"
    try:
        mode = real.lstat().st_mode
    except OSError:  # whoever reads it says so
        return ""
    kinds = {stat.S_ISFIFO: "a FIFO", stat.S_ISSOCK: "a socket", stat.S_ISLNK: "a loop of links"}
    kinds |= {stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}
    kind = next((name for matches, name in kinds.items() if matches(mode)), "")
    if is_socket:
        return "" if kind == "a socket" else "is no socket"
    return f"is {kind}" if kind else ""


def left_outside(root: Path, found: Iterable[Outside]) -> list[Outside]:
    """Return those that lie neither in the project nor in a trusted folder.

    Raises:
        FleetError: as `load_trust`, which is asked only where a path leaves the project.
    """
    project = Path(os.path.realpath(root))
    leaving = [path for path in found if not path.real.is_relative_to(project)]
    if not leaving:
        return []
    roots = [Path(os.path.realpath(folder)) for folder in load_trust().roots]
    return [path for path in leaving if not any(map(path.real.is_relative_to, roots))]


def special(named: str, fault: str, place: Position | None = None) -> Diagnostic:
    """Return the problem FC1286 of a path that is no regular file or folder."""
    detail = f"{named} {fault}, so it was not opened: reading it may never end."
    return diagnostic("FC1286", detail, place, hint="Put a regular file in its place.")


def refused(outside: Sequence[Outside]) -> Diagnostic:
    """Return the problem FC1285 of all paths that lead outside, with a single command for all."""
    shown = [
        path.named if f"`{path.real}`" in path.named else f"{path.named} leads to `{path.real}`"
        for path in outside
    ]
    detail = f"{'; '.join(dict.fromkeys(shown))}. A branch could have any file of this machine read"
    folders = sorted({folder for path in outside if (folder := _folder(path.real))})
    command = " ".join(["fleetctl trust add", *map(shlex.quote, folders)]) if folders else ""
    places = [path.place for path in outside if path.place]
    return diagnostic(
        "FC1285",
        f"{detail}, so none of these was opened.",
        places[0] if places else None,
        hint="Move the files into the project. Where you know the folders, confirm them once, in a "
        "file that no branch brings along:",
        command=command,
        also=tuple(("and at", place) for place in places[1:]),
    )


def _folder(real: Path) -> str:
    """Return the folder to trust for a path: itself, else its nearest parent; empty: none is."""
    near = next(path for path in (real, *real.parents) if path.is_dir())
    return "" if near == Path("/") else os.fspath(near)
