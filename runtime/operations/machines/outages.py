"""Servers that give no sign of life: since when, and whether `reconcile` replaces them.

A round of `reconcile` writes down in the state folder which servers were silent, as
`reconcile --once` is a new process each time. Commands that only look read the last round's file.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from fleet.codec import MalformedError, decode, decode_json, plain
from fleet.hardware import HostSpec
from fleet.history import ApplyStarted, Entry, StepStarted, settled
from fleet.names import LEDGER, Address, server_address, server_of_address, step_id
from fleet.planning import DriftCause, classify_drift, outages_of
from fleet.resources import Fault, OutageKind, State
from fleet.spec import FleetSpec
from runtime.engines.launch_records import LaunchRecord, LaunchRecords
from runtime.engines.observation import Liveness, signs_of_life, turn, without_token
from runtime.engines.remote.box import MEMORIES, BoxMemory
from runtime.engines.remote.units import has_units
from runtime.files import read_plain, replace_file
from runtime.json_client import JsonClient
from runtime.ledger.protocol import LedgerSnapshot
from runtime.library.served_copies import damaged
from runtime.secrets import read_secret
from runtime.state_folder import STORE
from runtime.workspace import Workspace

FILE: Final = "outages.json"
MOST: Final = 2
"""Upper bound of the replacements of a server within `WINDOW`."""
WINDOW: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Silence:
    """A server without a sign of life in consecutive rounds of `reconcile`."""

    since: datetime
    launch: str
    """The start that is silent; a later start begins anew."""
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class OutageMemory:
    """The memory of rounds of `reconcile`."""

    first_seen: Mapping[str, datetime] = field(default_factory=dict)
    """Time of the first round that saw an outage, by kind and address."""
    silent: Mapping[str, Silence] = field(default_factory=dict)
    """By server."""


def read_memory(state_dir: Path) -> OutageMemory:
    """Return the memory of rounds; nothing where the file is gone or damaged."""
    with suppress(OSError, ValueError, MalformedError):
        document = decode_json(read_plain(state_dir / FILE))
        return decode(OutageMemory, document, FILE, lenient=True)
    return OutageMemory()


def write_memory(state_dir: Path, memory: OutageMemory) -> None:
    """Write the memory of rounds; a full disk keeps the memory of before."""
    if memory != read_memory(state_dir):
        with suppress(OSError):
            text = json.dumps(plain(memory), indent=2) + "\n"
            replace_file(state_dir / FILE, text.encode())


def with_times(live: State, memory: OutageMemory) -> State:
    """Return a state whose faults have the time since when rounds have seen them."""
    faults = {
        address: replace(fault, since=memory.first_seen.get(_key(address, fault)))
        for address, fault in live.faults.items()
    }
    return replace(live, faults=faults)


def seen_again(live: State, before: OutageMemory, now: datetime) -> Mapping[str, datetime]:
    """Return when a round first saw an outage that is there now, by kind and address."""
    keys = (_key(address, fault) for address, fault in live.faults.items() if fault.outage)
    return {key: before.first_seen.get(key, now) for key in sorted(keys)}


def _key(address: Address, fault: Fault) -> str:
    return f"{fault.outage} {address}"


async def find_silent(
    fleet: FleetSpec, live: State, state_dir: Path, memory: OutageMemory, now: datetime
) -> tuple[State, Mapping[str, Silence]]:
    """Return the state with a fault for every server without a sign of life, and the silences.

    A server that lists its models and makes no token becomes unknown: no plan sends traffic there.
    """
    records, running = _started(fleet, state_dir)
    attached = {
        server.name: server.url for host in fleet.hosts.values() for server in host.attached
    }
    urls = {**attached, **{name: record.url for name, record in records.items()}, **live.urls}
    unknown = live.unknown_servers.keys() - live.launches.keys()
    silent = (name for name in sorted(unknown) if server_address(name) not in live.faults)
    asked = [name for name in (*live.servers(), *silent) if name in urls]
    found = await asyncio.gather(
        *(_ask(urls[name], is_listed=name not in live.unknown_servers) for name in asked)
    )
    signs = {name: sign for name, sign in zip(asked, found, strict=True) if sign is not None}
    stuck = {name for name in signs if name not in live.unknown_servers}
    servers = {name: fleet.hosts.get(server.host) for name, server in live.servers().items()}
    faults, silences = dict(live.faults), dict[str, Silence]()
    for name, sign in signs.items():
        record = records.get(name)
        host = fleet.hosts.get(record.host) if record else servers.get(name)
        silence = _silence(memory.silent.get(name), sign, running.get(name), now)
        if silence is not None:
            silences[name] = silence
        what = (
            "lists its models and makes no token, while its counters stand still"
            if name in stuck
            else f"does not answer: {live.unknown_servers[name].rstrip('.')}"
        )
        faults[server_address(name)] = _fault(name, what, sign, silence, host, now)
    return _without(replace(live, faults=faults), stuck), silences


def _started(fleet: FleetSpec, state_dir: Path) -> tuple[dict[str, LaunchRecord], dict[str, str]]:
    """Return the records of servers that fleetctl started, and the launch of those that run.

    On a host that was not reached just now, no server is known to run.
    """
    kept = LaunchRecords(state_dir / "servers").all()
    records = {record.name: record for record in kept if not record.is_elsewhere}
    running = {
        name: f"{record.launch} {record.pid}"
        for name, record in records.items()
        if record.leader() is not None
    }
    for host in fleet.hosts.values():
        if has_units(host):
            box = BoxMemory.read(state_dir / MEMORIES / f"{host.name}.json")
            records |= box.records
            running |= {
                name: f"{record.launch} {record.process_start}"
                for name, record in box.records.items()
                if box.is_reached and record.ready
            }
    return records, running


async def _ask(url: str, *, is_listed: bool) -> Liveness | None:
    """Return the signs of life of a server that does not work; None: the server works."""
    async with turn(), JsonClient(url) as http:
        return await (without_token(http) if is_listed else signs_of_life(http))


def _silence(
    before: Silence | None, sign: Liveness, launch: str | None, now: datetime
) -> Silence | None:
    """Return the silence of a server, begun anew after any sign of life; None: a sign now.

    A server that others started is never replaced, so that its silence is not measured.
    """
    if sign.is_healthy or launch is None:
        return None
    if before is None or before.launch != launch:
        return Silence(now, launch, sign.tokens)
    moved = None not in (before.tokens, sign.tokens) and before.tokens != sign.tokens
    tokens = before.tokens if sign.tokens is None else sign.tokens
    return Silence(now if moved else before.since, launch, tokens)


def _fault(
    name: str,
    what: str,
    sign: Liveness,
    silence: Silence | None,
    host: HostSpec | None,
    now: datetime,
) -> Fault:
    """Return the fault of a server; `reconcile` heals a fault that has lasted long enough."""
    logs, kind = f"fleetctl server logs {name}", OutageKind.SERVER_HUNG
    if host is None or host.engine == "attach" or host.package:
        shows = f"fleetctl explain server/{name}"
        return Fault(f"{what}; its own operator has to look", shows, kind)
    if silence is None:
        health = "; its /health answers, so it is not replaced" if sign.is_healthy else ""
        return Fault(f"{what}{health}", logs, kind)
    wait = timedelta(seconds=host.restart_after_s)
    if now - silence.since < wait:
        text = f"{what}; `reconcile` replaces it after {wait.total_seconds():g} s of silence"
        return Fault(text, "fleetctl reconcile --once", kind)
    return Fault(what, "fleetctl reconcile --once", kind, heals=True)


def _without(live: State, stuck: set[str]) -> State:
    """Return the state in which these servers do not answer."""
    gone = {server_address(name) for name in stuck}
    resources = {
        address: resource
        for address, resource in live.resources.items()
        if address not in gone and server_of_address(address) not in stuck
    }
    reasons = dict.fromkeys(sorted(stuck), "it makes no token")
    unknown = dict(sorted({**live.unknown_servers, **reasons}.items()))
    ports = {name: server.port for name, server in live.servers().items() if name in stuck}
    known = dict(sorted({**live.ports, **ports}.items()))
    return replace(live, resources=resources, unknown_servers=unknown, ports=known)


def with_limits(live: State, entries: Sequence[Entry], now: datetime) -> State:
    """Return the state in which a server is not healed that was replaced too often already."""
    faults = dict(live.faults)
    for address, fault in live.faults.items():
        if fault.outage is OutageKind.SERVER_HUNG and fault.heals:
            times = list(_replacements(entries, address, now))
            if len(times) >= MOST:
                text = f"{fault.what}; given up, as it was replaced {MOST} times within the hour"
                logs = f"fleetctl server logs {address.partition('/')[2]} --previous"
                faults[address] = replace(fault, what=text, command=logs, heals=False)
    return replace(live, faults=faults)


def _replacements(entries: Sequence[Entry], server: Address, now: datetime) -> Iterator[datetime]:
    """Yield the times at which `reconcile` stopped a server; it stops no other servers."""
    stop = step_id("stop", server)
    recent = [entry for entry in entries if now - entry.time < WINDOW]
    runs = {
        (entry.run, entry.event.plan_id)
        for entry in recent
        if isinstance(entry.event, ApplyStarted) and entry.event.trigger == "reconcile"
    }
    for entry in recent:
        event = entry.event
        if not isinstance(event, StepStarted) or event.step != stop:
            continue
        if (entry.run, event.plan_id) in runs:
            yield entry.time


_FILE = "file:"


async def observe_faults(workspace: Workspace, *, remember: bool = False) -> State:
    """Observe every server and gateway, and add the faults that no engine and no gateway shows.

    Each server is asked for one token. `remember`: for later rounds.
    """
    live = await workspace.machines.observe_now()
    memory, now = read_memory(workspace.state_dir), workspace.now()
    keys = await asyncio.to_thread(_unreadable_keys, live, workspace.root)
    live = replace(live, faults={**live.faults, **keys})
    fleet = workspace.project.fleet()
    live, silent = await find_silent(fleet, live, workspace.state_dir, memory, now)
    if remember:
        memory = OutageMemory(seen_again(live, memory, now), silent)
        await asyncio.to_thread(write_memory, workspace.state_dir, memory)
    return with_times(live, memory)


def _unreadable_keys(live: State, root: Path) -> Mapping[Address, Fault]:
    """Return the faults of served keys whose file cannot be read here."""
    return {
        address: Fault(
            f"its secret cannot be read from `{key.reference.removeprefix(_FILE)}`: put the file "
            "back from a backup, or declare a second key and move the client over",
            f"fleetctl explain {address}",
            OutageKind.KEY_GONE,
        )
        for address, key in live.keys().items()
        if key.reference.startswith(_FILE) and read_secret(root, key.reference) is None
    }


def with_ledger(workspace: Workspace, live: State, known: LedgerSnapshot) -> State:
    """Add all that the ledger tells of faults: its own, and how often servers were replaced.

    A ledger is at fault that cannot be read, or lacks entries that were read before.
    """
    live = with_limits(live, known.standing(), workspace.now())
    fault: Fault | None = None
    if known.away is not None:
        first = known.away.diagnostics[0]
        command = first.command or "fleetctl history"
        fault = Fault(first.detail, command, OutageKind.LEDGER_DAMAGED)
    elif lacking := workspace.ledger.replica.cut(known.entries):
        path, number = next(iter(lacking.items()))
        text = (
            f"has {len(known.entries)} entries and lacks some of the {number} that were read of it "
            f"before and that `{path}` keeps: put them back, or delete that file if you know why "
            "they are gone"
        )
        fault = Fault(text, "fleetctl evidence verify", OutageKind.LEDGER_DAMAGED)
    return live if fault is None else replace(live, faults={**live.faults, LEDGER: fault})


async def causes_left(workspace: Workspace) -> tuple[DriftCause, ...]:
    """Observe again, hash the served copies, and return the causes of drift, outages first."""
    known = workspace.ledger.last_known()
    live = with_ledger(workspace, await observe_faults(workspace), known)
    history = settled(known.history(), live)
    store = workspace.state_dir / STORE
    copies = await asyncio.to_thread(damaged, live.adapters().values(), store)
    found = classify_drift(history, live, copies)
    return tuple(dict.fromkeys((*outages_of(history, live, copies), *found)))
