"""Back to the previous version, now: no plan, no declarations, no lease, no approval.

A rollback needs the routing table alone. The order is that of an emergency: flip, wait for the
gateways, record, and only then test and report. A dead ledger or gateway does not stop it.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from fleet.errors import FleetError
from fleet.history import (
    FallbackObjection,
    LedgerEvent,
    RollbackChecked,
    RolledBack,
    SmokeCounts,
    nothing_known,
)
from fleet.names import version_of
from fleet.resources import FULL
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.table.table import AliasEntry, RoutingTable, ShareEntry
from runtime.ledger.outbox import LedgerOutbox
from runtime.observe import lost
from runtime.rollback.publish import (
    SHOW_S,
    addresses,
    choose_target,
    entry_of,
    flipped,
    names_of,
    newer_than,
    newest_serving,
    refuse_rejected,
    write,
)
from runtime.smoke import BUILT_IN_PROMPT, SmokeResult, smoke_test


@dataclass(frozen=True, slots=True)
class RollbackResult:
    """The result of a rollback. Durations are seconds."""

    alias: str
    target: str
    """Full name of the version that answers now."""
    before: tuple[tuple[str, int], ...]
    """Versions and their percents before, newest first."""
    held: tuple[str, ...]
    """Newer versions, kept out of the alias's traffic until released."""
    revision: int
    decided: str
    """Begin, ISO 8601, UTC."""
    seconds: float
    """From the decision, before the table is read, to the last acknowledgement. Gateways that
    did not acknowledge were waited for longer."""
    acknowledged: tuple[str, ...]
    smoke: SmokeResult
    smoke_ok_s: float | None
    """From the decision to a passed smoke test; None: it did not pass."""
    reason: str = ""
    warnings: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    """Gateways that run and did not take the table."""

    @property
    def complete(self) -> bool:
        """Whether every running gateway serves the new table and the version answers."""
        return not self.failures and self.smoke.passed == self.smoke.total

    @property
    def next(self) -> str:
        """The command that helps where the version does not answer; empty where it does."""
        if self.smoke.passed == self.smoke.total:
            return ""
        return "fleetctl reconcile --once" if self.smoke.passed == 0 else "fleetctl status"

    @property
    def sentence(self) -> str:
        """The outcome as a sentence."""
        count, not_back = len(self.acknowledged), len(self.failures)
        plural = "gateway" if count == 1 else "gateways"
        asked = f"{count} {plural} acknowledged" if count else "no gateway is running"
        if not_back:
            asked = f"{count} of {count + not_back} gateways acknowledged"
        where = "back" if count or not not_back else "NOT yet back"
        return (
            f"{self.alias} {where} on {version_of(self.target)} in {self.seconds:.2f} s ({asked}), "
            f"{self.smoke.sentence}"
        )


@dataclass(frozen=True, slots=True)
class RollbackRequest:
    """The alias to roll back, the version, and the reason for the ledger."""

    alias: str
    to: str | None = None
    """Version such as `2.1.0`; None: the newest proven version before the one that answers now."""
    reason: str = ""
    cause: str = ""
    """Decider, such as `gate errors`; empty: the author of the run."""
    only: str = ""
    """Full name of the version that is to stay out; empty: all newer versions."""
    forward: bool = False
    """Whether `to` may be newer than the version that answers now."""
    gate: str | None = None
    """The gate whose verdict decided; None: a person decided."""
    digest: str | None = None
    """Digest of the bytes that failed the gate."""


