"""Servers of a host that is reached by SSH: units of systemd, which answer through forwards."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from fleet.errors import EngineError
from fleet.hardware import SYSTEM, HostSpec
from fleet.hosts import unit_name
from fleet.names import Address, server_name
from fleet.resources import Server, State
from runtime.engines.adapters_file import AdapterEntry, entries_of
from runtime.engines.launch_records import LaunchRecord
from runtime.engines.launching import (
    LONGEST_POLL_S,
    START_TIMEOUT_S,
    ServerClients,
    flags_of,
    not_running,
    require_digest,
)
from runtime.engines.observation import StateBuilder, observe_servers
from runtime.engines.protocol import Completion, Direct, Report
from runtime.engines.recognition import FleetMark
from runtime.engines.remote.box import BoxMemory, BoxView, look, write_entries
from runtime.engines.remote.connection import SshConnection
from runtime.engines.remote.launching import BoxLauncher
from runtime.engines.remote.units import has_ended, linger_notes, list_units, remove_unit
from runtime.engines.vllm_api import (
    absolute,
    load_adapter,
    refuses_key,
    request_completion,
    unload_adapter,
)
from runtime.json_client import JsonClient
from runtime.state_folder import StoreView

_REACH_S: Final = 2.0
"""Upper bound of the wait for a forwarded port. Seconds."""


@dataclass(eq=False)
class ForwardedClients(ServerClients):
    """Clients of a host's servers, through forwarded ports."""

    ssh: SshConnection = field(kw_only=True)

    async def reach(self, record: LaunchRecord) -> JsonClient:
        """Return the client of a server; the port is forwarded, unless a forward stands.

        Whoever keeps the forward: the stamps of the server that answers tell that it is ours.

        Raises:
            EngineError: as `SshConnection.forward`.
        """
        try:
            async with asyncio.timeout(_REACH_S):
                _, writer = await asyncio.open_connection(self.host.reached_at, record.port)
            writer.close()
        except OSError:
            await self.ssh.forward(record.port, record.port, self.host.reached_at)
        return self.client(record)

    async def faults(self, records: Collection[LaunchRecord]) -> dict[str, EngineError]:
        """Reach many servers at the same time; return the errors of those that cannot be."""

        async def fault(record: LaunchRecord) -> EngineError | None:
            try:
                await self.reach(record)
            except EngineError as error:
                return error
            return None

        found = zip(records, await asyncio.gather(*map(fault, records)), strict=True)
        return {record.name: error for record, error in found if error is not None}


Entries = dict[str, AdapterEntry]


