"""Keeps the file that the plug-in of vLLM answers by; tells which interpreters have the plug-in."""

import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fleet.codec import decode_json
from fleet.errors import EngineError
from fleet.names import Address
from fleet.resources import State
from fleet.vllm import RESOLVER
from runtime.files import locked_folder, make_private, read_plain, replace_file

FILE = "adapters.json"
"""File mode, less the bits of the umask: the server may run as another user."""


def adapters_path(servers: Path, server: str, python: str, *, fake: bool) -> str:
    """Return the path of a server's file; empty if the interpreter `python` lacks the plug-in.

    `servers` is the folder of the launch records. A fake server needs no plug-in.
    """
    return str(servers.absolute() / server / FILE) if fake or has_resolver(python) else ""


def has_resolver(python: str) -> bool:
    """Return whether the environment of an interpreter has the plug-in; no program is started."""
    program = Path(shutil.which(python) or "")
    release = program.resolve().name  # such as python3.11, behind the links of an environment
    folders = program.parent.parent.glob(f"lib*/{release}/*-packages/{RESOLVER}-*.dist-info")
    return program.is_file() and any(folders)


class AdapterEntry(NamedTuple):
    """The folder of a loaded adapter, and the digest of its bytes."""

    path: str
    digest: str


def parse_entries(text: bytes | str) -> dict[str, AdapterEntry]:
    """Return the entries of a file by served name; none if the text is malformed."""
    try:
        return {
            str(name): AdapterEntry(str(entry["path"]), str(entry["digest"]))
            for name, entry in decode_json(text).items()
        }
    except (ValueError, AttributeError, KeyError, TypeError):
        return {}


def dump_entries(entries: Mapping[str, AdapterEntry]) -> str:
    """Return the text of a file with these entries."""
    return json.dumps({name: entry._asdict() for name, entry in sorted(entries.items())}, indent=1)


def entries_of(
    live: State, host: str, kept: Collection[Address]
) -> dict[str, dict[str, AdapterEntry]]:
    """Return the entries of the adapters that are live and kept, for every server of a host."""
    found: dict[str, dict[str, AdapterEntry]] = {
        name: {} for name, server in live.servers().items() if server.host == host
    }
    for address, adapter in live.adapters().items():
        if adapter.digest and address in kept and adapter.server in found:
            found[adapter.server][adapter.adapter] = AdapterEntry(adapter.path, adapter.digest)
    return found


@dataclass(frozen=True, slots=True)
class AdaptersFile:
    """The adapters that a server may load by itself: those that fleetctl has loaded onto it.

    An entry is added after a load and removed before an unload. The other way round, a request
    that comes late would bring the adapter back.
    """

    path: Path

    def read(self) -> dict[str, AdapterEntry]:
        """Return the entries by served name; none if the file is missing or malformed."""
        try:
            return parse_entries(read_plain(self.path))
        except OSError:
            return {}

    def add(self, adapter: str, entry: AdapterEntry) -> None:
        """Add or replace an entry.

        Raises:
            EngineError: FC4080, the file cannot be written.
        """
        with self._locked():
            entries = self.read()
            if entries.get(adapter) != entry:
                self._write(entries | {adapter: entry})

    def remove(self, adapter: str) -> None:
        """Remove an entry; an absent entry is fine.

        Raises:
            EngineError: FC4080, the file cannot be written.
        """
        with self._locked():
            entries = self.read()
            if entries.pop(adapter, None) is not None:
                self._write(entries)

    def replace(self, entries: Mapping[str, AdapterEntry]) -> None:
        """Make these the entries, and no others.

        Raises:
            EngineError: FC4080, the file cannot be written.
        """
        with self._locked():
            if not self.path.exists() or self.read() != entries:
                self._write(entries)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            make_private(self.path.parent)
            with locked_folder(self.path.parent):
                yield
        except OSError as error:
            raise EngineError.of(
                "FC4080",
                "A server's file of adapters cannot be written",
                f"{self.path}: {error.strerror or error}. The server would answer by it after a "
                "restart, for an adapter that was unloaded or not for one that was loaded.",
                hint="Make room or see to the permissions, then apply again.",
                command="fleetctl apply --auto",
            ) from None

    def _write(self, entries: Mapping[str, AdapterEntry]) -> None:
        replace_file(self.path, dump_entries(entries).encode())
