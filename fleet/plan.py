"""The plan: what will change, in which steps, and what it means for whom. Data only."""

from dataclasses import dataclass
from enum import StrEnum

from fleet.names import Address
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server
from fleet.translation import Translation


class Action(StrEnum):
    """What happens to a resource. The symbols are `+ - ~ -/+ >`."""

    CREATE = "create"
    DELETE = "delete"
    UPDATE = "update"
    REPLACE = "replace"
    MOVE = "move"


class Reason(StrEnum):
    """Why a change is due; a closed list, one on every change."""

    DECLARED = "declared"
    """Newly declared, or its declaration changed."""
    REMOVED = "removed"
    """No longer declared."""
    ROLLOUT_STARTED = "rollout_started"
    ROLLOUT_ADVANCED = "rollout_advanced"
    ROLLED_BACK = "rolled_back"
    RETENTION_ENDED = "retention_ended"
    MISSING = "missing"
    """fleetctl created it and it is gone, such as after a restart."""
    FLAGS_CHANGED = "flags_changed"
    WRONG_SOURCE = "wrong_source"
    """Loaded under the right name from other bytes."""
    REPLICA_MOVED = "replica_moved"
    SERVER_EMPTY = "server_empty"
    ROTATED = "rotated"
    RENAMED = "renamed"
    EDITED_LIVE = "edited_live"
    """Changed by hand on the live side."""


@dataclass(frozen=True, slots=True)
class Change:
    """One resource that differs between the desired and the live state."""

    address: Address
    action: Action
    before: Resource | None
    after: Resource | None
    reason: Reason
    why: str
    """One sentence for the reader."""
    origin: str = ""
    """`file:line:col` that asks for it; empty when nothing in the files does."""
    details: tuple[tuple[str, str, str], ...] = ()
    """Fields that differ: name, before, after."""


@dataclass(frozen=True, slots=True)
class StartServer:
    """Start a server and wait until it answers."""

    server: Server


@dataclass(frozen=True, slots=True)
class StopServer:
    """Stop a server after its requests have finished."""

    server: Server


@dataclass(frozen=True, slots=True)
class LoadAdapter:
    """Check the bytes against the digest, publish them and load them."""

    adapter: LoadedAdapter


@dataclass(frozen=True, slots=True)
class SmokeTest:
    """Ask a freshly loaded version a few known inputs before any client does."""

    adapter: LoadedAdapter
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetRoute:
    """Write a route and wait for every gateway's acknowledgement."""

    route: Route


@dataclass(frozen=True, slots=True)
class DeleteRoute:
    """Remove a route and wait for every gateway's acknowledgement."""

    route: Route


@dataclass(frozen=True, slots=True)
class SetKey:
    """Resolve a key's secret, check its fingerprint and give its hash to the gateways."""

    key: Key


@dataclass(frozen=True, slots=True)
class DeleteKey:
    """Revoke a key."""

    key: Key


@dataclass(frozen=True, slots=True)
class Drain:
    """Wait until no gateway has a request in flight for a version on a server."""

    adapter: LoadedAdapter
    deadline_s: int


@dataclass(frozen=True, slots=True)
class UnloadAdapter:
    """Unload a version and verify that the server no longer lists it."""

    adapter: LoadedAdapter


Operation = (
    StartServer
    | StopServer
    | LoadAdapter
    | SmokeTest
    | SetRoute
    | DeleteRoute
    | SetKey
    | DeleteKey
    | Drain
    | UnloadAdapter
)


@dataclass(frozen=True, slots=True)
class Step:
    """One operation, after those it needs, valid while the live resource is `before`."""

    id: str
    """`load adapter/x@y`: the operation's verb and the address; unique in a plan."""
    operation: Operation
    address: Address
    before: Resource | None
    needs: tuple[str, ...]
    lane: str
    """Steps of one lane run one after another: a server's name, or `gateway`."""
    estimate_s: float
    timeout_s: int


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """Memory and slots of one server, before, during and after the apply.

    Bytes. None: unknown. `basis` says how good the throughput is, such as `uncalibrated`.
    """

    server: str
    host: str
    devices: tuple[str, ...]
    total_bytes: int | None
    weights_bytes: int | None
    slot_bytes: int | None
    kv_bytes: int | None
    reserve_bytes: int | None
    slots: int
    slots_before: int
    slots_during: int
    slots_after: int
    basis: str
    load: tuple[float, ...] = ()
    """Part of its throughput that is asked in each hour of the day, UTC; empty: not known."""
    memory_basis: str = ""
    """How good the bytes are; empty in plans of older fleetctls, where `basis` was for both."""


@dataclass(frozen=True, slots=True)
class Impact:
    """What changes for one alias of one client."""

    client: str
    tier: str
    alias: str
    summary: str
    """Such as `2.1.0 100 % -> 90 %, 2.2.0 10 %`."""
    share_moved: int
    """Percent of the alias's requests that will be answered differently."""
    peak_rpm: float | None
    back_out: str
    """How to get back: a command, and the class `warm`, `cold` or `none`."""
    back_out_class: str
    back_out_s: float | None
    interrupted: bool
    """True when requests will fail for a while, as in a restart without a replica."""


@dataclass(frozen=True, slots=True)
class GateDue:
    """A gate that guards a rollout in this plan, and what is known about it."""

    alias: str
    gate: str
    metric: str
    threshold: str
    status: str
    """`no evidence` until the gate has run; then its verdict, or who accepts the version."""
    detail: str = ""
    """What the gate found, in its own sentence."""
    power: str = ""
    """How likely it is to tell, and what would help; empty where that is not known."""


@dataclass(frozen=True, slots=True)
class Move:
    """A version that leaves a server it is on, for another."""

    adapter: str
    forced: bool
    """Whether it could not stay."""
    why: str
    """What forces it, or what it saves."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A complete, reviewable and executable description of one change.

    `id` hashes the decisions (changes, steps, capacity, impacts, gates, held, warnings),
    never times or measurements.
    """

    id: str
    fleet: str
    changes: tuple[Change, ...]
    steps: tuple[Step, ...]
    capacity: tuple[DeviceUse, ...]
    impacts: tuple[Impact, ...]
    gates: tuple[GateDue, ...]
    held: tuple[str, ...]
    """What the declarations ask for and the plan does not do, with the reason."""
    unknown: tuple[str, ...]
    """What could not be observed and is therefore left alone."""
    warnings: tuple[str, ...]
    cost_before: float | None
    cost_after: float | None
    """Currency units per hour of the devices in use; None: a price is not declared."""
    unchanged: int
    untouched_clients: tuple[str, ...]
    ledger_seq: int
    cost_bound: float | None = None
    """No placement of these versions costs less an hour; None where a price is not declared."""
    moves: tuple[Move, ...] = ()
    """Sorted by adapter."""
    without_demand: tuple[str, ...] = ()
    """Aliases whose demand nobody declared: they are placed as if idle."""
    outlook: tuple[str, ...] = ()
    """How each rollout with gates is likely to end, if the new version is no worse."""
    translations: tuple[Translation, ...] = ()
    """What gateways that are not fleetctl's own do not keep."""
