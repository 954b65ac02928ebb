"""Observes many servers at a time into a `State`, asks for signs of life, digests base files."""

import asyncio
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final
from weakref import WeakKeyDictionary

from fleet.errors import EngineError, EngineRejectedError, EngineTimedOutError, FleetError
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
    parts: list[State] = field(default_factory=list)
    """The recorded parts of the state; a later part is right where two differ."""

    def add(self, part: State) -> None:
        """Record a part. `ports` may name every server with a launch record."""
        self.parts.append(part)

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
        listing, name = snapshot.listing, server.name
        launch = listing.stamps.launch if server.digest is not None else ""
        listed: list[Resource] = [server]
        listed += [
            LoadedAdapter(adapter, name, self.store.digest(path), path).as_known()
            for adapter, path in listing.adapters.items()
        ]
        unlisted = [
            LoadedAdapter(adapter, name, entry.digest, entry.path)
            for adapter, entry in (entries.items() if listing.stamps.has_resolver else ())
            if adapter not in listing.adapters and self._is_copy(entry)
        ]
        self.add(
            State(
                {resource.address: resource for resource in listed},
                urls={name: url},
                boots={name: snapshot.boot} if snapshot.boot else {},
                launches={name: launch} if launch else {},
                versions={name: snapshot.version} if snapshot.version else {},
                resolvable={adapter.address: adapter for adapter in unlisted},
            )
        )

    def record_launch(
        self, launched: LaunchRecord, snapshot: ServerSnapshot, entries: Mapping[str, AdapterEntry]
    ) -> bool:
        """Record the answer at the address of a launch; return whether its own server gave it."""
        stamps, name = snapshot.listing.stamps, launched.name
        try:
            server = replace(launched.server(stamps.digest), supervisor=self.supervisor)
        except EngineError as error:
            self.record_unknown(name, error)
            return False
        if stamps.launch != launched.served_launch:
            self.record_stale(name, stamps.launch, launched.served_launch)
            return False
        self.record(server, launched.url, snapshot, entries)
        declared, starts = self.interpreter
        runs = launched.arguments[0] if declared and launched.arguments else ""
        is_other = runs and not is_interpreter(runs, declared)
        bases = {name: launched.base_files} if launched.base_files else {}
        self.add(State(bases=bases, pythons={name: (runs, starts)} if is_other else {}))
        return True

    def _is_copy(self, entry: AdapterEntry) -> bool:
        return self.store.digest(entry.path) == entry.digest

    def record_unknown(self, name: str, error: EngineError) -> None:
        """Record a server that did not answer."""
        why = "; ".join(diagnostic.detail for diagnostic in error.diagnostics)
        other_key = "asks for another key than `servers_secret` gives (FC4024)"
        fault = Fault(other_key, f"fleetctl server stop {name}")
        faults = {server_address(name): fault} if refuses_key(error) else {}
        self.add(State(unknown_servers={name: why}, faults=faults))

    def record_of_others(self, record: LaunchRecord, folder: str) -> None:
        """Record a server of this fleet that runs here and that another state folder started."""
        why = (
            f"it runs as process {record.pid}, started from the state folder {folder}: it is "
            "left alone here"
        )
        name = record.name
        self.add(
            State(unknown_servers={name: why}, of_others={name: folder}, ports={name: record.port})
        )

    def record_stale(self, name: str, launch: str, ours: str) -> None:
        """Record a server at whose address another launch than the newest answers."""
        why = f"launch {launch or 'of no name'} answers at its address, and fleetctl started {ours}"
        self.add(State(unknown_servers={name: why}, launches={name: launch}))

    def state(self) -> State:
        """Return the state, everything sorted, with the ports of servers that are unknown."""
        whole = _joined(self.parts)
        ports = {name: port for name, port in whole.ports.items() if name in whole.unknown_servers}
        return replace(whole, ports=ports)


def is_interpreter(path: str, declared: str) -> bool:
    """Say whether a path is the declared path; the folder of project or home does not count."""
    tail = tuple(part for part in PurePosixPath(declared).parts if part != "..")
    return PurePosixPath(path).parts[-len(tail) :] == tail


_TABLES = (
    "resources", "unknown_servers", "ports", "of_others", "ended", "away_hosts", "fleets", "boots",
    "launches", "routed_launches", "urls", "versions", "attached", "bases", "pythons", "resolvable",
    "faults",
)  # fmt: skip
"""Fields of a state that parts and the states of other hosts add to."""


def merge(*states: State) -> State:
    """Merge the states of different hosts, sorted.

    Raises:
        FleetError: an address occurs in two of them.
    """
    addresses: set[Address] = set()
    for state in states:
        twice = sorted(addresses & state.resources.keys())
        if twice:
            raise FleetError.of(
                "FC4020", "A name occurs on two hosts", f"`{twice[0]}` is on two hosts."
            )
        addresses |= state.resources.keys()
    return _joined(states)


def _joined(states: Sequence[State]) -> State:
    """Join states, sorted; of two values the later is right."""
    tables: dict[str, Any] = {}
    for name in _TABLES:
        entries = (pair for state in states for pair in getattr(state, name).items())
        tables[name] = dict(sorted(dict(entries).items()))
    return State(
        routes_unknown="; ".join(state.routes_unknown for state in states if state.routes_unknown),
        lost=tuple(sorted({address for state in states for address in state.lost})),
        notes=tuple(note for state in states for note in state.notes),
        behind=any(state.behind for state in states),
        **tables,
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