async def rollback(
    request: RollbackRequest,
    gateways: LocalGateways,
    outbox: LedgerOutbox,
    *,
    doubts: FallbackObjection = nothing_known,
    inputs: Callable[[], Sequence[str]] = tuple,
    turn: AbstractAsyncContextManager[Any] | None = None,
    seconds: Callable[[], float] = time.monotonic,
) -> RollbackResult:
    """Give all of an alias's traffic to an earlier resident version.

    `outbox`: writes the ledger's entry, after the flip; a failure is a warning. `doubts`: gives the
    objections to versions; called once, and only where they matter. `inputs`: gives the inputs of
    the smoke test, after the flip; none: `BUILT_IN_PROMPT`. `turn`: held while the table is
    written, where several aliases go back at once. `seconds`: clock for the durations.

    Raises:
        FleetError: no such alias, or no such version is resident; nothing was changed.
    """
    alias, to, forward = request.alias, request.to, request.forward
    doubts = cache(doubts)
    decided, began = datetime.now(UTC).isoformat(timespec="milliseconds"), seconds()
    target = ShareEntry(adapter="", percent=0, servers=())
    seen, _ = await gateways.read_table(SHOW_S)
    gone = await lost(seen, entry_of(seen, alias).shares)

    def change(table: RoutingTable) -> RoutingTable:
        nonlocal target
        entry = entry_of(table, alias)
        target = choose_target(alias, entry, to, doubts, forward=forward, lost=gone)
        if forward:
            refuse_rejected(alias, entry, target, doubts)
        if target.adapter in gone:
            raise FleetError.of(
                "FC6021",
                "The version is not resident",
                f"`{alias}` would be left without answers: {', '.join(target.servers)} no longer "
                f"holds {version_of(target.adapter)}, and no other version before is there. "
                "Nothing was changed.",
                hint="This loads again what servers have lost; then roll back.",
                command="fleetctl reconcile --once",
            )
        return flipped(table, alias, target)

    async with turn or nullcontext():
        flip = await write(gateways, change)
    took = seconds() - began - (flip.published.waited_s if flip.failures else 0.0)
    before = flip.before.aliases[alias]
    # Asked before the record, for from then on the target has had all traffic.
    remarks = tuple(
        without_gates(before, target, doubts) if forward else against(before, target, to, doubts)
    )
    newer = tuple(name for name in newer_than(before, target) if request.only in ("", name))
    record = RolledBack(
        alias,
        target.adapter,
        {share.adapter: share.percent for share in before.shares},
        request.reason,
        flip.table.revision,
        decided,
        round(took, 3),
        flip.published.acknowledged,
        flip.failures,
        forward=forward,
        cause=request.cause or None,
        gate=request.gate,
        digest=request.digest,
    )
    events = [replace(record, adapter=name) for name in newer] or [record]
    risk = "until it is, plan and status take the route for changed by hand"
    unrecorded = await record_or_warn(outbox, events, "the rollback", risk)
    asked = tuple(await asyncio.to_thread(inputs)) or (BUILT_IN_PROMPT,)
    smoke = await smoke_test(target.adapter, addresses(flip.table, target), asked, seconds)
    unchanged = flip.table.revision == flip.before.revision
    again = _further(alias, flip.table.aliases[alias], target, to) if unchanged else []
    smoke_ok = round(seconds() - began, 3) if smoke.passed == smoke.total else None
    checked = RollbackChecked(
        alias, target.adapter, decided, round(took, 3), smoke_ok, smoke_counts(smoke), flip.failures
    )
    untimed = await record_or_warn(outbox, [checked], "its smoke test")
    published = flip.published
    warnings = (
        *(*remarks, *passed_over(before, target, gone), *flip.notes, *again),
        *(*(unrecorded or untimed), *map(str, published.notes), *smoke.warnings),
    )
    return RollbackResult(
        alias=alias,
        target=target.adapter,
        before=tuple((share.adapter, share.percent) for share in before.shares),
        held=newer,
        revision=flip.table.revision,
        decided=decided,
        seconds=took,
        acknowledged=published.acknowledged,
        smoke=smoke,
        smoke_ok_s=smoke_ok,
        reason=request.reason,
        warnings=tuple(dict.fromkeys(warnings)),
        failures=flip.failures,
    )


def _further(alias: str, entry: AliasEntry, target: ShareEntry, to: str | None) -> list[str]:
    """Say that nothing moved, and how to go further back."""
    place = names_of(entry).index(target.adapter)
    older = [share for share in entry.shares[place + 1 :] if share.servers]
    if to is not None or not older:
        return []
    further = f"fleetctl rollback {alias} --to {version_of(older[0].adapter)}"
    return [f"it was back on {version_of(target.adapter)} already; to go further back: {further}"]


def against(
    entry: AliasEntry, target: ShareEntry, to: str | None, doubts: FallbackObjection
) -> Iterator[str]:
    """Yield the objections to versions that were passed over, or to the version that was named."""
    now, chosen = newest_serving(entry), names_of(entry).index(target.adapter)
    if entry.shares[chosen].percent or chosen <= now:  # the target answers already
        return
    between = [share for share in entry.shares[now + 1 : chosen] if share.servers]
    asked = [target] if to is not None else between
    unfit = doubts(names_of(entry)).unfit if asked else {}
    for share in asked:
        if share.adapter in unfit:
            why, name = unfit[share.adapter], version_of(share.adapter)
            yield f"{name} was named, though {why}" if to else f"{name} was passed over: {why}"


def without_gates(
    entry: AliasEntry, target: ShareEntry, doubts: FallbackObjection
) -> Iterator[str]:
    """Yield a warning where a version skips stages and gates, and no rollback is undone by that."""
    had = next(share for share in entry.shares if share.adapter == target.adapter).percent
    if had < FULL and target.adapter not in doubts(names_of(entry)).held:
        name = version_of(target.adapter)
        yield f"{name} went past stages and gates: no rollback of it is known that this undoes"


def passed_over(entry: AliasEntry, target: ShareEntry, gone: Collection[str]) -> Iterator[str]:
    """Yield warnings about newer versions than the target that their servers have lost."""
    for share in entry.shares:
        if share.adapter == target.adapter:
            return
        if share.adapter in gone:
            where, version = ", ".join(share.servers), version_of(share.adapter)
            yield f"{where} no longer holds {version}: fleetctl reconcile --once loads it again"


def smoke_counts(smoke: SmokeResult) -> SmokeCounts:
    """Return the figures of a smoke test for the ledger."""
    return SmokeCounts(smoke.passed, smoke.total, smoke.telling)


async def record_or_warn(
    outbox: LedgerOutbox, events: Sequence[LedgerEvent], what: str, risk: str = ""
) -> list[str]:
    """Append to the ledger; a dead home is a warning, for the traffic is back already."""
    why = await asyncio.to_thread(outbox.append, events)
    if not why:
        return []
    return [f"{what} could not be recorded ({why})" + (f"; {risk}" if risk else "")]
