"""Keeps files of the state folder equal in all checkouts, by the documents of their home.

pull --> what others have written, before the files are read
push --> what has changed here, after every entry of the ledger

The state folder is the working copy: readers and writers of these files know nothing of the home,
and go on while it is away. Of a file that changed here and there the home's stays, whose writer
held the lease; of two routing tables the later revision, and of two launch records the one of a
server that runs on this machine.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from fleet.codec import decode, decode_json
from fleet.errors import StalePlanError
from runtime.files import locked_file, make_private, read_plain, replace_file
from runtime.processes import machine_id, start_mark
from runtime.state.documents import Document, StateDocuments, digest_of
from runtime.state.home import KNOWN_FILE

_LOCK: Final = "shared.lock"
_LOCK_S: Final = 15.0
TABLE: Final = "routes.json"
SHARED: Final = (
    TABLE, "hosts.json", "servers/*/launch.json", "gateways/*/gateway.json", "costs/*.json",
)  # fmt: skip
"""Patterns of the files: routing table, hosts with servers, launch records, where gateways are
reached, closed months."""


@dataclass(frozen=True, slots=True)
class KnownVersion:
    """The version of a file at the last pull or push."""

    version: str = ""
    digest: str = ""


class SharedFiles:
    """The files of a state folder that the checkouts of a fleet share."""

    def __init__(
        self, state_dir: Path, documents: StateDocuments, tell: Callable[[str], object] = str
    ) -> None:
        """Prepare; nothing is read or written. `tell`: is told what people should know."""
        self._folder, self._documents, self._tell = state_dir, documents, tell
        self._seen: dict[str, object] = {}

    def pull(self) -> None:
        """Write the files that other checkouts have changed.

        Raises:
            FleetError, OSError: the home does not answer, or the files cannot be written.
        """
        versions = self._documents.versions()
        known = self._read()
        if all(known.get(name, KnownVersion()).version == its for name, its in versions.items()):
            return
        with self._locked() as known:
            new = [
                name
                for name, version in versions.items()
                if is_shared(name) and known.get(name, KnownVersion()).version != version
            ]
            for name, found in self._documents.read(new).items():
                self._take(name, found, known)

    def push(self) -> None:
        """Give the home the files that have changed here.

        Raises:
            FleetError, OSError: the home does not answer, or the files cannot be read.
        """
        marks = {name: _mark(self._folder / name) for name in {*self._names(), *self._seen}}
        if marks == self._seen:
            return
        with self._locked() as known:
            for name in sorted({*marks, *known}):
                body, had = _content(self._folder / name), known.get(name, KnownVersion())
                if digest_of(body) != had.digest:
                    self._give(name, body, known)
        self._seen = marks

    def _give(self, name: str, body: bytes, known: dict[str, KnownVersion]) -> None:
        had = known.get(name, KnownVersion())
        try:
            version = self._documents.write(name, body, had.version)
        except StalePlanError:
            found = self._documents.read([name])[name]
            if not self._take(name, found, known):
                return
            version = self._documents.write(name, body, found.version)
        known[name] = KnownVersion(version, digest_of(body))

    def _take(self, name: str, found: Document, known: dict[str, KnownVersion]) -> bool:
        """Put the home's file here, unless the file here counts; say whether that is so."""
        path, had = self._folder / name, known.get(name, KnownVersion())
        here = _content(path)
        changed = digest_of(here) not in (had.digest, digest_of(found.body))
        is_later = name == TABLE and _revision(here) > _revision(found.body)
        if changed and (is_later or _runs_here(here)):
            known[name] = KnownVersion(found.version, digest_of(found.body))
            return True
        if changed:
            self._tell(f"`{path}` was changed here and in another checkout: it is now as there")
        if not found.body:
            path.unlink(missing_ok=True)
        elif found.body != here:
            make_private(path.parent)
            replace_file(path, found.body)
        known[name] = KnownVersion(found.version, digest_of(found.body))
        return False

    def _names(self) -> Iterator[str]:
        for pattern in SHARED:
            for path in self._folder.glob(pattern):
                yield path.relative_to(self._folder).as_posix()

    def _read(self) -> dict[str, KnownVersion]:
        with suppress(OSError, ValueError, TypeError, AttributeError):
            document = decode_json(read_plain(self._folder / KNOWN_FILE))
            return {name: decode(KnownVersion, its, name) for name, its in document.items()}
        return {}

    @contextmanager
    def _locked(self) -> Iterator[dict[str, KnownVersion]]:
        """Give the known versions to a block that changes them; one process of the checkout."""
        make_private(self._folder)
        with locked_file(self._folder / _LOCK, timeout_s=_LOCK_S):
            known = self._read()
            before = dict(known)
            try:
                yield known
            finally:
                if known != before:
                    text = json.dumps({name: asdict(its) for name, its in sorted(known.items())})
                    replace_file(self._folder / KNOWN_FILE, text.encode())


def is_shared(name: str) -> bool:
    """Say whether a name is of a shared file; a name that leads out of the folder never is."""
    parts = name.split("/")
    return ".." not in parts and any(
        len(parts) == len(wanted := pattern.split("/")) and all(map(fnmatchcase, parts, wanted))
        for pattern in SHARED
    )


def _mark(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _content(path: Path) -> bytes:
    try:
        return read_plain(path)
    except FileNotFoundError:
        return b""


def _runs_here(body: bytes) -> bool:
    """Say whether a file is the record of a launch that runs on this machine."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        record = decode_json(body)
        is_here = record.get("machine", "") in ("", machine_id())
        return (
            is_here and bool(record["pid"]) and start_mark(record["pid"]) == record["process_start"]
        )
    return False


def _revision(body: bytes) -> int:
    with suppress(ValueError, KeyError, TypeError):
        return int(decode_json(body)["revision"])
    return 0
