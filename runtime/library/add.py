"""Adds a version: checked, copied into the library, pinned in the lock; never overwritten."""

import re
import shlex
import shutil
import stat
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from fleet.config import (
    LOCK_FILE,
    Lock,
    LockedAdapter,
    LockedSignature,
    equal_bytes,
    lock_text,
    parse_lock,
)
from fleet.errors import Diagnostic, LibraryError
from fleet.hardware import BaseShape
from fleet.names import AdapterName, Version
from fleet.policies import SignedBytes
from fleet.spec import AdapterFacts
from runtime.confined import confined
from runtime.files import (
    PUBLIC,
    READ_ONLY_FILE,
    copy_file,
    locked_folder,
    moved_into_place,
    plain_text,
    read_plain,
    replace_file,
)
from runtime.git import additions
from runtime.library.inspect import inspect
from runtime.library.layout import RECORDS, SERVED_FILES, SIGNATURE, folder_digest, version_folder

_ENTRY: Final = re.compile(r'"([a-z0-9_.-]+)": \{[^{}]*?"digest": "([0-9a-f]{64})"')


@dataclass(frozen=True, slots=True)
class CommittedBytes:
    """The bytes with which a commit names a version for the first time."""

    digest: str
    commit: str
    """Short hash."""


def committed_bytes(root: Path) -> dict[str, CommittedBytes]:
    """Return the bytes of the versions that commits of the lock name, by full name.

    Commits that are not here, as in a shallow clone, say nothing.
    """
    found: dict[str, CommittedBytes] = {}
    for commit, line in additions(root, LOCK_FILE):
        for name, digest in _ENTRY.findall(line):
            found.setdefault(name, CommittedBytes(digest, commit))
    return found


Outcome = Literal["added", "locked", "present"]
"""Copied and pinned; pinned, already in the library; in the library and pinned already."""


@dataclass(frozen=True, slots=True)
class AddedVersion:
    """The result of `add`."""

    name: AdapterName
    folder: Path
    facts: AdapterFacts
    outcome: Outcome
    left_out: tuple[str, ...]
    """Names in the given folder that are not part of a version, such as optimizer states."""
    warnings: tuple[Diagnostic, ...]
    signed_by: str = ""
    """Name of the declared key whose signature counts; empty: none was found."""


@dataclass(frozen=True, slots=True)
class KnownBase:
    """The facts of a base that an adapter is checked against."""

    name: str
    model: str
    """Path as declared; another name for the same base."""
    shape: BaseShape
    known_as: tuple[str, ...] = ()
    """Further names as declared."""


def add(
    source: Path,
    name: AdapterName,
    base: KnownBase,
    library: Path,
    root: Path,
    origin: str = "",
    signed: SignedBytes | None = None,
    same_bytes: Mapping[str, str] = MappingProxyType({}),
) -> AddedVersion:
    """Check an adapter, copy its files into the library and pin their bytes in the lock.

    A version is immutable: adding the same bytes again changes nothing, and other bytes under
    its name are refused. Safe to repeat after a crash, and beside other runs. A `source` that is
    the version's place in the library is only pinned. The project `root` holds the lock. `origin`:
    reference by which the bytes came; empty: from a folder, and a known reference stays. `signed`:
    content of the signature beside the files; None: there is none, and a known signature stays.
    `same_bytes`: what the declarations say by `same_as`, by version; the lock records it.

    Raises:
        LibraryError: the adapter must not be served, or the version exists with other bytes.
    """
    target = version_folder(library, name)
    _refuse_links(source)
    facts, warnings = inspect(source, base.shape, base.name, base.model, *base.known_as)
    outcome: Outcome = "present"
    equal: list[AdapterName] = []
    committed = committed_bytes(root).get(str(name))
    if committed and committed.digest != facts.digest:
        where = f"Commit {committed.commit} of fleet.lock pins"
        raise _exists(name, committed.digest, facts, where)

    def change(lock: Lock) -> Lock:
        nonlocal outcome, equal
        _refuse_other(lock, name, facts)
        _refuse_changed_base(lock, base)
        try:
            copied = _into_library(source, target, name, facts)
        except OSError as error:
            detail = f"`{error.filename or target}`: {error.strerror or error}."
            raise LibraryError.of("FC3003", "Adapter cannot be copied", detail) from error
        if str(name) not in lock.adapters or copied:
            outcome = "added" if copied else "locked"
        entry = _entry(lock.adapters.get(str(name)), facts, base, origin, signed)
        after = lock.with_adapter(name, entry).with_base(base.name, base.shape)
        after = after.with_same_bytes(same_bytes)
        equal = [] if after.adapters[str(name)].same_as else equal_bytes(after, name)
        return after

    update_lock(root, change)
    if equal:
        warnings += (_equal(name, equal[-1]),)
    kept = {*SERVED_FILES, *RECORDS}
    left_out = tuple(sorted(path.name for path in source.iterdir() if path.name not in kept))
    return AddedVersion(name, target, facts, outcome, left_out, warnings)


def _entry(
    known: LockedAdapter | None,
    facts: AdapterFacts,
    base: KnownBase,
    origin: str,
    signed: SignedBytes | None,
) -> LockedAdapter:
    """Return the entry of a version, with that of the `known` entry which is not given anew."""
    signature = LockedSignature.of(signed, facts.digest) if signed else None
    return LockedAdapter(
        **{**asdict(facts), "source": origin or (known.source if known else "")},
        base=base.name,
        signature=signature or (known.signature if known else None),
        same_as=known.same_as if known else "",
    )


