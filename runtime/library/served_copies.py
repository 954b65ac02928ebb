"""Content-addressed, read-only copies that servers load from.

A server re-reads an evicted adapter from its folder, and a changed or deleted folder can change
answers or kill the server. So a server never sees the library itself: the server gets a copy whose
path is its digest and whose files are read-only. Damaged copies are repaired from the library.
"""

import shutil
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.config import Lock
from fleet.errors import LibraryError
from fleet.names import AdapterName
from fleet.resources import LoadedAdapter
from runtime.files import (
    FOLDER,
    READ_ONLY_FOLDER,
    copy_file,
    locked_folder,
    make_private,
    moved_into_place,
)
from runtime.library.layout import SERVED_FILES, copies_of, folder_digest, version_folder
from runtime.state_folder import digest_of_copy, name_of_copy, number_of_copy, source_name

SPARE: Final = 1 << 20
"""Room that copies leave on the disk for ledger and routing table. Bytes."""


def publish(version: Path, digest: str, store: Path, damaged: Iterable[str] = ()) -> Path:
    """Return the read-only copy of an adapter version that servers may load from now on.

    The newest copy, hashed again, because a load must notice a changed byte. A copy that is damaged
    or once was is never loaded from again: servers that read it know its bytes by its path. A new
    copy gets a fresh path then. Atomic: a copy is complete or absent. The `version`'s folder may be
    gone while a good copy exists.

    `damaged`: paths of copies that were damaged, by the ledger; they are repaired. Damage that the
    ledger does not know stays to be found.

    Raises:
        LibraryError: the bytes are not those of the lock, or cannot be copied.
    """
    spoiled = {Path(path).name for path in damaged}
    names = {*spoiled, *(copy.name for copy in copies_of(digest, store))}
    newest = max((number_of_copy(name, digest) for name in names), default=0)
    target = before = store / name_of_copy(digest, max(newest, 1))
    if before.name in spoiled or (newest and wrong_with(before, digest)):
        target = store / name_of_copy(digest, newest + 1)
    elif newest:
        _keep_source(version, digest, store)
        return target
    require_bytes(version, digest)
    make_private(store.parent)
    _require_room(version, target)
    try:
        if before.name in spoiled and before.exists():
            _repair(before, version, digest)
        with moved_into_place(target) as scratch:
            _copy(version, scratch, digest)
            scratch.chmod(READ_ONLY_FOLDER)
    except OSError as error:
        detail = f"`{error.filename or target}`: {error.strerror or error}."
        raise LibraryError.of("FC3003", "Adapter cannot be copied", detail) from error
    _expect(target, digest, "It was changed just now: find the program that writes to the store.")
    _keep_source(version, digest, store)
    return target


def _keep_source(version: Path, digest: str, store: Path) -> None:
    """Keep a link to the version, from which a server with the plug-in reads if copies are damaged.

    Only ever read by its digest, so that a link that leads elsewhere does no harm.
    """
    link, target = store / source_name(digest), version.absolute()
    with suppress(OSError):  # a copy without the link serves as well
        if target.is_dir() and not (link.is_symlink() and link.readlink() == target):
            make_private(store.parent)
            store.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(target)


def require_bytes(version: Path, digest: str) -> None:
    """Refuse a version whose bytes are not those of the lock.

    Raises:
        LibraryError: FC3001, FC3002.
    """
    _expect(version, digest, "A version is immutable: restore it, or add it as a new one.")


