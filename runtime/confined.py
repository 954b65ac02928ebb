"""Keeps paths of declarations in the project, and in folders that the operator trusts.

Links are followed first: what counts is the file that would be read. Nothing is opened here.
"""

import os
import shlex
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from fleet.codes import diagnostic
from fleet.errors import ConfigError, Diagnostic, Position
from runtime.trust import load_trust

_KERNEL = ("/proc", "/sys", "/dev")
"""Folders whose files are no files: reading one may hang, end never, or tell secrets."""
_MEMORY = "/dev/shm"  # noqa: S108 (an ordinary file system)


class NamedPath(NamedTuple):
    """A path that a stranger may have chosen."""

    named: str
    """The path as declared, with its place."""
    real: Path
    """The path with its links followed."""
    place: Position | None = None
    is_socket: bool = False
    """Whether the path is that of a socket, which is called and not opened."""

    @classmethod
    def of(cls, path: str | Path, beside: Path = Path()) -> Self:
        """Return a path, relative to the folder `beside`."""
        real = Path(beside / path)
        with suppress(ValueError):  # `problems_of` refuses a text that is no path
            real = Path(os.path.realpath(real))
        return cls(f"`{path}`", real)


def problems_of(root: Path, paths: Iterable[NamedPath]) -> list[Diagnostic]:
    """Return FC1286 of every special file, and a single FC1285 of all paths that lead outside.

    Raises:
        FleetError: as `load_trust`, which is asked only where a path leaves the project.
    """
    project, problems, leaving = Path(os.path.realpath(root)), list[Diagnostic](), list[NamedPath]()
    for path in paths:
        if fault := _fault_of(path.real, is_socket=path.is_socket):
            detail = f"{path.named} {fault}, so it was not opened: reading it may never end."
            hint = "Put a regular file in its place."
            problems.append(diagnostic("FC1286", detail, path.place, hint=hint))
        elif not path.real.is_relative_to(project):
            leaving.append(path)
    roots = [Path(os.path.realpath(folder)) for folder in load_trust().roots] if leaving else []
    outside = [path for path in leaving if not any(map(path.real.is_relative_to, roots))]
    return [*problems, _outside(outside)] if outside else problems


def confined(root: Path, path: str | Path) -> Path:
    """Return where a path leads, its links followed: in the project `root` or a trusted folder.

    Raises:
        ConfigError: FC1285, FC1286.
    """
    its = NamedPath.of(path, root)
    if problems := problems_of(root, [its]):
        raise ConfigError(*problems)
    return its.real


def confined_folder(root: Path, path: str | Path) -> Path:
    """Return where a folder leads, as `confined`, once its own links lead nowhere else either."""
    real = confined(root, path)
    if problems := problems_of(root, links_in(real)):
        raise ConfigError(*problems)
    return real


def links_in(folder: Path) -> list[NamedPath]:
    """Return the links and the special files in a folder, sorted; none where it is no folder."""
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry) for entry in entries if not _is_plain(entry)]
    except (OSError, ValueError):  # `problems_of` judges the folder
        return []
    return [*map(NamedPath.of, sorted(found))]


def _is_plain(entry: "os.DirEntry[str]") -> bool:
    return entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)


def _fault_of(real: Path, *, is_socket: bool) -> str:
    """Return why a file must not be opened, as the end of a sentence; empty: it may be."""
    text = os.fspath(real)
    is_kernel = any(text == folder or text.startswith(f"{folder}/") for folder in _KERNEL)
    if is_kernel and not text.startswith(f"{_MEMORY}/"):
        return "lies in a folder of the kernel"
    try:
        mode = real.lstat().st_mode
    except OSError:  # whoever reads it says so
        return ""
    except ValueError:  # a zero byte, or half of a character
        return "is no name of a file"
    kinds = {stat.S_ISFIFO: "a FIFO", stat.S_ISSOCK: "a socket", stat.S_ISLNK: "a loop of links"}
    kinds |= {stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}
    kind = next((name for matches, name in kinds.items() if matches(mode)), "")
    if is_socket:
        return "" if kind == "a socket" else "is no socket"
    return f"is {kind}" if kind else ""


def _outside(outside: Sequence[NamedPath]) -> Diagnostic:
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
