"""Defines the plan: changes, steps, and their effects on clients. Data only."""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal

from fleet.names import Address
from fleet.policies import PlanRuleFinding
from fleet.resources import Resource
from fleet.steps import Step


@dataclass(frozen=True, slots=True)
class SettingChange:
    """A declared value that differs from the last apply, beside the resources."""

    path: str
    """Dotted path in the declarations, such as `hosts.box1.python`."""
    before: str | None
    """The value at the last apply, secrets as references; None: the default."""
    after: str | None  # the value in force after the apply; None: the default
    acts: bool = False
    """Whether the value names a program, an address, a path or a flag that commands use."""


@dataclass(frozen=True, slots=True)
class Chances:
    """Likely ends of a rollout whose version is no worse than the old version; parts of 1."""

    promoted: float
    """Chance that all gates pass by themselves."""
    held: float
    """Chance that a gate cannot tell, so that a person decides."""
    failed: float
    """Chance that a gate fails by mistake."""


@dataclass(frozen=True, slots=True)
class RolloutAhead:
    """The stages of a rollout that follow the apply without another review."""

    version: str
    """Full name of the new version."""
    stable: str
    """Full name of the version that had the traffic before; empty: none had."""
    percent: int
    """Share right after the apply."""
    weights: tuple[int, ...]
    """Shares that follow, ascending; 100 is the last."""
    bake_s: float
    """Lower bound of the time at a share with traffic, in seconds."""
    begins: bool
    """Whether the plan begins the rollout, and does not merely carry the rollout on."""
    golden: tuple[str, ...] = ()
    """Gates on golden sets that have to pass before the next share."""
    gated: bool = False
    """Whether the rollout has gates at all."""
    closed: tuple[str, ...] = ()
    """Parts of the week in which no share rises, as declared."""
    back_out_s: float = 1.0
    """Usual seconds of a rollback while the rollout goes on."""
    chances: Chances | None = None
    """None: unknown, or no gate is left."""
    longest_s: float = 0.0
    """Seconds at a share without a verdict after which people decide."""
    needed: int | None = None
    """Requests of the new version, about, with which its live gates can tell at its next share;
    None: unknown, or no gate asks for any."""
    needed_s: float | None = None
    """Seconds until these requests are expected, by recorded or declared demand."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """Consequences of a plan for an alias that its steps alone do not show."""

    client: str  # name of the client
    alias: str  # name of the alias
    rollout: RolloutAhead | None = None
    settings: tuple[SettingChange, ...] = ()
    """Declared values that hold for the alias and change: of its tier, rollout, gates, devices."""
    servers: tuple[str, ...] = ()
    """Servers that answer for the alias and are to restart, or to be replaced by an upgrade."""


BoundBasis = Literal["resources", "configurations", "whole servers"]
"""How a lower bound of the price is found: by sums of resources, by all shapes of servers, or also
by whole numbers of servers on the declared devices."""


@dataclass(frozen=True, slots=True)
class LateAliases:
    """Aliases whose answers are expected later than their p95, by the law of throughput."""

    judged: int  # aliases whose answers have an expected time
    promised: tuple[str, ...] = ()
    """Late aliases whose tier promises the p95, sorted."""
    aimed: tuple[str, ...] = ()
    """Late aliases for which the p95 is the aim of their latency class alone, sorted."""


@dataclass(frozen=True, slots=True)
class LossOutlook:
    """Whether every promise is kept after the loss of any single device."""

    kept: bool | None  # null: not known without a search, see `diagnose --loss`
    place: str = ""  # device whose loss breaks most, such as `box1/gpu0`; empty: none is known
    unserved: tuple[str, ...] = ()
    """Aliases with a version that no server holds then, sorted; empty also where sums tell."""
    fewer: tuple[str, ...] = ()  # aliases that have fewer replicas then, sorted
    late: tuple[str, ...] = ()  # aliases whose answers come later than promised then, sorted


class GatewayTarget(StrEnum):
    """A kind of gateway that is not fleetctl's own."""

    ENVOY = "envoy"
    LITELLM = "litellm"
    GATEWAY_API = "gateway_api"


@dataclass(frozen=True, slots=True)
class GatewayLimit:
    """A declared setting that another kind of gateway does not keep."""

    what: str  # a few words, without a full stop
    detail: str = ""  # further sentences; empty: none
    aliases: tuple[str, ...] = ()
    """Aliases with this setting, sorted; empty: every alias."""


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """Declared settings that a kind of gateway does not keep."""

    target: GatewayTarget
    gateways: tuple[str, ...]
    """Declared gateways of this kind, sorted; empty: the routes are compiled for use elsewhere."""
    lost: tuple[GatewayLimit, ...]

    def only(self, aliases: Collection[str]) -> "GatewayLimits":
        """Return the limits of these aliases, and the limits of every alias."""
        kept = (
            (limit, tuple(alias for alias in limit.aliases if alias in aliases))
            for limit in self.lost
        )
        lost = (replace(limit, aliases=some) for limit, some in kept if some or not limit.aliases)
        return replace(self, lost=tuple(lost))