@dataclass(eq=False)
class SshEngine:
    """Keeps servers as units of systemd on a host; all that is known of them lies there."""

    host: HostSpec
    ssh: SshConnection
    folder: Path
    """The project, to which bases are relative."""
    store: Path
    """The copies on this machine, which are brought to the host."""
    memory: Path
    """File of `BoxMemory`."""
    fleet: FleetMark
    """The fleet; units of other fleets are left alone."""
    secret: str | None = field(default="", repr=False)
    """As in `BoxLauncher`."""
    bases: Collection[str] = ()
    """Names of the bases of which the host may have servers."""
    report: Report = lambda *_: None
    direct: Direct | None = None
    start_timeout_s: float = START_TIMEOUT_S
    _entering: dict[str, asyncio.Lock] = field(
        default_factory=lambda: defaultdict(asyncio.Lock), init=False
    )

    def __post_init__(self) -> None:
        self._servers = ForwardedClients(self.host, self.secret or "", ssh=self.ssh)
        self._launcher = BoxLauncher(
            self.host, self.ssh, self.folder, self.fleet, self.secret, self.report, self.direct
        )

    async def observe(self, only: str = "") -> State:
        """Return the servers of the host, with their adapters.

        A server whose unit is stopped is absent, and with a note one that systemd still starts.
        A server that answered and does not now is unknown. Where SSH does not reach the host, the
        servers of the last time are asked by forwards; else all may be there.
        """
        before = BoxMemory.read(self.memory)
        try:
            box = await self._look()
        except EngineError as error:
            return await self._observe_unreached(before, error, only)
        started_by = self._launcher.interpreter(box)
        seen = StateBuilder(self._copies(box.store), self.host.supervisor, started_by)
        now = self._started(box, before, seen)
        ports = {name: record.port for name, record in now.items()}
        fleets = {name: drawn for name in now if (drawn := box.units[name].fleet.id)}
        lingering = tuple(linger_notes()) if self.ssh.is_here and now else ()
        seen.add(State(ports=ports, fleets=fleets, notes=lingering))
        errors = await self._servers.faults(now.values())
        clients = {name: self._servers.client(record) for name, record in now.items()}
        for name, answer in (await observe_servers(clients, only)).items():
            if not isinstance(answer, EngineError):
                usual = self.host.supervisor if self.ssh.is_here else ""
                seen.supervisor = SYSTEM if box.units[name].is_system else usual
                if seen.record_launch(now[name], answer, box.adapters.get(name, {})):
                    now[name] = now[name].model_copy(update={"ready": True})
            elif now[name].ready or name in errors or refuses_key(answer):
                seen.record_unknown(name, errors.get(name, answer))
            else:
                number = box.units[name].restarts
                again = f", started again by systemd (restart {number})" if number else ""
                seen.add(State(notes=(f"Server {name} is still starting{again}.",)))
        if (after := BoxMemory(box.store, now)) != before:
            after.write(self.memory)
        return seen.state()

    async def check_start(self, server: Server) -> None:
        """Refuse a start on a port that others have, or without an interpreter; start nothing.

        Raises:
            EngineError: FC4011, FC4018, FC4101; or as `SshConnection.run`.
        """
        box = await self._look()
        unit = box.units.get(server.name)
        self._launcher.require_own(unit)
        if unit is None or not unit.runs:
            await self._launcher.check(server, box)

    async def start(self, server: Server) -> None:
        """Start a server and return once the server answers with the digest of its flags.

        A server that runs with the same flags is fine; a server that still starts is waited for.
        The next call joins. A silent server with a unit of other or edited flags is started anew.

        Raises:
            EngineError: the server answers with other flags, its unit belongs to others, or the
                server ended; the diagnostic holds the end of its log.
            EngineTimedOutError: no answer in time; the server is left running.
        """
        flags = flags_of(server)
        box = await self._look()
        while (unit := box.units.get(server.name)) is not None and unit.state == "deactivating":
            await asyncio.sleep(LONGEST_POLL_S)  # systemd bounds it, and may start it again then
            box = await self._look()
        self._launcher.require_own(unit)
        declared = server.digest or flags.digest
        record = unit.record if unit is not None and unit.runs else None
        is_answering = record is not None and await self._servers.answers(record)
        is_same = record is not None and record.digest == declared
        if record is not None and is_answering:
            require_digest(server, record.digest)
            return
        if record is not None and is_same and unit is not None and not unit.is_edited:
            await self._until_ready(record, is_new=False)
            return
        record = await self._launcher.launch(server, flags, box)
        await self._until_ready(record, is_new=True)

    async def stop(self, server: str) -> None:
        """Stop a server and delete its unit, letting running requests finish."""
        if (unit := (await self._look()).units.get(server)) and self.fleet.owns(unit.fleet):
            await remove_unit(self.ssh, server)
        await self._servers.close(server)

    async def load(self, server: str, adapter: str, source: str) -> None:
        """Load an adapter from a copy on the host; the server may load the copy again itself."""
        box = await self._look()
        client = await self._up(box, server)
        folder = Path(absolute(source))
        path, digest = await self._launcher.bring_adapter(folder, box, self._copies(box.store))
        await load_adapter(client, adapter, path)
        if digest:
            added = {adapter: AdapterEntry(path, digest)}
            await self._enter(server, lambda entries: entries | added)

    async def unload(self, server: str, adapter: str) -> None:
        """Unload an adapter and verify the list of models; a server that is gone holds none."""
        # The entry first, or a late request brings the adapter back.
        box = await self._enter(
            server, lambda entries: {name: entries[name] for name in entries if name != adapter}
        )
        if (record := self._record(box, server)) is not None:
            await unload_adapter(await self._servers.reach(record), adapter)

    async def keep_for_restart(self, live: State, kept: Collection[Address]) -> None:
        """Enter the kept adapters into the servers' files of adapters, and remove all others."""
        wanted = entries_of(live, self.host.name, kept)
        written = (await self._look()).adapters if wanted else {}
        for name, entries in wanted.items():
            if written.get(name, {}) != entries:
                await write_entries(self.ssh, name, entries)

    async def complete(
        self, server: str, model: str, prompt: str, max_tokens: int = 64
    ) -> Completion:
        """Return the greedy answer to a text."""
        client = self._servers.by_server.get(server) or await self._up(await self._look(), server)
        return await request_completion(client, model, prompt, max_tokens)

    async def close(self) -> None:
        """Release connections; servers go on running, and the shared connection stays a while."""
        await self._servers.close()
        await self.ssh.close()

    async def _look(self) -> BoxView:
        return await look(self.ssh, self.host.store_there)

    def _copies(self, store: str) -> StoreView:
        there = () if self.ssh.is_here else ((str(self.store.absolute()), store or "/"),)
        return StoreView(self.store, there)

    def _started(
        self, box: BoxView, before: BoxMemory, seen: StateBuilder
    ) -> dict[str, LaunchRecord]:
        """Return the records of this fleet's servers that run or start; note ended, odd units."""
        started, ended, notes = dict[str, LaunchRecord](), dict[str, str](), list[str]()
        for name, unit in box.units.items():
            shown = f"Unit {unit_name(name)} of host {self.host.name}"
            if not self.fleet.owns(unit.fleet):
                notes += self.fleet.others(unit.fleet, shown)
                continue
            record, was = unit.record, before.records.get(name)
            if record is None or record.host != self.host.name:
                notes.append(f"{shown} has no record of a server of this host; it is left alone.")
                continue
            if unit.is_edited:
                notes.append(f"{shown} was changed by hand; the next start writes it anew.")
            if unit.runs:
                # A server that waits for its next start has the invocation of the start before.
                is_up = was is not None and was.ready and unit.state == "active"
                ready = is_up and was is not None and was.process_start == unit.invocation
                known = {"process_start": unit.invocation, "ready": ready}
                started[name] = self._servers.here(record.model_copy(update=known))
            else:
                ended[name] = record.served_launch
        seen.add(State(ended=ended, notes=tuple(notes)))
        return started

    async def _observe_unreached(self, before: BoxMemory, error: EngineError, only: str) -> State:
        if before.is_reached:
            replace(before, is_reached=False).write(self.memory)
        seen = StateBuilder(self._copies(before.store), self.host.supervisor)
        why = "; ".join(problem.detail for problem in error.diagnostics)
        records = {name: self._servers.here(record) for name, record in before.records.items()}
        ports = {name: record.port for name, record in before.records.items()}
        seen.add(State(ports=ports, notes=(f"Host {self.host.name} is not reached: {why}",)))
        clients = {name: self._servers.client(record) for name, record in records.items()}
        for name, answer in (await observe_servers(clients, only)).items():
            if isinstance(answer, EngineError):
                seen.record_unknown(name, answer if refuses_key(answer) else error)
            else:
                seen.record_launch(records[name], answer, {})
        for device in () if records else self.host.devices:
            for base in self.bases:
                seen.record_unknown(server_name(base, self.host.name, device.name), error)
        return seen.state()

    def _record(self, box: BoxView, server: str) -> LaunchRecord | None:
        """Return the record of a server of this fleet that runs or starts."""
        unit = box.units.get(server)
        is_up = unit is not None and self.fleet.owns(unit.fleet) and unit.runs
        return unit.record if unit is not None and is_up else None

    async def _up(self, box: BoxView, server: str) -> JsonClient:
        record = self._record(box, server)
        if record is None:
            raise not_running(
                server, f"has no unit of this fleet on `{self.ssh.address}` that runs"
            )
        return await self._servers.reach(record)

    async def _enter(self, server: str, change: Callable[[Entries], Entries]) -> BoxView:
        """Change the entries of a server's file of adapters; return the host before that."""
        async with self._entering[server]:
            box = await self._look()
            unit, entries = box.units.get(server), box.adapters.get(server, {})
            is_ours = unit is None or self.fleet.owns(unit.fleet)
            if is_ours and (changed := change(entries)) != entries:
                await write_entries(self.ssh, server, changed)
        return box

    async def _until_ready(self, record: LaunchRecord, *, is_new: bool) -> None:
        first = before = (await list_units(self.ssh)).get(record.name)

        async def require_start() -> None:
            nonlocal before
            unit = (await list_units(self.ssh)).get(record.name)
            if unit is None or first is None or before is None or has_ended(first, before, unit):
                error = await self._launcher.ended(record.name)
                if is_new:
                    await self._launcher.take_back(record)
                raise error
            before = unit

        await self._servers.until_ready(record, self.start_timeout_s, require_start)
