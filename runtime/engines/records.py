"""Launch records: what fleetctl started on this machine, and how to find it again."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from fleet.resources import Server, ServerFlags
from runtime.engines.processes import in_session, marked_by, start_mark

RECORD = "launch.json"
LOG = "log"
MARK = "FLEETCTL_LAUNCH"
"""Environment variable that every process of a launch carries."""


class LaunchRecord(BaseModel):
    """One started server, as kept in `servers/<name>/launch.json`.

    Written before the process exists (without its number) and again afterwards, so that a
    run that dies in between leaves no server that nobody knows of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    base: str
    host: str
    devices: tuple[str, ...]
    port: int
    digest: str
    url: str
    launch: str
    """Value of the mark in the environment of its processes."""
    flags: ServerFlags
    arguments: tuple[str, ...]
    pid: int = 0
    """Leader of its process group; 0: not known yet."""
    process_start: str = ""
    """Start mark of the process; another process with the same number has another."""
    ready: bool = False
    """It has answered once."""

    @classmethod
    def of(cls, server: Server, flags: ServerFlags, url: str, launch: str) -> Self:
        """Return the record of a server that is about to be started."""
        return cls(
            name=server.name,
            base=server.base,
            host=server.host,
            devices=server.devices,
            port=server.port,
            digest=flags.digest,
            url=url,
            launch=launch,
            flags=flags,
            arguments=(),
        )

    def server(self, digest: str | None) -> Server:
        """Return the server as seen live, with the digest that it shows itself."""
        return Server(
            name=self.name,
            base=self.base,
            host=self.host,
            devices=self.devices,
            port=self.port,
            digest=digest,
            flags=self.flags if digest == self.digest else None,
        )

    def leader(self) -> int | None:
        """Return the number of its main process if that still runs."""
        if self.pid:
            return self.pid if start_mark(self.pid) == self.process_start else None
        return next(iter(marked_by(MARK, self.launch)), None)

    def processes(self) -> tuple[int, ...]:
        """Return all its processes that still run, the main one first."""
        leader = self.leader()
        found = {*marked_by(MARK, self.launch)}
        if leader or (self.pid and start_mark(self.pid) is None):
            found |= {*in_session(leader or self.pid)}
        return (*((leader,) if leader else ()), *sorted(found - {leader}))


@dataclass(frozen=True, slots=True)
class Records:
    """All launch records of a state folder."""

    folder: Path
    """`<state dir>/servers`."""

    def read(self, name: str) -> LaunchRecord | None:
        """Return a server's record; None if there is none or it cannot be read."""
        try:
            text = (self.folder / name / RECORD).read_text(encoding="utf-8")
            record = LaunchRecord.model_validate_json(text)
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None
        # JSON has no tuples; the digest is computed over the flags as they were.
        pairs = tuple((str(key), str(value)) for key, value in record.flags.extra)
        return record.model_copy(update={"flags": replace(record.flags, extra=pairs)})

    def all(self, host: str | None = None) -> Iterator[LaunchRecord]:
        """Yield the records by name, of one host or of all."""
        for path in sorted(self.folder.glob(f"*/{RECORD}")):
            record = self.read(path.parent.name)
            if record is not None and host in (None, record.host):
                yield record

    def write(self, record: LaunchRecord) -> None:
        """Keep a record; complete or not at all, also after a power failure."""
        folder = self.folder / record.name
        folder.mkdir(parents=True, exist_ok=True)
        scratch = folder / f".{RECORD}.new"
        with scratch.open("w", encoding="utf-8") as stream:
            json.dump(record.model_dump(mode="json"), stream, indent=2)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(folder / RECORD)

    def forget(self, name: str) -> None:
        """Drop a record; the log stays."""
        (self.folder / name / RECORD).unlink(missing_ok=True)

    def log(self, name: str) -> Path:
        """Return the path of a server's log."""
        return self.folder / name / LOG