class Action(StrEnum):
    """The action on a resource. The symbols are `+ - ~ -/+ >`."""

    CREATE = "create"
    DELETE = "delete"
    UPDATE = "update"
    REPLACE = "replace"
    MOVE = "move"


class Reason(StrEnum):
    """The reason for a change: a closed list, a reason on every change."""

    DECLARED = "declared"
    """Newly declared, or its declaration changed."""
    REMOVED = "removed"
    """No longer declared."""
    ROLLOUT_STARTED = "rollout_started"
    ROLLOUT_ADVANCED = "rollout_advanced"
    ROLLED_BACK = "rolled_back"
    RETENTION_ENDED = "retention_ended"
    MISSING = "missing"  # created by fleetctl and gone, such as after a restart
    HUNG = "hung"
    """A server whose process runs and gives no sign of life."""
    FLAGS_CHANGED = "flags_changed"
    WRONG_SOURCE = "wrong_source"
    """Loaded under the right name from other bytes."""
    UNKNOWN_BYTES = "unknown_bytes"  # loaded from bytes of which neither ledger nor store knows
    REPLICA_MOVED = "replica_moved"
    SERVER_EMPTY = "server_empty"
    ROTATED = "rotated"
    RENAMED = "renamed"
    UPGRADE = "upgrade"
    """A server with new settings takes over from old servers, or old servers take back."""
    EDITED_LIVE = "edited_live"
    """Changed by hand on the live side."""


@dataclass(frozen=True, slots=True)
class Change:
    """A resource that differs between the desired and the live state."""

    address: Address  # such as `route/acme-support`
    action: Action
    before: Resource | None  # the live resource; None: there is none
    after: Resource | None  # the wanted resource; None: it is deleted
    reason: Reason
    why: str = ""
    """A sentence for the reader; decisions depend on `reason` alone."""
    origin: str = ""
    """`file:line:col` of the declaration behind the change; empty: no declaration."""
    details: tuple[tuple[str, str, str], ...] = ()
    """Fields that differ: name, before, after."""

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The resource before and after the change, where there is a resource."""
        return tuple(resource for resource in (self.before, self.after) if resource is not None)


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """The memory of a server's devices and its slots. Bytes. None: unknown."""

    server: str  # name of the server
    host: str  # name of its host
    devices: tuple[str, ...]  # names on the host
    total_bytes: int | None  # memory of the devices
    weights_bytes: int | None  # weights of the base
    slot_bytes: int | None  # all LoRA slots together
    kv_bytes: int | None  # left for the KV cache
    reserve_bytes: int | None  # activations, CUDA graphs and what vLLM leaves free
    slots: int  # LoRA slots that the server has


@dataclass(frozen=True, slots=True)
class DeviceUse(ServerMemory):
    """Memory and slots of a server, before, during and after the apply.

    Bytes. None: unknown. `basis` is the quality of the throughput, such as `uncalibrated`.
    """

    slots_before: int  # in use before the apply
    slots_during: int  # upper bound while the apply runs
    slots_after: int  # in use after the apply
    basis: str  # quality of the throughput
    load: tuple[float, ...] = ()
    """Part of its throughput that is asked for, by hour of the day, UTC; empty: unknown."""
    memory_basis: str = ""
    """Quality of the bytes; empty in plans of older fleetctls, where `basis` was for both."""


@dataclass(frozen=True, slots=True)
class Impact:
    """The effect of a plan on an alias of a client."""

    client: str  # name of the client
    tier: str  # name of the client's tier
    alias: str  # name that the client asks for
    summary: str
    """Such as `2.1.0 100 % -> 90 %, 2.2.0 10 %`."""
    share_moved: int
    """Percent of the alias's requests that will be answered differently."""
    peak_rpm: float | None  # requests per minute in the busiest hour; None: not known
    back_out: str  # command of the way back, or why there is none
    back_out_class: str
    """`warm`, `cold` or `none`."""
    back_out_s: float | None  # usual seconds of the way back; None: not known
    interrupted: bool
    """Whether requests will fail or wait for a while, as in a restart without a replica."""
    waits: bool = False
    """Whether interrupted requests wait for a reload."""
    outage_s: float | None = None
    """For about how long, in seconds, by the steps' estimates."""
    lost_requests: int | None = None
    """Upper bound of the requests without an answer, in the busiest hour; None: not known."""
    demand_basis: str = ""  # `recorded` or `declared`; empty: no demand is known


NO_EVIDENCE = "no evidence"
"""Status of a gate that has not run."""


@dataclass(frozen=True, slots=True)
class GateDue:
    """A gate that guards a rollout in a plan, with the gate's evidence."""

    alias: str  # name of the alias
    gate: str  # its name in `gates`
    metric: str  # such as `error_rate_rise`
    threshold: str  # upper bound with its unit, such as `3 pp`
    status: str
    """`NO_EVIDENCE` until the gate has run; then the verdict, or the words of an acceptance."""
    detail: str = ""  # counts behind the status; empty: none yet
    power: str = ""
    """Chance that the gate decides, and ways to raise the chance; empty: unknown."""


