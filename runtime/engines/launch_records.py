"""Launch records: how later commands recognise the servers that fleetctl started here."""

import json
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer

from fleet.codec import decode_json, plain
from fleet.errors import newer_server, require_known
from fleet.names import NAME_PATTERN, Stamps
from fleet.resources import FORMATS, Server, ServerFlags, format_of
from runtime.engines.adapters_file import FILE, AdaptersFile
from runtime.files import make_private, plain_text, replace_file
from runtime.processes import (
    arguments,
    command_line,
    environment,
    in_session,
    machine_id,
    marked_by,
    start_mark,
)

RECORD = "launch.json"
FORMAT = 1
"""Format of a record; raise it if an earlier release would act wrongly on an addition."""
LOG = "log"
MARK = "FLEETCTL_LAUNCH"
"""Environment variable that every process of a launch carries."""
HOME = "FLEETCTL_SERVERS"
"""Environment variable with the folder of the records."""
COPY = "FLEETCTL_RECORD"
"""Environment variable with the record itself, from before the process had a number."""


_TITLE = "VLLM::"
"""Beginning of the titles that workers of vLLM give themselves."""
_OF_SERVER = {"name", "base", "host", "devices", "port"}
"""Fields that a record has of its server."""


class LaunchRecord(BaseModel):
    """A started server, as kept in `servers/<name>/launch.json`.

    Written before the process exists (without its number) and again afterwards, so that a
    run that dies in between leaves no unknown server.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = Field(default=1, exclude=True)
    """Not written for format 1."""
    name: str = Field(pattern=f"^{NAME_PATTERN}$")
    """Also the name of its folder."""
    base: str
    host: str
    devices: tuple[str, ...]
    port: int
    digest: str
    url: str
    launch: str
    """Value of the mark in the environment of the processes; its beginning is the launch that a
    server is stamped with."""
    flags: ServerFlags
    arguments: tuple[str, ...]
    pid: int = 0
    """Leader of the process group; 0: not known yet."""
    process_start: str = ""
    """Start mark of the process; another process with the same number has another mark."""
    base_files: str = ""
    """`base_digest` of the base at the start; empty: not known."""
    ready: bool = False
    """The server has answered."""
    machine: str = ""
    """`machine_id` of the machine that started the server; empty: this machine."""

    @field_serializer("flags")
    def _flags(self, flags: ServerFlags) -> Any:
        return plain(flags)  # without a default that earlier releases would refuse

    @classmethod
    def of(cls, server: Server, flags: ServerFlags, url: str, launch: str) -> Self:
        """Return the record of a server that is about to be started."""
        same = {name: getattr(server, name) for name in _OF_SERVER}
        return cls(
            **same, digest=server.digest or flags.digest, url=url, launch=launch, flags=flags,
            arguments=(), machine=machine_id(),
        )  # fmt: skip

    def server(self, digest: str | None) -> Server:
        """Return the server as seen live, with the digest that the server shows.

        Raises:
            EngineError: FC4023, the digest is of a later format than is known here.
        """
        if format_of(digest) > max(FORMATS):
            raise newer_server(self.name, format_of(digest), max(FORMATS))
        flags = self.flags if digest == self.digest else None
        return Server(**self.model_dump(include=_OF_SERVER), digest=digest, flags=flags)

    @property
    def served_launch(self) -> str:
        """Launch that the server is stamped with; empty: started by a release that drew none."""
        return Stamps.among(self.arguments).launch

    @property
    def is_elsewhere(self) -> bool:
        """Whether another machine started the server: nothing here tells whether it runs."""
        return self.machine not in ("", machine_id())

    def leader(self) -> int | None:
        """Return the number of the main process if that still runs, on this machine."""
        if self.is_elsewhere:
            return None
        if self.pid:
            is_same = start_mark(self.pid) == self.process_start
            return self.pid if is_same and self.is_borne_by(self.pid) else None
        return next(iter(marked_by(MARK, self.launch)), None)

    def is_borne_by(self, pid: int) -> bool:
        """Say whether a process bears the mark of this launch itself: a record may be forged.

        By the mark in its environment, or where it has none by the stamps in its command line.
        """
        mark = environment(pid).get(MARK)
        if mark is not None:
            return mark == self.launch
        stamps = Stamps.among(arguments(pid))
        return stamps.digest == self.digest and stamps.launch == self.served_launch

    def processes(self) -> tuple[int, ...]:
        """Return all processes that still run, the main process first."""
        if self.is_elsewhere:
            return ()
        leader = self.leader()
        pids = {*marked_by(MARK, self.launch)}
        if leader:
            pids |= {*in_session(leader)}
        elif self.pid and start_mark(self.pid) is None:
            left = in_session(self.pid)
            pids |= {pid for pid in left if self.is_borne_by(pid) or _is_worker(pid)}
        return (*((leader,) if leader else ()), *sorted(pids - {leader}))


@dataclass(frozen=True, slots=True)
class LaunchRecords:
    """All launch records of a state folder.

    A record whose file was lost is read back from its server's process, which carries a copy
    in its environment: a server that runs must not count as ended.
    """

    folder: Path
    """`<state dir>/servers`."""

    def read(self, name: str) -> LaunchRecord | None:
        """Return a server's record; None if there is none or the file cannot be read."""
        return self._kept(name) or self._carried().get(name)

    def all(self, host: str | None = None) -> Iterator[LaunchRecord]:
        """Yield the records by name, of a host or of all."""
        kept: dict[str, LaunchRecord | None] = {
            path.name: self._kept(path.name) for path in self.folder.glob("*")
        }
        # A server's folder outlives its record. Processes are searched only if a record of the
        # host may be lost, not for every host of a fleet that runs elsewhere.
        if not self.folder.is_dir() or any(
            record is None and (host is None or f"-{host}-" in f"{name}-")
            for name, record in kept.items()
        ):
            kept = {**self._carried(), **{name: record for name, record in kept.items() if record}}
        for _, record in sorted(kept.items()):
            if record is not None and host in (None, record.host):
                yield record

    def carried_by(self, record: LaunchRecord) -> dict[str, str]:
        """Return the variables that mark a launch's processes and hold its record."""
        home, copy = str(self.folder.resolve()), record.model_dump_json()
        return {MARK: record.launch, HOME: home, COPY: copy}

    def _kept(self, name: str) -> LaunchRecord | None:
        path = self.folder / name / RECORD
        try:
            record = parse_record(plain_text(path), str(path))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return record if record.name == name else None

    def _carried(self) -> dict[str, LaunchRecord]:
        """Return the records that running processes carry, by name."""
        records = {}
        for pid in marked_by(HOME, str(self.folder.resolve())):
            with suppress(ValidationError, ProcessLookupError):
                if os.getsid(pid) != pid:  # a worker
                    continue
                record = parse_record(environment(pid).get(COPY, ""), f"{COPY} of process {pid}")
                # A server that may have answered must not count as starting.
                update = {"pid": pid, "process_start": start_mark(pid) or "", "ready": True}
                records[record.name] = record.model_copy(update=update)
        return records

    def write(self, record: LaunchRecord) -> None:
        """Write a record; complete or not at all, also after a power failure."""
        folder = self.folder / record.name
        make_private(folder)
        text = json.dumps(record.model_dump(mode="json"), indent=2)
        replace_file(folder / RECORD, text.encode())

    def lost(self) -> Iterator[LaunchRecord]:
        """Yield the records that only processes carry."""
        yield from (record for name, record in self._carried().items() if not self._kept(name))

    def forget(self, name: str) -> None:
        """Delete a record; the log stays."""
        (self.folder / name / RECORD).unlink(missing_ok=True)

    def adapters(self, name: str) -> AdaptersFile:
        """Return the file of adapters that a server may load by itself."""
        return AdaptersFile(self.folder.absolute() / name / FILE)

    def started_elsewhere(self, host: str, known: Collection[str]) -> dict[str, str]:
        """Return why servers of a host that another machine started are not known here, by name.

        `known` are left out: the same server runs here.
        """
        records = (record for record in self.all(host) if record.is_elsewhere)
        return {found.name: self.elsewhere(found) for found in records if found.name not in known}

    def elsewhere(self, record: LaunchRecord) -> str:
        """Return why nothing is known here of a server that another machine started."""
        return (
            "another machine started it, so run fleetctl there; if that machine is gone for good, "
            f"remove {self.folder / record.name / RECORD}"
        )

    def log(self, name: str) -> Path:
        """Return the path of a server's log."""
        return self.folder / name / LOG


def _is_worker(pid: int) -> bool:
    """Say whether a process is a worker of vLLM that has overwritten its environment by a title."""
    return not environment(pid) and command_line(pid).startswith(_TITLE)


def parse_record(text: str, file: str) -> LaunchRecord:
    """Read a record.

    Raises:
        ValidationError: the text is no record.
        NewerFormatError: FC5007, the record has a later format.
    """
    with suppress(ValueError, AttributeError):
        require_known(decode_json(text).get("format"), FORMAT, file)
    record = LaunchRecord.model_validate_json(text)
    # JSON has no tuples; the digest is computed over the flags as they were.
    pairs = tuple((str(key), str(value)) for key, value in record.flags.extra)
    return record.model_copy(update={"flags": replace(record.flags, extra=pairs)})
