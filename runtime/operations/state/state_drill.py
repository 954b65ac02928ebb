"""Try a backup: bring its fleet back on the fake engine, apart from the fleet that serves."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fleet.errors import FleetError
from fleet.hardware import PORT_STRIDE, HostSpec
from fleet.history import BackedUp, BackupDrilled, History, MonthClosed, fold_entries, settled
from fleet.planning import DriftAction, classify_drift, repair
from fleet.resources import LoadedAdapter, Route, Server, State
from fleet.spec import FleetSpec, GatewaySpec
from fleet.vllm import SERVERS_PER_DEVICE
from runtime.backup.archive import Backup, unpack
from runtime.engines.launch_records import RECORD, LaunchRecords
from runtime.engines.protocol import Engine
from runtime.engines.supervisor import end
from runtime.files import PRIVATE_FOLDER, make_private, try_lock
from runtime.library.delete import delete_folder
from runtime.operations.change.apply import execute_plan
from runtime.operations.change.planning import plan_fleet
from runtime.operations.watch.costs import read_closed
from runtime.processes import open_ports
from runtime.usage.store import UsageStore
from runtime.workspace import LedgerContext, MachinesContext, Workspace

FOLDER: Final = "drill"
"""Folder of the drill in the state folder; one that a killed drill left is cleared by the next."""
PROMPT: Final = "Hello"
_FIRST_PORT, _LAST_PORT, _TRIES = 10_000, 65_000, 1_000


@dataclass(frozen=True, slots=True)
class DrilledBackup:
    """The result of a drill."""

    file: Path
    sha256: str
    entries: int
    servers: int
    adapters: int
    """Number of adapters on servers that were brought back."""
    served: tuple[str, ...]
    """Aliases of which every version with traffic answered."""
    failures: tuple[str, ...] = ()
    not_tried: tuple[str, ...] = ()
    """Aliases on servers that fleetctl does not start."""
    due: str = ""
    """The changes that a plan of the declarations finds afterwards, as a clause."""

    @property
    def complete(self) -> bool:
        """Whether the fleet would come back."""
        return not self.failures


def newest_backup(ledger: LedgerContext) -> Path:
    """Return the file of the newest backup in the ledger.

    Raises:
        FleetError: FC6074, no backup was made, or its file is gone.
    """
    detail = "The ledger knows of no backup."
    for entry in reversed(ledger.open().read()):
        if isinstance(entry.event, BackedUp):
            path = Path(entry.event.file)
            if path.is_file():
                return path
            detail = f"The newest, `{path}` of {entry.time:%Y-%m-%d %H:%M} UTC, is not there."
            break
    raise FleetError.of(
        "FC6074",
        "There is no backup to drill",
        f"{detail} A drill needs the file: it brings the backup's fleet back on the fake engine.",
        hint="Name the file, or make a backup now:",
        command="fleetctl state backup FILE",
    )


async def drill_backup(workspace: Workspace, file: Path) -> DrilledBackup:
    """Bring the fleet of a backup back on fake servers, ask every alias, and record the result.

    `file`: an absolute path.

    The servers listen on a loopback address of their own, load copies of the library's bytes, and
    end with the drill. Nothing of the fleet that serves is contacted.

    Raises:
        FleetError: the backup cannot be used; FC6076, another drill runs.
    """
    make_private(workspace.state_dir)
    with try_lock(workspace.state_dir / f"{FOLDER}.lock") as ours:
        if not ours:
            detail = f"A process works in `{workspace.state_dir / FOLDER}`."
            hint = "Wait until it ends."
            raise FleetError.of("FC6076", "Another drill of a backup runs", detail, hint=hint)
        async with _apart(workspace.state_dir / FOLDER) as state_dir:
            backup = await asyncio.to_thread(_unpacked, file, state_dir)
            result = await _bring_back(workspace, backup, file)
    found = result.complete, len(result.served), result.failures
    event = BackupDrilled(str(file), result.sha256, *found)
    try:
        await asyncio.to_thread(lambda: workspace.ledger.open().append([event]))
    except (FleetError, OSError) as error:
        workspace.warn(f"the drill is not in the ledger: {error}")
    return result


@asynccontextmanager
async def _apart(folder: Path) -> AsyncIterator[Path]:
    """Give an empty folder; at the end its servers end and the folder is deleted."""
    await _clear(folder)
    await asyncio.to_thread(folder.mkdir, PRIVATE_FOLDER)
    try:
        yield folder
    finally:
        await asyncio.shield(_clear(folder))


async def _clear(folder: Path) -> None:
    records = LaunchRecords(folder / "servers")
    await asyncio.gather(*(end(record, records, 0) for record in records.all()))
    await asyncio.to_thread(delete_folder, folder)


def _unpacked(file: Path, state_dir: Path) -> Backup:
    """Unpack without records and gateways, which may name processes that serve now."""
    backup = unpack(file, state_dir)
    for path in (*state_dir.glob(f"servers/*/{RECORD}"), *state_dir.glob("gateways/*/*")):
        path.unlink()
    return backup


async def _bring_back(workspace: Workspace, backup: Backup, file: Path) -> DrilledBackup:
    declared = await asyncio.to_thread(workspace.project.fleet)
    past = fold_entries(backup.entries)
    shift = _port_shift(declared, past)
    fleet = _fake(declared, shift)
    apart = replace(workspace, state_dir=backup.folder, given=fleet, apart=True)
    live, history = await apart.machines.observe_now(), _shifted(past, shift)
    causes = classify_drift(settled(history, live), live)
    due = [cause for cause in causes if cause.remedy is DriftAction.HEAL]
    plan = repair(fleet.name, due, history, live, {})
    outcome = await execute_plan(
        apart, plan, lambda _: None, stop=asyncio.Event(), trigger="drill", heeds_freeze=False
    )
    failures = [*_lost_figures(backup)]
    failures += [
        f"{step}: {problem.summary}: {problem.detail}"
        for step, done in outcome.results.items()
        for problem in done.diagnostics
        if problem.severity == "error"
    ]
    live = await apart.machines.observe_now()
    if live.routes_unknown:
        failures.append(f"the routing table: {live.routes_unknown}")
    started = {change.address for change in plan.changes if isinstance(change.after, Server)}
    silent = await _silent(apart.machines, live)
    lost = _attached(history, live)
    served = [alias for alias in live.routes() if alias not in {*silent, *lost}]
    failures += [f"{alias}: {why}" for alias, why in silent.items() if alias not in lost]
    return DrilledBackup(
        file,
        backup.sha256,
        len(backup.entries),
        len(started),
        sum(isinstance(change.after, LoadedAdapter) for change in plan.changes),
        tuple(served),
        tuple(failures),
        tuple(sorted(lost)),
        await asyncio.to_thread(_due, apart, live),
    )


def _lost_figures(backup: Backup) -> Iterator[str]:
    """Yield why the usage store or a closed month would not come back."""
    try:
        with UsageStore(backup.folder) as store:
            store.gateways()
    except FleetError as error:
        yield error.diagnostics[0].detail
    for entry in backup.entries:
        if isinstance(entry.event, MonthClosed):
            try:
                read_closed(backup.folder, entry.event)
            except FleetError as error:
                yield error.diagnostics[0].detail


def _port_shift(fleet: FleetSpec, history: History) -> int:
    """Return a number that makes free ports of all ports of the fleet's servers.

    A server that serves now and listens on the port of a device is taken for that device's.
    """
    devices = {device.port for host in fleet.hosts.values() for device in host.devices}
    ports = {
        first + number * PORT_STRIDE
        for first in devices
        for number in range(SERVERS_PER_DEVICE[-1])
    }
    ports |= {was.port for was in history.established.values() if isinstance(was, Server)}
    taken, lowest, highest = {*open_ports()}, min(ports, default=0), max(ports, default=0)
    for _ in range(_TRIES):
        shift = _FIRST_PORT + secrets.randbelow(_LAST_PORT - _FIRST_PORT) - lowest
        if highest + shift <= _LAST_PORT and not taken & {port + shift for port in ports}:
            return shift
    detail = (
        f"{len(ports)} ports from {_FIRST_PORT} to {_LAST_PORT} are wanted, as far apart as those "
        "of the fleet."
    )
    hint = "Drill on another machine: a backup and the project are enough."
    raise FleetError.of("FC6077", "There are no free ports for a drill", detail, hint=hint)


def _shifted(history: History, shift: int) -> History:
    established = {
        address: replace(was, port=was.port + shift) if isinstance(was, Server) else was
        for address, was in history.established.items()
    }
    return replace(history, established=established)


def _fake(fleet: FleetSpec, shift: int) -> FleetSpec:
    """Return the fleet under another name, on fake servers at an address and ports of their own.

    Hosts of engine `ssh` may have the same ports, so every host gets an address of its own.
    """
    hosts = {name: _fake_host(host, _loopback(), shift) for name, host in fleet.hosts.items()}
    gateway = GatewaySpec(FOLDER, f"{_loopback()}:8080", "")
    name = f"{fleet.name}-{FOLDER}-{secrets.token_hex(3)}"
    return replace(fleet, name=name, hosts=hosts, gateways={FOLDER: gateway}, notify=None)


def _loopback() -> str:
    return ".".join(["127", *(str(1 + secrets.randbelow(254)) for _ in range(3))])


def _fake_host(host: HostSpec, address: str, shift: int) -> HostSpec:
    devices = tuple(replace(device, port=device.port + shift) for device in host.devices)
    apart = replace(host, devices=devices, address=address)
    return replace(apart, engine="fake", attached=(), python="", paths=(), package="")


def _attached(history: History, live: State) -> frozenset[str]:
    """Return the aliases with traffic on servers that the ledger does not know how to start."""
    known = {s.name for s in history.established.values() if isinstance(s, Server) and s.flags}
    return frozenset(
        alias
        for alias, route in live.routes().items()
        if any(share.percent and not known & {*share.servers} for share in route.shares)
    )


async def _silent(machines: MachinesContext, live: State) -> dict[str, str]:
    """Ask every server of every version with traffic; return the aliases without an answer."""
    async with machines.connected() as connections:
        engines = {
            server.name: connections.engines[server.host]
            for server in live.servers().values()
            if server.host in connections.engines
        }
        found = await asyncio.gather(*(_fault(route, engines) for route in live.routes().values()))
    return {alias: why for alias, why in zip(live.routes(), found, strict=True) if why}


async def _fault(route: Route, engines: dict[str, Engine]) -> str:
    """Return why a version with traffic does not answer; empty: all do."""
    for share in route.shares:
        if not share.percent:
            continue
        asked: Iterable[str] = [name for name in share.servers if name in engines]
        if not asked:
            return f"no server holds {share.adapter}"
        for name in asked:
            try:
                answer = await engines[name].complete(name, share.adapter, PROMPT, 4)
            except FleetError as error:
                return f"{share.adapter} on {name}: {error.diagnostics[0].detail}"
            if answer.model != share.adapter:
                return f"{name} answers as {answer.model} for {share.adapter}"
    return ""


def _due(apart: Workspace, live: State) -> str:
    try:
        count = len(plan_fleet(apart, live).changes)
    except FleetError as error:
        return f"no plan is possible ({error.diagnostics[0].summary})"
    return f"a plan of the declarations finds {count} further changes"
