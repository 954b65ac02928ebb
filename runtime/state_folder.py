"""Keeps the state folder its owner's alone, and knows the layout of the store.

Ledger, routes, launch records and secrets lie there: a writer of the folder decides which bytes
answer, and which processes are stopped.
"""

import hashlib
import os
import re
import shlex
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import EngineError, FleetError
from runtime.files import PRIVATE_FOLDER, open_plain, unlinked
from runtime.git import tracked

STORE = "store"
"""Folder of the copies, in the state folder."""

_COPY = re.compile(r"([0-9a-f]{64})(?:-(?:[2-9]|[1-9][0-9]{1,8}))?")


def manifest_of(folder: Path, names: Iterable[str], *, links: bool = False) -> str:
    """Return a line `<sha256>  <file name>` for every file, in sorted order.

    The format of `sha256sum`, so that a copy can be checked without fleetctl. The digest of the
    folder is the SHA-256 of the manifest. `links`: files may be links, which are followed.

    Raises:
        OSError: a file is missing, is a link or cannot be read.
    """
    digests = {}
    for name in names:
        path = folder / name
        with open_plain(path.resolve() if links else unlinked(path)) as stream:
            digests[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return manifest_text(digests)


def manifest_text(digests: Mapping[str, str]) -> str:
    """Return the manifest of files whose SHA-256 are known, by name."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def digest_of_copy(name: str) -> str | None:
    """Return the digest that the name of a copy's folder stands for; None: no copy's name."""
    match = _COPY.fullmatch(name)
    return match and match[1]


def name_of_copy(digest: str, number: int) -> str:
    """Return the name of a copy's folder: 1 for the first path of a digest, then fresh paths."""
    return digest if number == 1 else f"{digest}-{number}"


def number_of_copy(name: str, digest: str) -> int:
    """Return the number of the path of a copy's folder; 0: no copy of this digest."""
    if digest_of_copy(name) != digest:
        return 0
    return int(name.rpartition("-")[2]) if name != digest else 1


def source_name(digest: str) -> str:
    """Return the name of the link to the library's version that the copies of a digest are of."""
    return f".source-{digest}"


def path_there(paths: tuple[tuple[str, str], ...], here: str) -> str:
    """Translate a path of this machine to the server's, by the longest prefix that fits.

    Without a mapping, both see the same file system.

    Raises:
        EngineError: FC4009, paths are mapped and no prefix fits.
    """
    if not paths:
        return here
    for prefix, target in sorted(paths, key=lambda pair: -len(pair[0])):
        stem = prefix.rstrip("/")
        if here == stem or here.startswith(f"{stem}/"):
            return target.rstrip("/") + here[len(stem) :]
    detail = (
        f"`{here}` is under none of the mapped paths: "
        f"{', '.join(f'`{prefix}`' for prefix, _ in paths)}."
    )
    hint = "Add its folder under `paths` of the host, as in `{/here: /there}`."
    raise EngineError.of("FC4009", "A path is not visible to the servers", detail, hint=hint)


@dataclass(frozen=True, slots=True)
class StoreView:
    """Tells the copies of a store from other folders, by the paths that servers of a host list."""

    folder: Path
    """The store on this machine."""
    paths: tuple[tuple[str, str], ...] = ()
    """Prefixes of paths here and there; none: servers see this file system."""

    def digest(self, listed: str) -> str | None:
        """Return the digest that a listed path means; None: not a copy of this store.

        Links are followed as far as this machine can see them. A copy whose own folder is a link
        keeps the digest of its name: the bytes behind the link are hashed as the server reads them.
        """
        path = Path(listed)
        if self.paths:
            digest = digest_of_copy(path.name)
            return digest if digest and str(path) == self._there(path.name) else None
        if not path.is_absolute():
            return None
        if not self._has(path):
            path = path.resolve()
        return digest_of_copy(path.name) if self._has(path) else None

    def _has(self, path: Path) -> bool:
        store = self.folder.absolute()
        return path.parent == store or path.parent.resolve() == store.resolve()

    def _there(self, name: str) -> str | None:
        try:
            return path_there(self.paths, str(self.folder.absolute() / name))
        except EngineError:
            return None


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
