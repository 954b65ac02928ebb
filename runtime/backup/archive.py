"""Writes backups, and unpacks a backup after every check that its content allows.

A backup is a tar file with gzip: `manifest.json`, then the files of the state folder as
`state/<path>`. The manifest names every file with its SHA-256.
"""

import gzip
import hashlib
import io
import json
import shutil
import sqlite3
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from fleet.codec import decode_json
from fleet.errors import FleetError, require_known
from fleet.history import Entry
from runtime.engines.launch_records import RECORD
from runtime.files import (
    LARGEST_LOG,
    PRIVATE,
    make_private,
    open_plain,
    put_in_place,
    read_plain,
    sync,
)
from runtime.gateway.admin.state_dir import PREVIOUS_FILE, SECRET_FILE, TABLE_FILE
from runtime.ledger import chain
from runtime.ledger.chain import KEY_FILE
from runtime.ledger.file import LEDGER_FILE
from runtime.ledger.outbox import FOLDER as QUEUE
from runtime.observe import HOSTS_FILE
from runtime.usage.tables import FOLDER, STORE_FILE, told_errors

STORE: Final = f"{FOLDER}/{STORE_FILE}"
PARTS: Final = (
    LEDGER_FILE,
    "ledger-as-last-read.*.jsonl",
    "ledger-before-restore.*.jsonl",
    "lease.json",
    TABLE_FILE,
    PREVIOUS_FILE,
    f"{QUEUE}/*.json",
    f"servers/*/{RECORD}",
    "gateways/*/gateway.json",
    HOSTS_FILE,
    "evals/cache/*",
    "costs/*.json",
    STORE,
)
"""Patterns of the files that every backup holds; `*` stands for a name without a slash."""
SECRETS: Final = (SECRET_FILE, KEY_FILE, "keys/*")
"""Patterns of the files that a backup holds only if asked."""


def is_part(name: str, patterns: tuple[str, ...] = PARTS + SECRETS) -> bool:
    """Say whether a path inside the state folder, with slashes, is a file that a backup may hold.

    A path that leads out of the folder never is.
    """
    pieces = name.split("/")
    if any(piece in {"", ".", ".."} or "\\" in piece or "\0" in piece for piece in pieces):
        return False
    return any(
        len(pieces) == len(wanted := pattern.split("/")) and all(map(fnmatchcase, pieces, wanted))
        for pattern in patterns
    )


def parts_in(state_dir: Path, *, with_keys: bool) -> Iterator[tuple[str, Path]]:
    """Yield the files of a state folder for a backup, sorted; links and scratch files are not."""
    for pattern in sorted(PARTS + (SECRETS if with_keys else ())):
        for path in sorted(state_dir.glob(pattern)):
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                yield path.relative_to(state_dir).as_posix(), path


def content_of(path: Path) -> bytes:
    """Return the content of a part; of the usage store as it is between two transactions.

    Raises:
        FleetError: FC6065, the usage store is damaged.
        OSError: the file cannot be read.
    """
    if path.name != STORE_FILE:
        return read_plain(path, LARGEST_LOG)
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with (
        told_errors(path),
        closing(sqlite3.connect(uri, uri=True)) as store,
        closing(sqlite3.connect(":memory:")) as copy,
    ):
        store.backup(copy)
        return copy.serialize()


def left_out(state_dir: Path, *, with_keys: bool) -> dict[str, int]:
    """Return the bytes that a backup leaves out, by file or folder of the state folder."""
    sizes = Counter[str]()
    held = {path for _, path in parts_in(state_dir, with_keys=with_keys)}
    for path in state_dir.rglob("*"):
        if path not in held and path.is_file() and not path.is_symlink():
            sizes[path.relative_to(state_dir).parts[0]] += path.stat().st_size
    return dict(sorted((name, size) for name, size in sizes.items() if size))


FORMAT: Final = 1
"""Newest format of a backup that this release reads."""
KIND: Final = "fleetctl-backup"
_MANIFEST, _STATE = "manifest.json", "state/"
_LONGEST_MANIFEST: Final = 64 << 20
"""Upper bound of a manifest's bytes; one of 100,000 files takes 15 MB."""
_LARGEST: Final = 4 << 30
"""Upper bound of a backup's bytes."""
_LONGEST_END: Final = 8 << 20
"""Upper bound of the bytes after the last file, which are zeros."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of a backup."""

    fleet: str
    created: str
    """ISO 8601, UTC."""
    by: str
    version: str
    """Release of fleetctl that wrote the backup."""
    seq: int
    """Number of the ledger's last entry; 0: no entry."""
    head: str
    """Hash of that entry."""
    with_keys: bool
    """Whether secrets are in the backup."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Fingerprint by address of a key in the routing table."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Bytes of the state folder that are not in the backup, by file or folder."""
    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by path in the state folder."""
    format: int = FORMAT
    kind: str = KIND


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was unpacked and checked."""

    manifest: Manifest
    entries: tuple[Entry, ...]
    """The ledger, verified as a chain."""
    sha256: str
    """Of the backup's file."""
    folder: Path
    """Folder with the files, laid out as a state folder."""


