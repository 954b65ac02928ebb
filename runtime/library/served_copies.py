"""Content-addressed, read-only copies that servers load from.

A server re-reads an evicted adapter from its folder, and a changed or deleted folder can change
answers or kill the server. So a server never sees the library itself: the server gets a copy whose
path is its digest and whose files are read-only. Damaged copies are repaired from the library.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fleet.config import Lock
from fleet.errors import LibraryError
from fleet.names import AdapterName
from fleet.resources import LoadedAdapter
from runtime.files import FOLDER, READ_ONLY_FOLDER, copy_file, locked_folder, moved_into_place
from runtime.library.layout import SERVED_FILES, folder_digest, version_folder


def publish(version: Path, digest: str, store: Path) -> Path:
    """Return the read-only copy of an adapter version, made or repaired if needed.

    The copy is hashed again at every load, because a load must notice a changed byte. Atomic: a
    copy is complete or absent. The `version`'s folder may be gone while a good copy exists.

    Raises:
        LibraryError: the bytes are not those of the lock, or cannot be copied.
    """
    target = store / digest
    if not wrong_with(target, digest):
        return target
    try:
        if target.is_dir() and not target.is_symlink():
            _repair(target, version, digest)
        else:
            _expect(version, digest, "A version is immutable: restore it, or add it as a new one.")
            with moved_into_place(target) as scratch:
                _copy(version, scratch, digest)
                scratch.chmod(READ_ONLY_FOLDER)
                if target.is_symlink():  # what lies behind the link is not ours to write
                    target.unlink()
    except OSError as error:
        detail = f"`{error.filename or target}`: {error.strerror or error}."
        raise LibraryError.of("FC3003", "Adapter cannot be copied", detail) from error
    _expect(target, digest, "It was changed just now: find the program that writes to the store.")
    return target


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
    """Hash the copies of loaded adapters; return the faults by digest. Changes nothing.

    The folder that a server names is hashed where that folder lies on this machine, through links
    and mounts as the server reads it, and so is the store's copy. A missing copy counts only if a
    server names a folder of this store: another server may see its own store under another path.
    """
    folders: dict[Path, str] = {}
    own = store.resolve()
    for digest, path in sorted({(item.digest or "", item.path) for item in adapters}):
        if digest:
            copy, named = store / digest, Path(path)
            if named.parent.resolve() == own:
                named = store / named.name
                folders[named] = digest
            folders |= {folder: digest for folder in (copy, named) if folder.is_dir()}
    with ThreadPoolExecutor() as pool:
        faults = list(pool.map(wrong_with, folders, folders.values()))
    found: dict[str, str] = {}
    for (folder, digest), fault in zip(folders.items(), faults, strict=True):
        if fault and folder == store / digest:
            found[digest] = fault
        elif fault:
            found.setdefault(digest, f"at `{folder}` {fault}")
    return found


def _repair(target: Path, version: Path, digest: str) -> None:
    """Put the library's bytes in the place of a copy's, file by file.

    Also while servers list the copy: a server may read it again at any moment, so the right bytes
    are better than the wrong ones at every moment. Files are replaced, not the folder, because
    a folder cannot be replaced in a single step, and a folder that is missing for a moment can end
    a server. Memory that was mapped from the old file stays as it was.
    """
    with locked_folder(target.parent):  # keeps other repairs out, of other processes too
        if not wrong_with(target, digest):  # repaired by another load meanwhile
            return
        if wrong_with(version, digest):
            raise LibraryError.of(
                "FC3002",
                "Adapter bytes are not those of the lock",
                f"The copy that servers load from, `{target}`, is damaged, and it cannot be "
                f"repaired: `{version}` {wrong_with(version, digest)}.",
                hint="Restore the version in the library; the copy is then made anew from it.",
                command="fleetctl adapter verify",
            )
        with tempfile.TemporaryDirectory(prefix=".incoming-", dir=target.parent) as folder:
            scratch = Path(folder)
            _copy(version, scratch, digest)
            target.chmod(FOLDER)
            try:
                for name in SERVED_FILES:
                    (scratch / name).replace(target / name)
            finally:
                target.chmod(READ_ONLY_FOLDER)


def _copy(version: Path, scratch: Path, digest: str) -> None:
    for name in SERVED_FILES:
        copy_file(version / name, scratch / name)
    _expect(scratch, digest, "It changed while it was being copied; try again.")


def _expect(folder: Path, digest: str, remedy: str) -> None:
    found = folder_digest(folder)
    if found != digest:
        raise LibraryError.of(
            "FC3002",
            "Adapter bytes are not those of the lock",
            f"`{folder}` has digest {found[:12]}, the lock pins {digest[:12]}. {remedy}",
            command="fleetctl adapter verify",
        )


@dataclass(frozen=True, slots=True)
class RepairResult:
    """The result of the repair of a damaged copy."""

    digest: str
    repaired: bool
    text: str
    """The repair, or the reason why there was none; without the full stop."""
    left: str
    """Work left for a person; without the full stop, empty without a repair."""


def repair_copies(
    wrong: Mapping[str, str],
    adapters: Iterable[LoadedAdapter],
    lock: Lock,
    library: Path,
    store: Path,
) -> tuple[RepairResult, ...]:
    """Replace damaged copies by the library's bytes, if these are the bytes of the lock.

    `wrong` has the faults of copies by digest, from `damaged`.
    """
    users: dict[str, list[LoadedAdapter]] = defaultdict(list)
    for adapter in adapters:
        users[adapter.digest or ""].append(adapter)
    return tuple(
        _repair_copy(digest, text, users[digest], _versions(digest, lock, library), store)
        for digest, text in wrong.items()
    )


def _versions(digest: str, lock: Lock, library: Path) -> dict[str, Path]:
    return {
        name: version_folder(library, AdapterName.parse(name))
        for name, adapter in sorted(lock.adapters.items())
        if adapter.digest == digest
    }


def _repair_copy(
    digest: str,
    wrong: str,
    adapters: Iterable[LoadedAdapter],
    versions: Mapping[str, Path],
    store: Path,
) -> RepairResult:
    servers = sorted({adapter.server for adapter in adapters})
    why = "fleet.lock pins no version with this digest"
    for name, folder in versions.items():
        try:
            publish(folder, digest, store)
        except LibraryError as error:
            why = " ".join(
                f"{diagnostic.detail} {diagnostic.hint}" for diagnostic in error.diagnostics
            ).strip(" .")
            continue
        if still := damaged(adapters, store).get(digest):
            why = f"the copy {still}, which fleetctl does not write to"
            continue
        text = f"repaired the served copy of {name} from the library; found: it {wrong}"
        left = (
            f"{', '.join(servers)}: servers that read the copy meanwhile hold those bytes until a "
            "restart, a moment without answers for their clients: `fleetctl server stop NAME`, "
            "`fleetctl reconcile --once`"
        )
        return RepairResult(digest, repaired=True, text=text, left=left)
    return RepairResult(
        digest, repaired=False, text=f"cannot repair `{store / digest}`: {why}", left=""
    )
