"""Small documents in a fleet's home, replaced by writers that know the newest version alone."""

import hashlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from fleet.errors import StalePlanError
from runtime.files import locked_file, make_private, read_plain, replace_file
from runtime.state.home import HomeAddress
from runtime.state.postgres import Database

if TYPE_CHECKING:
    from psycopg import Cursor

FOLDER: Final = "documents"
_LOCK: Final = "documents.lock"
_LOCK_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Document:
    """A document as read. An empty body stands for a document that was removed."""

    body: bytes
    version: str


class StateDocuments(Protocol):
    """Where documents live; a name has slashes as a path has."""

    def versions(self) -> Mapping[str, str]:
        """Return the newest version of every document, by name."""
        ...

    def read(self, names: Collection[str]) -> Mapping[str, Document]:
        """Return documents by name; without those that never were."""
        ...

    def write(self, name: str, body: bytes, expected: str) -> str:
        """Replace the version `expected` (empty: none) of a document; return the new version.

        Raises:
            StalePlanError: FC5142, another writer has replaced that version by other bytes.
        """
        ...


def replaced(name: str) -> StalePlanError:
    """Return the error of a document that another writer has replaced."""
    return StalePlanError.of(
        "FC5142",
        "A document of the home has changed meanwhile",
        f"`{name}` was replaced by another run.",
        hint="Nothing was changed. Run the command again.",
    )


class FileDocuments:
    """Documents as files of a folder; a version is the digest of the bytes."""

    def __init__(self, folder: Path) -> None:
        """Prepare; nothing is read or written."""
        self._folder, self._lock = folder / FOLDER, folder / _LOCK

    def versions(self) -> Mapping[str, str]:
        """Return the newest version of every document, by name."""
        files = (path for path in self._folder.rglob("[!.]*") if path.is_file())
        names = [path.relative_to(self._folder).as_posix() for path in files]
        return {name: found.version for name, found in self.read(names).items()}

    def read(self, names: Collection[str]) -> Mapping[str, Document]:
        """Return documents by name; without those that never were."""
        found = {}
        for name in names:
            with suppress(FileNotFoundError):
                body = read_plain(self._folder / name)
                found[name] = Document(body, digest_of(body))
        return found

    def write(self, name: str, body: bytes, expected: str) -> str:
        """Replace the version `expected` of a document; return the new version."""
        make_private((self._folder / name).parent)
        with locked_file(self._lock, timeout_s=_LOCK_S):
            found = self.read([name]).get(name)
            if found and found.version not in (expected, digest_of(body)):
                raise replaced(name)
            replace_file(self._folder / name, body)
        return digest_of(body)


@dataclass(frozen=True, slots=True)
class PostgresDocuments:
    """Documents as rows of a database; versions count from 1."""

    database: Database
    fleet: str

    def versions(self) -> Mapping[str, str]:
        """Return the newest version of every document, by name."""
        sql = "select name, version from fleetctl.document where fleet = %s"
        rows = self.database.read(lambda c: c.execute(sql, (self.fleet,)).fetchall(), list[Any]())
        return {name: str(version) for name, version in rows}

    def read(self, names: Collection[str]) -> Mapping[str, Document]:
        """Return documents by name; without those that never were."""
        return self.database.read(lambda cursor: self._found(cursor, names), {})

    def write(self, name: str, body: bytes, expected: str) -> str:
        """Replace the version `expected` of a document; return the new version."""

        def work(cursor: "Cursor[Any]") -> str:
            given = self.fleet, name, body, int(expected or 0)
            if row := cursor.execute(_WRITE, given).fetchone():
                return str(row[0])
            found = self._found(cursor, [name]).get(name)
            if found is None or found.body != body:  # the same: a commit whose answer was lost
                raise replaced(name)
            return found.version

        return self.database.write(work)

    def _found(self, cursor: "Cursor[Any]", names: Collection[str]) -> dict[str, Document]:
        rows = cursor.execute(_READ, (self.fleet, list(names))).fetchall()
        return {name: Document(bytes(body), str(version)) for name, body, version in rows}


_READ: Final = """
select name, body, version from fleetctl.document where fleet = %s and name = any(%s)
"""
_WRITE: Final = """
insert into fleetctl.document as known (fleet, name, version, body) values (%s, %s, 1, %s)
on conflict (fleet, name) do update set version = known.version + 1, body = excluded.body
where known.version = %s returning version
"""


def digest_of(body: bytes) -> str:
    """Return the digest of a document; empty for an empty body."""
    return hashlib.sha256(body).hexdigest() if body else ""


def open_documents(home: HomeAddress, root: Path) -> StateDocuments:
    """Return the documents of a home other than the state folder; nothing is read or written.

    `root`: the project, where a file with the database's URI counts from.
    """
    if home.postgresql:
        return PostgresDocuments(Database(root, home.postgresql), home.fleet)
    return FileDocuments(Path(home.folder))