def write_backup(path: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> str:
    """Write a backup that its owner alone can read, whole or not at all; return its SHA-256."""
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    head = json.dumps(asdict(manifest) | {"files": files}, indent=1, sort_keys=True).encode()
    scratch = path.with_name(f".{path.name}.incoming")
    scratch.unlink(missing_ok=True)
    try:
        scratch.touch(PRIVATE)
        with tarfile.open(scratch, "w:gz", compresslevel=6) as archive:
            _add(archive, _MANIFEST, head)
            for name, content in contents.items():
                _add(archive, _STATE + name, content)
        digest = hashlib.sha256(scratch.read_bytes()).hexdigest()
        put_in_place(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return digest


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), PRIVATE
    archive.addfile(member, io.BytesIO(content))


def unpack(path: Path, folder: Path) -> Backup:
    """Unpack a backup into an empty folder, durable when this returns.

    Nothing outside the folder is written: the names are those of files that a backup may hold, and
    a link or a device is refused.

    Raises:
        FleetError: FC6071, the file is no backup, torn or altered; FC5102, the ledger in it was
            changed.
        NewerFormatError: FC5007, the backup has the format of a later release.
    """
    try:
        with open_plain(path) as stream:
            if path.stat().st_size > _LARGEST:
                raise broken(path, f"it has more than {_LARGEST >> 30} GiB")
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        with tarfile.open(path, "r:gz") as archive:
            manifest = _manifest(archive, path)
            _unpack_files(archive, manifest, folder, path)
        with gzip.open(path) as stream:  # its checksum stands at the end
            while stream.read(1 << 20):
                if stream.tell() > archive.offset + _LONGEST_END:
                    raise broken(path, "it goes on after its end")
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise broken(path, f"it is torn, or no backup: {error}") from None
    ledger = folder / LEDGER_FILE
    content = read_plain(ledger, LARGEST_LOG) if ledger.exists() else b""
    entries = tuple(chain.entries(content, f"{path}:{LEDGER_FILE}"))
    head = entries[-1].hash if entries else ""
    if (len(entries), head) != (manifest.seq, manifest.head):
        raise broken(path, "its ledger does not end with the entry that the manifest names")
    return Backup(manifest, entries, digest, folder)


def _manifest(archive: tarfile.TarFile, path: Path) -> Manifest:
    member = archive.next()
    stream = archive.extractfile(member) if member is not None and member.isreg() else None
    if member is None or stream is None or member.name != _MANIFEST:
        raise broken(path, f"it does not begin with `{_MANIFEST}`")
    if member.size > _LONGEST_MANIFEST:
        raise broken(path, "its manifest is too long")
    try:
        document: dict[str, Any] = decode_json(stream.read())
        if document.get("kind") != KIND:
            raise broken(path, f"its manifest is not of a `{KIND}`")
        require_known(document.get("format"), FORMAT, str(path))
        known = Manifest.__dataclass_fields__
        made = Manifest(**{name: value for name, value in document.items() if name in known})
        texts = (made.fleet, made.created, made.by, made.version, made.head)
        right = all(type(text) is str for text in texts) and type(made.seq) is int
        if not right or not all(map(is_part, made.files)):
            raise broken(path, "its manifest names what no backup holds")
    except (ValueError, TypeError, AttributeError):
        raise broken(path, "its manifest cannot be read") from None
    return made


def _unpack_files(archive: tarfile.TarFile, manifest: Manifest, folder: Path, path: Path) -> None:
    missing = dict(manifest.files)
    while (member := archive.next()) is not None:
        name = member.name.removeprefix(_STATE)
        wanted = missing.pop(name, None)
        stream = archive.extractfile(member) if member.isreg() else None
        if wanted is None or stream is None or member.name != _STATE + name:
            raise broken(path, f"it holds `{member.name!r:.80}`, which its manifest does not name")
        if member.size > shutil.disk_usage(folder).free:
            raise broken(path, f"there is no room here to unpack `{name}`")
        target = folder / name
        make_private(target.parent)
        with target.open("xb") as out:
            target.chmod(PRIVATE)
            shutil.copyfileobj(stream, out)
        with target.open("rb") as written:
            if hashlib.file_digest(written, "sha256").hexdigest() != wanted:
                raise broken(path, f"`{name}` in it is not what was backed up")
        sync(target)
    if missing:
        raise broken(path, f"`{min(missing)}` is missing in it")


def broken(path: Path, why: str) -> FleetError:
    """Return the error of a file that is no whole backup; `why` is a clause."""
    detail = f"`{path}`: {why}. Nothing was restored from it."
    hint = "Take another backup; `fleetctl history` names those that were made."
    command = "fleetctl state drill FILE"
    return FleetError.of("FC6071", "The backup cannot be used", detail, hint=hint, command=command)
