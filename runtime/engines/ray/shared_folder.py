"""Keeps bases, adapters, records and logs in the folder that this machine shares with nodes."""

import asyncio
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final
from uuid import uuid4

from pydantic import ValidationError

from fleet.errors import EngineError, NewerFormatError
from fleet.hardware import HostSpec
from runtime.engines.launch_records import RECORD, LaunchRecord, LaunchRecords, parse_record
from runtime.engines.protocol import Direct, DirectFile, Report
from runtime.engines.ray.cluster import RayCluster
from runtime.engines.ray.programs import fetch_task
from runtime.engines.store import (
    OTHER_BYTES,
    PATHS,
    SourceFolder,
    TransferReport,
    bring_good,
    check_limit_s,
    check_script,
    fault_of,
    fetch_limit_s,
    fetch_script,
    finish_script,
    not_fetched,
    source_of,
)
from runtime.files import (
    READ_ONLY_FOLDER,
    copy_file,
    make_private,
    moved_into_place,
    plain_text,
    replace_file,
)
from runtime.state_folder import manifest_of, name_of_copy, number_of_copy

KEY: Final = "key"
"""File of a server's key, for its actor."""


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """A folder with the same path on this machine and on the nodes of a cluster."""

    path: Path
    namespace: str
    """Name of the fleet's part of the folder."""
    place: ClassVar = ""
    suspects: ClassVar = "the shared folder's disk"

    @property
    def records(self) -> LaunchRecords:
        """Records, files of adapters and logs of the fleet's servers."""
        return LaunchRecords(self.path / "servers" / self.namespace)

    def record(self, server: str) -> LaunchRecord | None:
        """Return the record of a server's newest launch; None: there is none that can be read."""
        path = self.records.folder / server / RECORD
        with suppress(OSError, ValueError, ValidationError, NewerFormatError):
            record = parse_record(plain_text(path), str(path))
            return record if record.name == server else None
        return None

    def of_host(self, host: str) -> dict[str, LaunchRecord]:
        """Return the records of a host's servers, by name."""
        paths = sorted(self.records.folder.glob(f"*/{RECORD}"))
        found = (self.record(path.parent.name) for path in paths)
        return {record.name: record for record in found if record and record.host == host}

    def require(self) -> None:
        """Refuse a folder that is not there.

        Raises:
            EngineError: FC4124.
        """
        if not self.path.is_dir():
            with _told(self.path):
                raise FileNotFoundError(2, os.strerror(2), str(self.path))

    def begin(self, record: LaunchRecord, key: str) -> None:
        """Write the files of a launch: its record, no adapters, its key; an earlier log is kept.

        Raises:
            EngineError: FC4080, FC4124.
        """
        folder = self.records.folder / record.name
        with _told(folder):
            make_private(folder)
            with suppress(FileNotFoundError):
                self.records.log(record.name).replace(folder / "log.1")
            replace_file(folder / KEY, key.encode())
            self.records.adapters(record.name).replace({})
            self.records.write(record)

    def end(self, server: str) -> None:
        """Delete the record of a server that was stopped; the log stays."""
        with _told(self.path):
            self.records.forget(server)
            (self.records.folder / server / KEY).unlink(missing_ok=True)

    def write_script(self, text: str) -> Path:
        """Write a script for a node, its owner's alone; return its path.

        Raises:
            EngineError: FC4124.
        """
        folder = self.records.folder
        with _told(folder):
            make_private(folder)
            path = folder / f"fetch-{uuid4().hex[:12]}.sh"
            replace_file(path, text.encode())
            return path

    def drop_script(self, script: Path) -> None:
        """Delete a script that its node has not deleted.

        Raises:
            EngineError: FC4124.
        """
        with _told(script):
            script.unlink(missing_ok=True)

    def drop_part(self, copy: Path) -> None:
        """Delete the part and the lock of a copy that is finished."""
        shutil.rmtree(copy.with_name(f"{copy.name}.part"), ignore_errors=True)
        self.lock(copy).unlink(missing_ok=True)

    @staticmethod
    def lock(copy: Path) -> Path:
        """Return the file of the lock of a copy, by which nodes take turns."""
        return copy.with_name(f"{copy.name}.lock")

    async def bring_good(self, folder: Path, *, links: bool = False) -> tuple[Path, str]:
        """Copy a folder's files unless a good copy is there; return the copy and its digest.

        Raises:
            EngineError: FC4124, a file cannot be read or written; FC4099, other bytes again.
        """
        await asyncio.to_thread(self.require)
        with _told(self.path):
            source = await asyncio.to_thread(SourceFolder.of, folder, links=links)
        first = number_of_copy(folder.name, source.digest) or 1
        return Path(await bring_good(self, source, first, lambda _: None)), source.digest

    async def bring(self, source: SourceFolder, number: int) -> str:
        """Copy a folder's files unless a copy is there; return the path of the copy."""
        copy = self.path / name_of_copy(source.digest, number)

        def copy_files() -> None:
            if not copy.is_dir():
                with moved_into_place(copy) as scratch:
                    for name in source.names:
                        copy_file((source.folder / name).resolve(), scratch / name)
                    scratch.chmod(READ_ONLY_FOLDER)

        with _told(self.path):
            await asyncio.to_thread(copy_files)
        return str(copy)

    async def fault(self, source: SourceFolder, path: str) -> tuple[str, tuple[str, ...]]:
        """Hash a copy; return its fault, without the names of files."""
        try:
            there = await asyncio.to_thread(manifest_of, Path(path), source.names)
        except OSError:
            return fault_of(1, ""), ()
        return fault_of(OTHER_BYTES if there != source.manifest else 0, ""), ()


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turn a complaint of the system about the shared folder into an error; raises FC4124."""
    try:
        yield
    except OSError as error:
        raise EngineError.of(
            "FC4124",
            "The shared folder of a Ray host cannot be used",
            f"`{error.filename or folder}`: {error.strerror or error}. Nodes and this machine need "
            "the folder at the same path.",
            hint="Mount it here and on the nodes, or correct `store` of the hosts.",
        ) from None


_SCRIPT_S: Final = 30.0
_JOB_S: Final = 90.0
"""Time that a job may take beyond its script: its own start, and that of a worker on the node."""
_SCRIPT: Final = """\
rm -f "$0"
cd {store} || exit
if test -d {name}; then
({check_copy})
else
mkdir -p {name}.part || exit
({fetch})
({check}{finish})
fi
ended=$?
test -d {name} && rm -f {name}.lock
exit $ended
"""


@dataclass(frozen=True, slots=True)
class NodeFetcher:
    """The way a node of a cluster gets versions from their sources."""

    host: HostSpec
    shared: SharedFolder
    direct: Direct | None
    """Where the node may fetch versions itself; None: they are brought from here."""
    report: Report

    async def bring(self, folder: Path, cluster: RayCluster) -> tuple[Path, str]:
        """Let the node fetch a version unless a good copy is there; return the copy, its digest.

        The node hashes what is there or arrives. What it cannot fetch is brought from here, and the
        reason is told.

        Raises:
            EngineError: as `SharedFolder.bring_good` and `source_of`.
        """
        if self.direct is None:
            return await self.shared.bring_good(folder)
        await asyncio.to_thread(self.shared.require)
        source = await source_of(folder)
        tell = TransferReport(self.host.name, source, self.report).begun_anew
        try:
            first = number_of_copy(folder.name, source.digest) or 1
            copy = await self._by_node(source, first, self.direct, cluster, tell)
            if copy is not None:
                return copy, source.digest
        except EngineError as error:
            tell(f"`{self.host.name}` ran no script ({error.diagnostics[0].detail.rstrip('.')})")
        brought, digest = await self.shared.bring_good(folder)
        await asyncio.to_thread(self.shared.drop_part, brought)
        return brought, digest

    async def _by_node(
        self,
        source: SourceFolder,
        first: int,
        direct: Direct,
        cluster: RayCluster,
        tell: Callable[[str], None],
    ) -> Path | None:
        """Return a copy that the node found good or fetched; None: there is none."""
        for number in range(first, first + PATHS):
            copy = self.shared.path / name_of_copy(source.digest, number)
            is_there = copy.is_dir()
            files = () if is_there else await direct(source.digest)
            if not is_there and not files:
                return None
            why = await self._fetched(source, files, copy.name, cluster)
            if not why:
                return copy
            tell(why)
            if not is_there:
                return None
        return None

    async def _fetched(
        self, source: SourceFolder, files: Sequence[DirectFile], name: str, cluster: RayCluster
    ) -> str:
        """Let the node fetch or hash a copy; return the fault of the copy; empty: it is good.

        The lock lets nodes, and a run after a killed one, fetch a copy one after another. It goes
        once the copy has its name, as whoever waits finds the copy then.
        """
        store = self.shared.path
        part = str(store / f"{name}.part")
        text = _SCRIPT.format(
            store=shlex.quote(str(store)),
            name=name,
            check_copy=check_script(source, str(store / name)),
            fetch=fetch_script(files, source, part),
            check=check_script(source, part),
            finish=finish_script(name),
        )
        limit_s = _SCRIPT_S + fetch_limit_s(source) + check_limit_s(source)
        script = await asyncio.to_thread(self.shared.write_script, text)
        lock = self.shared.lock(store / name)
        task = fetch_task(self.host.address, str(script), str(lock), int(limit_s))
        try:
            (ended,) = await cluster.run("fetch", [task], limit_s + _JOB_S)
        finally:
            await asyncio.to_thread(self.shared.drop_script, script)
        if why := str(ended.get("error", "")):
            return f"`{self.host.name}` ran no script ({why.rstrip('.')})"
        code, stdout = int(ended["code"]), str(ended["stdout"])
        if code and not files:
            path = store / name
            return f"the copy at `{path}` of `{self.host.name}` {fault_of(code, stdout)}"
        return not_fetched(self.host.name, stdout, str(ended["stderr"])) if code else ""
