"""Observes many servers at a time into a `State`, asks for signs of life, digests base files."""

import asyncio
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final
from weakref import WeakKeyDictionary

from fleet.errors import EngineError, EngineRejectedError, EngineTimedOutError, FleetError
from fleet.hardware import AttachedFacts
from fleet.names import Address, server_address
from fleet.resources import Fault, LoadedAdapter, Resource, Server, State
from runtime.engines.adapters_file import AdapterEntry
from runtime.engines.launch_records import LaunchRecord
from runtime.engines.vllm_api import (
    ServerSnapshot,
    list_models,
    observe_server,
    read_metrics,
    refuses_key,
)
from runtime.json_client import JsonClient
from runtime.state_folder import StoreView

_BLOCK = 2**18
_BLOCKS = 64
"""Blocks of a file that count, evenly spread; a file up to 16 MiB counts whole. Training changes
every tensor, so a change of a 100 GB model is seen in seconds; a few bytes altered by hand may not
be."""


def base_digest(folder: Path) -> str:
    """Return the digest of a base's files: configuration, tokenizer, chat template, weights.

    Sixteen hex digits; empty if there is no such folder, as for a name that the engine looks up
    itself, or if the folder cannot be read.
    """
    whole = hashlib.sha256()
    try:
        files = sorted(entry for entry in folder.iterdir() if entry.is_file())
        for path in files:
            whole.update(f"{path.name} {path.stat().st_size}\n".encode())
            for block in _blocks(path):
                whole.update(block)
    except OSError:
        return ""
    return whole.hexdigest()[:16] if files else ""


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size <= _BLOCK * _BLOCKS:
            yield stream.read()
            return
        for number in range(_BLOCKS):
            stream.seek(number * (size - _BLOCK) // (_BLOCKS - 1))
            yield stream.read(_BLOCK)


AT_ONCE = 64
"""Upper bound of servers that are asked at the same time, over all engines of an event loop."""
_LIMITS: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


def turn() -> asyncio.Semaphore:
    """Return the lock that lets `AT_ONCE` servers be asked at the same time.

    Of a thousand at once the last would have no answer by their deadlines, and be taken for
    silent, as this process is too slow.
    """
    return _LIMITS.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE))


async def observe_servers(
    clients: Mapping[str, JsonClient], only: str = ""
) -> dict[str, ServerSnapshot | EngineError]:
    """Return the snapshot or the error of every server, or of the server `only`."""
    asked = {name: http for name, http in clients.items() if only in {"", name}}

    async def snapshot(http: JsonClient) -> ServerSnapshot | EngineError:
        async with turn():
            try:
                return await observe_server(http)
            except EngineError as error:
                return error

    answers = await asyncio.gather(*(snapshot(http) for http in asked.values()))
    return dict(zip(asked, answers, strict=True))


@dataclass(slots=True)
class StateBuilder:
    """Builds a `State` from snapshots."""

    store: StoreView
    supervisor: str = ""
    """As `HostSpec.supervisor`, of launches."""
    interpreter: tuple[str, str] = ("", "")
    """Interpreter that servers are started with now, as declared and in full; empty: not known."""
    resources: dict[Address, Resource] = field(default_factory=dict)
    unknown_servers: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    """Port by server with a launch record; a state names those of unknown servers."""
    of_others: dict[str, str] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    away_hosts: dict[str, str] = field(default_factory=dict)
    fleets: dict[str, str] = field(default_factory=dict)
    boots: dict[str, str] = field(default_factory=dict)
    launches: dict[str, str] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    attached: dict[str, AttachedFacts] = field(default_factory=dict)
    bases: dict[str, str] = field(default_factory=dict)
    pythons: dict[str, tuple[str, str]] = field(default_factory=dict)
    resolvable: dict[Address, LoadedAdapter] = field(default_factory=dict)
    faults: dict[Address, Fault] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def record(
        self,
        server: Server,
        url: str,
        snapshot: ServerSnapshot,
        entries: Mapping[str, AdapterEntry] = MappingProxyType({}),
    ) -> None:
        """Record a server that answered, with the adapters of its list.

        `entries` are those of its file of adapters, which a server with the plug-in answers by.
        """
        self.resources[server.address] = server
        self.urls[server.name] = url
        if snapshot.boot:
            self.boots[server.name] = snapshot.boot
        if server.digest is not None and (launch := snapshot.listing.stamps.launch):
            self.launches[server.name] = launch
        if snapshot.version:
            self.versions[server.name] = snapshot.version
        for name, path in snapshot.listing.adapters.items():
            adapter = LoadedAdapter(name, server.name, self.store.digest(path), path).as_known()
            self.resources[adapter.address] = adapter
        for name, entry in entries.items() if snapshot.listing.stamps.has_resolver else ():
            adapter = LoadedAdapter(name, server.name, entry.digest, entry.path)
            if name not in snapshot.listing.adapters and self._is_copy(entry):
                self.resolvable[adapter.address] = adapter

    def record_launch(
        self, launched: LaunchRecord, snapshot: ServerSnapshot, entries: Mapping[str, AdapterEntry]
    ) -> None:
        """Record the answer at the address of a launch: of its server, or of another launch."""
        stamps = snapshot.listing.stamps
        try:
            server = replace(launched.server(stamps.digest), supervisor=self.supervisor)
        except EngineError as error:
            self.record_unknown(launched.name, error)
            return
        if stamps.launch != launched.served_launch:
            self.record_stale(launched.name, stamps.launch, launched.served_launch)
            return
        self.record(server, launched.url, snapshot, entries)
        if launched.base_files:
            self.bases[launched.name] = launched.base_files
        declared, starts = self.interpreter
        runs = launched.arguments[0] if declared and launched.arguments else ""
        if runs and not is_interpreter(runs, declared):
            self.pythons[launched.name] = (runs, starts)

    def _is_copy(self, entry: AdapterEntry) -> bool:
        return self.store.digest(entry.path) == entry.digest

    def record_unknown(self, name: str, error: EngineError) -> None:
        """Record a server that did not answer."""
        self.unknown_servers[name] = "; ".join(
            diagnostic.detail for diagnostic in error.diagnostics
        )
        if refuses_key(error):
            what = "asks for another key than `servers_secret` gives (FC4024)"
            self.faults[server_address(name)] = Fault(what, f"fleetctl server stop {name}")

    def record_of_others(self, record: LaunchRecord, folder: str) -> None:
        """Record a server of this fleet that runs here and that another state folder started."""
        self.of_others[record.name] = folder
        self.ports[record.name] = record.port
        self.unknown_servers[record.name] = (
            f"it runs as process {record.pid}, started from the state folder {folder}: it is "
            "left alone here"
        )

    def record_stale(self, name: str, launch: str, ours: str) -> None:
        """Record a server at whose address another launch than the newest answers."""
        self.launches[name] = launch
        self.unknown_servers[name] = (
            f"launch {launch or 'of no name'} answers at its address, and fleetctl started {ours}"
        )

    def state(self) -> State:
        """Return the state, everything sorted."""
        names = ("resources", "unknown_servers", "ports", "boots", "launches", "urls", "versions",
                 "bases", "pythons", "resolvable", "faults", "of_others", "ended", "away_hosts",
                 "fleets", "attached")  # fmt: skip
        self.ports = {name: self.ports[name] for name in self.unknown_servers.keys() & self.ports}
        tables: dict[str, Any] = {name: dict(sorted(getattr(self, name).items())) for name in names}
        return State(**tables, notes=tuple(self.notes))