def _require_room(version: Path, copy: Path) -> None:
    """Refuse a copy of a version that its disk has no room for.

    Raises:
        LibraryError: FC3033.
    """
    needed = sum((version / name).stat().st_size for name in SERVED_FILES)
    folder = next(parent for parent in copy.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        raise LibraryError.of(
            "FC3033",
            "No room for a served copy",
            f"The copy of `{version}` takes {needed} bytes in `{copy.parent}`, and the disk has "
            f"{free} left. A full disk stops the ledger and the routes of all clients.",
            hint="Delete versions that no server uses, or make room otherwise.",
            command="fleetctl gc",
        )


def wrong_with(copy: Path, digest: str) -> str:
    """Return the fault of a copy, as the end of a sentence; empty if the copy is good."""
    if not copy.is_dir():
        return "is gone"
    try:
        found = folder_digest(copy)
    except LibraryError:
        return "lacks a file, or it cannot be read"
    return "" if found == digest else "has other bytes than its digest"


def damaged(adapters: Iterable[LoadedAdapter], store: Path) -> dict[str, str]:
    """Hash the copies of loaded adapters; return the faults by listed path. Changes nothing.

    The folder that a server names is hashed where that folder lies on this machine, through links
    and mounts as the server reads it, and so is the store's copy. A missing copy counts only if a
    server names a folder of this store: another server may see its own store under another path.
    """
    listed = {adapter.path: adapter.digest for adapter in adapters if adapter.digest}
    there = {path: _folders(path, store) for path in sorted(listed)}
    folders = {folder: listed[path] for path, found in there.items() for folder in found}
    with ThreadPoolExecutor() as pool:
        faults = dict(zip(folders, pool.map(wrong_with, folders, folders.values()), strict=True))
    found: dict[str, str] = {}
    for path, its in there.items():
        for folder in its:
            if fault := faults[folder]:
                where = "" if folder == _copy_of(path, store) else f"at `{folder}` "
                found.setdefault(path, f"{where}{fault}")
    return found


def gone(adapters: Iterable[LoadedAdapter], store: Path) -> dict[str, str]:
    """Return the copies of this store that servers list and that are not there; as `damaged`."""
    listed = {adapter.path for adapter in adapters if adapter.digest}
    copies = {path: _folders(path, store) for path in sorted(listed)}
    return {path: "is gone" for path, found in copies.items() if found and not found[0].is_dir()}


def _folders(path: str, store: Path) -> tuple[Path, ...]:
    copy, named = _copy_of(path, store), Path(path)
    if named.parent == store or named.parent.resolve() == store.resolve():
        return (copy,)
    return tuple(folder for folder in (copy, named) if folder.is_dir())


def _copy_of(path: str, store: Path) -> Path:
    """Return the store's copy that a server lists, here."""
    name = Path(path).name
    return store / (name if digest_of_copy(name) else Path(path).resolve().name)


def _repair(target: Path, version: Path, digest: str) -> None:
    """Put the library's bytes in the place of a copy's, file by file.

    Also while servers list the copy: a server may read it again at any moment, so the right bytes
    are better than the wrong ones at every moment. Files are replaced, not the folder, because
    a folder cannot be replaced in a single step, and a folder that is missing for a moment can end
    a server. Memory that was mapped from the old file stays as it was.

    Raises:
        LibraryError: the version's bytes are not those of the digest.
        OSError: the copy cannot be written.
    """
    with locked_folder(target.parent):  # keeps other repairs out, of other processes too
        if not wrong_with(target, digest):  # repaired by another run meanwhile
            return
        if wrong := wrong_with(version, digest):
            raise LibraryError.of(
                "FC3002",
                "Adapter bytes are not those of the lock",
                f"The copy that servers load from, `{target}`, is damaged, and it cannot be "
                f"repaired: `{version}` {wrong}.",
                hint="Restore the version in the library; the copy is then made anew from it.",
                command="fleetctl adapter verify",
            )
        with tempfile.TemporaryDirectory(prefix=".incoming-", dir=target.parent) as folder:
            scratch = Path(folder)
            _copy(version, scratch, digest)
            if target.is_symlink():  # what lies behind the link is not ours to write
                target.unlink()
            target.mkdir(exist_ok=True)
            target.chmod(FOLDER)
            try:
                for name in SERVED_FILES:
                    (scratch / name).replace(target / name)
            finally:
                target.chmod(READ_ONLY_FOLDER)
    _keep_source(version, digest, target.parent)


def _copy(version: Path, scratch: Path, digest: str) -> None:
    for name in SERVED_FILES:
        copy_file(version / name, scratch / name)
    _expect(scratch, digest, "It changed while it was being copied; try again.")


def _expect(folder: Path, digest: str, remedy: str) -> None:
    found = folder_digest(folder)
    if found != digest:
        detail = f"`{folder}` has digest {found[:12]}, the lock pins {digest[:12]}. {remedy}"
        command = "fleetctl adapter verify"
        raise LibraryError.of(
            "FC3002", "Adapter bytes are not those of the lock", detail, command=command
        )


@dataclass(frozen=True, slots=True)
class RepairResult:
    """The result of the repair of a damaged copy."""

    path: str
    """Folder of the copy, as servers list the folder."""
    repaired: bool
    text: str
    """The repair, or the reason why there was none; without the full stop."""


def repair_copies(
    wrong: Mapping[str, str],
    adapters: Iterable[LoadedAdapter],
    lock: Lock,
    library: Path,
    store: Path,
) -> tuple[RepairResult, ...]:
    """Replace damaged copies by the library's bytes, if these are the bytes of the lock.

    `wrong` has the faults of copies by listed path, from `damaged`.
    """
    users = {adapter.path: adapter for adapter in adapters}
    return tuple(
        _repair_copy(users[path], text, _versions(users[path].digest, lock, library), store)
        for path, text in wrong.items()
    )


def _versions(digest: str | None, lock: Lock, library: Path) -> dict[str, Path]:
    return {
        name: version_folder(library, AdapterName.parse(name))
        for name, adapter in sorted(lock.adapters.items())
        if adapter.digest == digest
    }


def _repair_copy(
    adapter: LoadedAdapter, wrong: str, versions: Mapping[str, Path], store: Path
) -> RepairResult:
    copy = _copy_of(adapter.path, store)
    why = "fleet.lock pins no version with this digest"
    for name, folder in versions.items():
        try:
            _repair(copy, folder, adapter.digest or "")
        except OSError as error:
            why = f"`{error.filename or copy}`: {error.strerror or error}"
            continue
        except LibraryError as error:
            why = " ".join(
                f"{diagnostic.detail} {diagnostic.hint}" for diagnostic in error.diagnostics
            ).strip(" .")
            continue
        if still := damaged([adapter], store).get(adapter.path):
            why = f"the copy {still}, which fleetctl does not write to"
            continue
        text = f"repaired the served copy of {name} from the library; found: it {wrong}"
        return RepairResult(adapter.path, repaired=True, text=text)
    return RepairResult(adapter.path, repaired=False, text=f"cannot repair `{copy}`: {why}")
