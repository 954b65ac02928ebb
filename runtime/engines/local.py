"""Servers that fleetctl starts on this machine and that outlive the command."""

import asyncio
import subprocess
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from uuid import uuid4

from fleet.errors import EngineError
from fleet.hardware import HostSpec
from fleet.names import Address
from fleet.resources import Server, ServerFlags, State
from runtime.engines.adapters_file import AdapterEntry, entries_of
from runtime.engines.launch_records import LaunchRecord, LaunchRecords
from runtime.engines.launching import (
    LAUNCH_LENGTH,
    START_TIMEOUT_S,
    ServerClients,
    ended_early,
    flags_of,
    not_running,
    require_digest,
)
from runtime.engines.observation import StateBuilder, base_digest, observe_servers
from runtime.engines.protocol import Completion
from runtime.engines.recognition import NO_FLEET, FleetMark, started_by_others, unrecorded, url_of
from runtime.engines.supervisor import (
    STOP_TIMEOUT_S,
    cannot_start,
    end,
    last_log_lines,
    refuse_taken_port,
    spawn,
)
from runtime.engines.vllm_api import (
    absolute,
    load_adapter,
    refuses_key,
    request_completion,
    unload_adapter,
)
from runtime.json_client import JsonClient
from runtime.processes import environment, start_mark
from runtime.state_folder import StoreView

_PORT_GRACE_S = 5.0

Command = Callable[[Server, str], tuple[tuple[str, ...], dict[str, str]]]
"""Returns the argument vector and the whole environment that start a server as a launch."""