def _refuse_links(source: Path) -> None:
    """Refuse a folder of which a part to copy is no plain file: a link brings bytes from elsewhere.

    Raises:
        LibraryError: FC1288.
    """
    parts = [source / name for name in (*SERVED_FILES, *RECORDS)]
    inner = (path for part in parts[len(SERVED_FILES) :] for path in part.rglob("*"))
    for part in (*parts, *inner):
        with suppress(FileNotFoundError, NotADirectoryError):
            mode = part.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                kind = "a link" if stat.S_ISLNK(mode) else "no regular file"
                whole = shlex.quote(str(source))
                raise LibraryError.of(
                    "FC1288",
                    "Adapter holds a link",
                    f"`{part}` is {kind}. The library holds the bytes themselves: a link would "
                    "bring in any file of this machine, and its target can change.",
                    hint="Where the targets are meant, copy the bytes and add the copy:",
                    command=f"cp -rL {whole} COPY && fleetctl adapter add COPY",
                )


def _refuse_other(lock: Lock, name: AdapterName, facts: AdapterFacts) -> None:
    """Refuse other bytes under a locked name, and a second base in the folder of a version."""
    locked = lock.adapters.get(str(name))
    if locked is not None and locked.digest != facts.digest:
        raise _exists(name, locked.digest, facts, "The lock pins")
    for other in map(AdapterName.parse, lock.adapters):
        if replace(other, base=name.base) == name != other:
            detail = (
                f"`{other}` has this version's place in the library already; a version belongs "
                "to one base."
            )
            raise LibraryError.of(
                "FC3012", "Version exists for another base", detail, command=_next(name)
            )


def _refuse_changed_base(lock: Lock, base: KnownBase) -> None:
    locked = lock.bases.get(base.name)
    if locked is None:
        return
    now, then = asdict(base.shape), asdict(locked)
    told = {key for key, value in then.items() if value} - {"weight_bytes"}  # since its format
    differing = sorted(key for key in told if now[key] != then[key])
    if differing:
        shown = ", ".join(f"{key} {then[key]} -> {now[key]}" for key in differing)
        detail = (
            f"`{base.name}` is not what its adapters were checked against: {shown}. Give the new "
            "base a name of its own."
        )
        raise LibraryError.of("FC3013", "Base differs from the lock", detail)


def _into_library(source: Path, target: Path, name: AdapterName, facts: AdapterFacts) -> bool:
    """Bring the version into the library; return whether its files were copied."""
    copied = False
    if not target.exists():
        with moved_into_place(target) as scratch:
            for file in SERVED_FILES:
                copy_file(source / file, scratch / file)
            for record in RECORDS:
                if (source / record).is_dir():
                    shutil.copytree(source / record, scratch / record)
                elif (source / record).is_file():
                    copy_file(source / record, scratch / record, 0o644)
        copied = True
    elif (source / SIGNATURE).is_file() and not target.samefile(source):
        replace_file(target / SIGNATURE, read_plain(source / SIGNATURE), PUBLIC)
    digest = folder_digest(target)
    if digest != facts.digest:
        if copied:
            detail = f"`{source}` changed while it was being copied. Nothing is pinned."
            shutil.rmtree(target)
            raise LibraryError.of("FC3003", "Adapter cannot be copied", detail)
        raise _exists(name, digest, facts, f"`{target}` holds")
    for file in SERVED_FILES:
        (target / file).chmod(READ_ONLY_FILE)
    return copied


def _exists(name: AdapterName, digest: str, facts: AdapterFacts, where: str) -> LibraryError:
    detail = (
        f"{where} digest {digest[:12]} for `{name}`, and this adapter has {facts.digest[:12]}. A "
        "version that was added never changes: clients may be served by it."
    )
    return LibraryError.of("FC3011", "Version exists with other bytes", detail, command=_next(name))


def _equal(name: AdapterName, other: AdapterName) -> Diagnostic:
    detail = (
        f"`{name}` has the bytes of `{other}`. It is pinned all the same, but nothing is planned "
        "while it is declared without saying so."
    )
    hint = (
        f"If that is meant, declare `same_as: {other}` beside its `version` and repeat the "
        "command, which records it in fleet.lock. If not, the folder was the wrong one: add the "
        "right one as another version."
    )
    return Diagnostic(
        "FC3034", "Bytes are those of another version", detail, hint=hint, severity="warning"
    )


def _next(name: AdapterName) -> str:
    version = Version(name.version.major, name.version.minor, name.version.patch + 1)
    return f"fleetctl adapter add PATH --as {replace(name, version=version)}"


def update_lock(root: Path, change: Callable[[Lock], Lock]) -> None:
    """Change the lock of a project while no other process does.

    Written by renaming a finished file into place, so that a reader sees the old or the new
    lock; not written if nothing changes. An error of `change` leaves everything as before.

    Raises:
        ConfigError: the file is no lock.
        LibraryError: the file cannot be read or written.
    """
    path = root / LOCK_FILE
    with ExitStack() as stack:
        try:
            # The folder is locked, not the file: every change replaces the file.
            stack.enter_context(locked_folder(root))
            confined(root, LOCK_FILE)
            before = parse_lock(plain_text(path)) if path.exists() else Lock()
        except OSError as error:
            raise _lock_failed(Path(error.filename or root), error.strerror) from error
        except UnicodeDecodeError as error:
            raise _lock_failed(path, str(error)) from error
        after = change(before)
        if after != before:
            try:
                replace_file(path, lock_text(after).encode(), PUBLIC, exact=True)
            except OSError as error:
                raise _lock_failed(path, error.strerror or str(error)) from error


def _lock_failed(path: Path, reason: str | None) -> LibraryError:
    return LibraryError.of("FC3019", "Lock cannot be read or written", f"`{path}`: {reason}.")