@dataclass(frozen=True, slots=True)
class Move:
    """A version that leaves a server for another."""

    adapter: str  # full name of the version
    forced: bool  # whether it cannot stay, and does not merely move to save costs
    why: str
    """Reason of a forced move, or the saving of another move."""


_LINE = re.compile(r"(routes and keys|[^\s:]+): (.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PlanNote:
    """A remark of a plan for the reader; no decision depends on the text.

    The plan's id covers notes as lines, and the plan file holds them so: `str` and `of` alone know
    the form, `SUBJECT: TEXT`.
    """

    text: str
    subject: str = ""
    """An alias, an address or `routes and keys`; empty: the plan as a whole."""

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}" if self.subject else self.text

    @classmethod
    def of(cls, line: str) -> "PlanNote":
        """Return the note of a line; `str` of the note is the line again."""
        found = _LINE.fullmatch(line)
        return cls(found[2], found[1]) if found else cls(line)


@dataclass(frozen=True, slots=True)
class CostChange:
    """The effect of a plan on the cost of a client; a month, by declared demand."""

    client: str  # name of the client
    fee: float | None
    """After the plan; None: no fee is declared."""
    before: float  # cost before the plan
    after: float  # cost after the plan
    crosses: bool
    """Whether the cost crosses 40 % of the fee, up or down."""
    over: bool
    """Whether the cost is above 40 % of the fee after the plan."""
    currency: str  # such as `EUR`


@dataclass(frozen=True, slots=True)
class Saving:
    """Money that optional moves would save, as `plan --max-moves` finds them."""

    moves: int  # number of versions that would change servers
    per_hour: float  # currency units


@dataclass(frozen=True, slots=True)
class Freeze:
    """The order of a person to apply nothing and to promote no rollout, until thawed."""

    by: str  # the person
    at: datetime  # time at which it was ordered
    reason: str  # as given


@dataclass(frozen=True, slots=True)
class Plan:
    """A complete, reviewable and executable description of a change of the fleet.

    `id` hashes the decisions (`fleet.codec.DECISIONS`, `ADDED`), never times or measurements.
    """

    id: str  # 16 hex digits of the SHA-256 of the decisions
    fleet: str  # name of the fleet
    changes: tuple[Change, ...] = ()
    steps: tuple[Step, ...] = ()
    capacity: tuple[DeviceUse, ...] = ()
    impacts: tuple[Impact, ...] = ()
    gates: tuple[GateDue, ...] = ()
    held: tuple[PlanNote, ...] = ()
    """Parts of the declarations that the plan does not carry out, with the reason; by alias."""
    unknown: tuple[PlanNote, ...] = ()
    """Resources that could not be observed and are therefore left alone; by address."""
    warnings: tuple[PlanNote, ...] = ()  # remarks of the planner
    upgrades: tuple[PlanNote, ...] = ()  # under way, stage by stage; by base
    settings: tuple[SettingChange, ...] = ()
    """Declared values that differ from the last apply, by path; an apply records them."""
    cost_before: float | None = None  # as `cost_after`, before the apply
    cost_after: float | None = None
    """Currency units per hour of the devices in use; None: a price is not declared."""
    unchanged: int = 0  # number of resources that are as declared
    set_aside: tuple[PlanNote, ...] = ()  # clients that stay as they are, and why; by client
    untouched_clients: tuple[str, ...] = ()  # clients that no part of the plan concerns, sorted
    ledger_seq: int = 0  # last entry of the ledger that the plan knows
    cost_bound: float | None = None
    """No placement of these versions costs less an hour; None where a price is not declared."""
    moves: tuple[Move, ...] = ()  # sorted by adapter
    without_demand: tuple[str, ...] = ()  # aliases without declared demand, placed as if idle
    outlook: tuple[PlanNote, ...] = ()
    """Likely end of the rollouts with gates, if the new version is no worse; by alias."""
    translations: tuple[GatewayLimits, ...] = ()
    """Declared settings that other kinds of gateways do not keep."""
    prospects: tuple[Prospect, ...] = ()
    """Rollouts that begin, terms that change, servers that restart; sorted by alias."""
    client_costs: tuple[CostChange, ...] = ()
    """Clients with a fee whose cost changes, sorted; empty also where no price is declared."""
    frozen: Freeze | None = None
    """The freeze at the time of the plan; None: not frozen. `apply` asks the ledger again."""
    rules: tuple[PlanRuleFinding, ...] = ()  # findings by rule, at that time; `apply` judges anew
    saving: Saving | None = None  # a large saving that the plan leaves out; None: none is known
    late: LateAliases | None = None  # aliases with late answers after the plan; None: all in time
    loss: LossOutlook | None = None  # after the loss of any one device; None: there is one at most
    bound_by: BoundBasis | None = None  # how `cost_bound` was found; None: not told