def is_interpreter(path: str, declared: str) -> bool:
    """Say whether a path is the declared path; the folder of project or home does not count."""
    tail = tuple(part for part in PurePosixPath(declared).parts if part != "..")
    return PurePosixPath(path).parts[-len(tail) :] == tail


_BY_SERVER = (
    "unknown_servers", "ports", "of_others", "ended", "away_hosts", "fleets", "boots", "launches",
    "routed_launches", "urls", "versions", "attached", "bases", "pythons", "resolvable",
)  # fmt: skip
"""Fields of a state that the states of different hosts add to, by server, adapter or host."""


def merge(*states: State) -> State:
    """Merge the states of different hosts, sorted.

    Raises:
        FleetError: an address occurs in two of them.
    """
    resources: dict[Address, Resource] = {}
    for state in states:
        twice = sorted(resources.keys() & state.resources.keys())
        if twice:
            raise FleetError.of(
                "FC4020", "A name occurs on two hosts", f"`{twice[0]}` is on two hosts."
            )
        resources |= state.resources
    joined = {
        field: dict(sorted(pair for state in states for pair in getattr(state, field).items()))
        for field in (*_BY_SERVER, "faults")
    }
    return State(
        resources=dict(sorted(resources.items())),
        routes_unknown="; ".join(state.routes_unknown for state in states if state.routes_unknown),
        lost=tuple(sorted({address for state in states for address in state.lost})),
        notes=tuple(note for state in states for note in state.notes),
        behind=any(state.behind for state in states),
        **joined,
    )


HEALTH_S: Final = 2.0
"""Upper bound of the wait for `/health` or `/metrics`, in seconds."""
TOKEN_S: Final = 5.0
"""Upper bound of the wait for a single token, in seconds. A busy server needs longer, and its
counters move meanwhile."""


@dataclass(frozen=True, slots=True)
class Liveness:
    """Signs of life of a server that does not answer, or answers without a token."""

    is_healthy: bool
    """Whether `/health` answers with success."""
    tokens: int | None
    """Tokens that the server has read and made so far; None: its metrics do not answer."""


async def signs_of_life(http: JsonClient) -> Liveness:
    """Return the signs of life of a server; asks for no token."""
    health, metrics = await asyncio.gather(
        _answers_health(http), read_metrics(http, HEALTH_S, attempts=1)
    )
    return Liveness(health, metrics.tokens)


async def without_token(http: JsonClient) -> Liveness | None:
    """Ask a server that lists its models for a token; None: the server works.

    A server works where the token comes, where the request is refused for its content, or where the
    counters move while a second request waits as well.
    """
    if not await _lacks_token(http):
        return None
    before = await signs_of_life(http)
    if not await _lacks_token(http):
        return None
    after = await signs_of_life(http)
    moved = None not in (before.tokens, after.tokens) and before.tokens != after.tokens
    return None if moved else after


async def _answers_health(http: JsonClient) -> bool:
    try:
        await http.get_text("/health", timeout_s=HEALTH_S, attempts=1)
    except EngineError:
        return False
    return True


async def _lacks_token(http: JsonClient) -> bool:
    """Return whether a request for a token has no answer, or the engine behind has died."""
    try:
        names = (await list_models(http, HEALTH_S)).names
        body = {"model": names[0] if names else "", "prompt": ".", "max_tokens": 1}
        await http.post("/v1/completions", body, timeout_s=TOKEN_S)
    except EngineTimedOutError:
        return True
    except EngineRejectedError as error:
        is_broken = (error.status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR
        return is_broken and not await _answers_health(http)
    except EngineError:
        return False  # it has just ended, or another program answers there
    return False