@dataclass(eq=False)
class LocalEngine:
    """Starts servers as detached processes and finds them again by their launch records."""

    host: HostSpec
    """The machine; servers listen on its address."""
    records: LaunchRecords
    folder: Path
    """Working folder of the servers: the project."""
    command: Command
    store: StoreView
    """The copies that servers load from."""
    fleet: FleetMark = NO_FLEET
    """The fleet of the servers."""
    secret: str = field(default="", repr=False)
    """The secret that the keys of servers are derived from; empty: they have none."""
    interpreter: tuple[str, str] = ("", "")
    """Interpreter that servers are started with, as declared and in full; empty: not known."""
    start_timeout_s: float = START_TIMEOUT_S
    stop_timeout_s: float = STOP_TIMEOUT_S
    """Seconds between SIGTERM and SIGKILL."""
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._servers = ServerClients(self.host, self.secret, keeps_urls=True)

    async def observe(self, only: str = "") -> State:
        """Return the servers that run here, with their adapters.

        A server that has ended is absent, a server that still starts too, with a note: `start`
        joins it. Unknown is a server that answered before and does not now, that another machine
        or another state folder started, or at whose address another launch answers.
        """
        seen = StateBuilder(self.store, interpreter=self.interpreter)
        kept = [*self.records.all(self.host.name)]
        seen.add(State(ports={record.name: record.port for record in kept}))
        records = {record.name: record for record in kept if record.leader()}
        for record, elsewhere in self._unrecorded():
            if elsewhere:
                seen.record_of_others(record, elsewhere)
            elif records.setdefault(record.name, record) is record:
                note = f"Server {record.name} runs without a launch record, as process {record.pid}"
                seen.add(State(notes=(f"{note}: fleetctl adopt",)))
        ended = (its for its in kept if not its.is_elsewhere and its.name not in records)
        marks = {
            name: FleetMark.among(environment(record.leader() or 0)).id
            for name, record in records.items()
        }
        seen.add(
            State(
                unknown_servers=self.records.started_elsewhere(self.host.name, records),
                ended={record.name: record.served_launch for record in ended},
                fleets={name: drawn for name, drawn in marks.items() if drawn},
            )
        )
        clients = {name: self._servers.client(record) for name, record in records.items()}
        for name, answer in (await observe_servers(clients, only)).items():
            record = records[name]
            if not isinstance(answer, EngineError):
                seen.record_launch(record, answer, self.records.adapters(name).read())
            elif record.leader() is None:
                continue
            elif record.ready or refuses_key(answer):
                seen.record_unknown(name, answer)
            else:
                seen.add(State(notes=(f"Server {name} is still starting.",)))
        return seen.state()

    async def check_start(self, server: Server) -> None:
        """Refuse a start on a port that others have, or without an interpreter; start nothing.

        A server that runs or starts, or of which processes are left, is for `start` to judge.

        Raises:
            EngineError: FC4011, FC4018.
        """
        record = self.records.read(server.name)
        if record is not None and record.processes():
            return
        grace = _PORT_GRACE_S if record is not None else 0.0
        await refuse_taken_port(server, self.host.address, grace, self.fleet)
        program = self.command(server, "")[0][0]
        if which(program) is None and not (self.folder / program).is_file():
            raise cannot_start(server.name, program, "there is no such program")

    async def start(self, server: Server) -> None:
        """Start a server and return once the server answers with the digest of its flags.

        A server that runs with the same flags is fine; a server that still starts is waited for.
        An interrupted wait leaves the server starting, and the next call joins; so does this call
        where a supervisor starts the server.

        Raises:
            EngineError: the server runs with other flags, the port is taken, or the server died;
                the diagnostic holds the end of its log.
            EngineTimedOutError: no answer in time; the server is left running.
        """
        flags = flags_of(server)
        record = self._record(server.name) or await started_by_others(
            server, self.host, self.records, self.folder, self.fleet
        )
        if record is not None:
            require_digest(server, record.digest)
        else:
            ended = self.records.read(server.name)
            if ended is not None:
                await end(ended, self.records)  # workers that outlived their server
            grace = _PORT_GRACE_S if ended is not None else 0.0
            await refuse_taken_port(server, self.host.address, grace, self.fleet)
            files = await asyncio.to_thread(base_digest, self.folder / flags.model)
            record = self._launch(server, flags, files)
        await self._until_ready(record)

    async def stop(self, server: str) -> None:
        """Stop a server and all its processes, letting running requests finish."""
        record = self._record(server) or self.records.read(server)
        if record is not None:
            await end(record, self.records, self.stop_timeout_s)
        child = self._children.pop(server, None)
        if child is not None:
            child.poll()
        await self._servers.close(server)

    async def load(self, server: str, adapter: str, source: str) -> None:
        """Load an adapter; the server sees the same file system, and may load it again itself."""
        path = absolute(source)
        await load_adapter(self._running(server), adapter, path)
        if digest := self.store.digest(path):
            self.records.adapters(server).add(adapter, AdapterEntry(path, digest))

    async def unload(self, server: str, adapter: str) -> None:
        """Unload an adapter and verify the list of models; a server that is gone holds none."""
        self.records.adapters(server).remove(adapter)  # first, or a late request brings it back
        record = self._record(server)
        if record is not None:
            await unload_adapter(self._servers.client(record), adapter)

    async def keep_for_restart(self, live: State, kept: Collection[Address]) -> None:
        """Enter the kept adapters into the servers' files of adapters, and remove all others."""
        for name, entries in entries_of(live, self.host.name, kept).items():
            self.records.adapters(name).replace(entries)

    async def complete(
        self, server: str, model: str, prompt: str, max_tokens: int = 64
    ) -> Completion:
        """Return the greedy answer to a text."""
        return await request_completion(self._running(server), model, prompt, max_tokens)

    async def close(self) -> None:
        """Release connections; servers go on running."""
        await self._servers.close()

    def _record(self, server: str) -> LaunchRecord | None:
        """Return the record of a running server, written where missing; None: no such process."""
        record = self.records.read(server)
        if record is not None and record.leader() is not None:
            return record
        for found, elsewhere in self._unrecorded():
            if found.name == server and not elsewhere:
                self.records.write(found)
                return found
        return None

    def _unrecorded(self) -> Iterator[tuple[LaunchRecord, str]]:
        ports = {record.port for record in self.records.all() if record.leader()}  # of all hosts
        return unrecorded(self.host, self.records, self.folder, self.fleet, ports)

    def _running(self, server: str) -> JsonClient:
        record = self._record(server)
        if record is None:
            raise not_running(server, "was not started here or has ended")
        return self._servers.client(record)

    def _launch(self, server: Server, flags: ServerFlags, files: str) -> LaunchRecord:
        url, mark = url_of(self.host.address, server.port), uuid4().hex
        record = LaunchRecord.of(server, flags, url, mark)
        arguments, environment = self.command(server, mark[:LAUNCH_LENGTH])
        record = record.model_copy(update={"arguments": arguments, "base_files": files})
        self.records.adapters(server.name).replace({})
        self.records.write(record)
        log = self.records.log(server.name)
        variables = {**environment, **self.records.carried_by(record)}
        try:
            child = spawn(arguments, variables, self.folder.absolute(), log)
        except OSError as error:
            self.records.forget(server.name)
            raise cannot_start(server.name, arguments[0], error.strerror or "") from None
        self._children[server.name] = child
        process = {"pid": child.pid, "process_start": start_mark(child.pid) or ""}
        record = record.model_copy(update=process)
        self.records.write(record)
        return record

    async def _until_ready(self, record: LaunchRecord) -> None:
        async def require_start() -> None:
            if record.leader() is None:
                log = self.records.log(record.name)
                raise ended_early(record.name, last_log_lines(log), str(log))

        await self._servers.until_ready(record, self.start_timeout_s, require_start)
        # Also a server that was ready before: the file may be lost, and `record` its copy.
        self.records.write(record.model_copy(update={"ready": True}))
