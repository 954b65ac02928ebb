"""Defines the events of applies: steps, adopted resources, deleted files, notes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from fleet.codec import optional

Document: TypeAlias = Mapping[str, Any]
"""A value in plain form, as written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFields:
    """The fields that an entry of any kind may have."""

    entry_id: str | None = optional()
    """Id from the outbox: a second entry with the id repeats the first and counts as a note."""
    queued: Mapping[str, str] | None = optional()
    """Time, author and run of an entry that waited for its home; None: the entry did not wait."""


@dataclass(frozen=True, slots=True)
class PassiveEvent(EventFields):
    """An event that changes no part of the history."""


@dataclass(frozen=True, slots=True)
class ApplyStarted(EventFields):
    """The begin of an apply."""

    kind: ClassVar[str] = "apply_started"
    plan_id: str = ""
    fleet: str = ""
    commit: str = ""
    trigger: str = ""
    """`apply` or `reconcile`."""
    steps: int = 0
    settings: int | None = optional()
    """Number of settings that the plan changes; None: a repair, or an earlier release."""
    fleet_id: str | None = optional()
    """Id of the fleet, which its first apply draws; None: an entry before has it."""


@dataclass(frozen=True, slots=True)
class StepStarted(EventFields):
    """The begin of a step."""

    kind: ClassVar[str] = "step_started"
    plan_id: str = ""
    step: str = ""
    address: str = ""
    operation: Document = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepFinished(EventFields):
    """The success of a step."""

    kind: ClassVar[str] = "step_finished"
    step: str = ""
    address: str = ""
    how: str = ""
    """`done`, `adopted` or `recovered`."""
    boot: str = ""
    plan_id: str | None = optional()
    """None: recovered by a later run."""
    operation: Document | None = optional()  # noqa: RUF009 (a field)
    """The operation of an adopted step, which never started; None: `StepStarted` has it."""
    launch: str | None = optional()
    """Launch that answered a smoke test; of a server that shows none, such as an attached one, its
    boot. None: no smoke test, or the server shows neither."""


@dataclass(frozen=True, slots=True)
class StepFailed(EventFields):
    """The failure of a step."""

    kind: ClassVar[str] = "step_failed"
    plan_id: str = ""
    step: str = ""
    address: str = ""
    code: str = ""
    summary: str = ""
    detail: str = ""
    stale: bool = False
    unsure: bool = False
    """Whether the step may have had its effect."""


@dataclass(frozen=True, slots=True)
class ApplyFinished(EventFields):
    """The end of an apply."""

    kind: ClassVar[str] = "apply_finished"
    plan_id: str = ""
    result: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Number of steps by outcome."""
    boots: Mapping[str, str] = field(default_factory=dict)
    """Boot id by server."""
    gone: tuple[str, ...] = ()
    """Addresses that are not live and that no declaration asks for any more."""
    settings: Mapping[str, str | None] | None = optional()
    """Declared values from then on by path; None for a path: the default. None: as before."""


@dataclass(frozen=True, slots=True)
class Adopted(EventFields):
    """A live resource that fleetctl owns from then on."""

    kind: ClassVar[str] = "adopted"
    address: str = ""
    resource: Document = field(default_factory=dict)
    boot: str = ""


@dataclass(frozen=True, slots=True)
class Collected(PassiveEvent):
    """The ids that a garbage collection is about to delete."""

    kind: ClassVar[str] = "collected"
    versions: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    evaluations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Frozen(EventFields):
    """The freeze of the fleet by a person."""

    kind: ClassVar[str] = "frozen"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Thawed(EventFields):
    """The end of a freeze."""

    kind: ClassVar[str] = "thawed"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PlanApproved(EventFields):
    """The approval of a plan by a person."""

    kind: ClassVar[str] = "plan_approved"
    plan_id: str = ""
    reason: str = ""
    accept_outage: int = 0
    """Upper bound of the clients whose requests may fail."""


@dataclass(frozen=True, slots=True)
class CopyDamaged(EventFields):
    """Damage of a served copy, which servers may have read."""

    kind: ClassVar[str] = "copy_damaged"
    digest: str = ""
    """Digest that the copy should have."""
    path: str = ""
    """Folder of the copy, as servers list the folder."""
    fault: str = ""
    """The damage, as the end of a sentence."""
    boots: Mapping[str, str] = field(default_factory=dict)
    """By server that may have read the copy: the boot of that time; empty: not known."""


@dataclass(frozen=True, slots=True)
class BackedUp(PassiveEvent):
    """A backup of the state folder that was written."""

    kind: ClassVar[str] = "backed_up"
    file: str = ""
    """Absolute path."""
    sha256: str = ""
    seq: int = 0
    """Number of the last entry in the backup."""
    with_keys: bool = False


@dataclass(frozen=True, slots=True)
class BackupDrilled(PassiveEvent):
    """A trial of a backup on the fake engine."""

    kind: ClassVar[str] = "backup_drilled"
    file: str = ""
    sha256: str = ""
    complete: bool = False
    """Whether the fleet would come back."""
    aliases: int = 0
    """Number of aliases that answered."""
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Restored(PassiveEvent):
    """The beginning of the ledger's life after a restore; the entries before are the backup's."""

    kind: ClassVar[str] = "restored"
    file: str = ""
    sha256: str = ""
    lost: int = 0
    """Number of entries of the ledger before that the backup lacked."""


@dataclass(frozen=True, slots=True)
class CostTermsChanged(EventFields):
    """The terms of costs from then on: leases, prices, servers, fees."""

    kind: ClassVar[str] = "cost_terms"
    changed: Mapping[str, Document | None] = field(default_factory=dict)
    """Documents of `fleet.costing` by key, those that changed; None: gone."""


@dataclass(frozen=True, slots=True)
class StaffHoursImported(PassiveEvent):
    """The staff hours of a month, in the place of the declared hours and of earlier imports."""

    kind: ClassVar[str] = "staff_hours"
    month: str = ""
    """Such as `2026-11`."""
    hours: Mapping[str, int] = field(default_factory=dict)
    """Thousandths of an hour by client."""
    file: str = ""


@dataclass(frozen=True, slots=True)
class MonthClosed(PassiveEvent):
    """The end of a month's bill, which is in a file from then on."""

    kind: ClassVar[str] = "month_closed"
    month: str = ""
    sha256: str = ""
    """Of the file."""
    total: int = 0
    """Sum of the bill, in millionths of the currency."""


@dataclass(frozen=True, slots=True)
class Noted(EventFields):
    """A note for people."""

    kind: ClassVar[str] = "note"
    text: str = ""
    step: str | None = optional()
    """Id of a step that started and had no effect."""


ApplyEvent: TypeAlias = (
    ApplyStarted
    | StepStarted
    | StepFinished
    | StepFailed
    | ApplyFinished
    | Adopted
    | Collected
    | Frozen
    | Thawed
    | PlanApproved
    | CopyDamaged
    | BackedUp
    | BackupDrilled
    | Restored
    | CostTermsChanged
    | StaffHoursImported
    | MonthClosed
    | Noted
)
