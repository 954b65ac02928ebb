"""Rollback drills: prove that a rollback would work now, and measure its duration.

A dry drill moves no traffic: the drill publishes the routes as they are under a new revision and
requests answers of the target on every server that holds the target. A live drill moves the traffic
to the target and back, after a smoke test; a live drill during a rollout is refused. The next
reconcile restores the routes of a live drill that was killed.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from fleet.errors import FleetError
from fleet.history import (
    Drilled,
    DrillRefused,
    DrillStarted,
    DrillUndone,
    Entry,
    FallbackObjection,
    RolledBack,
    nothing_known,
)
from fleet.names import version_of
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.table.table import RoutingTable, ShareEntry
from runtime.ledger.outbox import LedgerOutbox
from runtime.ledger.protocol import Ledger
from runtime.observe import lost
from runtime.rollback.publish import (
    Written,
    addresses,
    choose_target,
    entry_of,
    flipped,
    with_shares,
    write,
)
from runtime.rollback.rollback import against, passed_over, record_or_warn, smoke_counts
from runtime.smoke import BUILT_IN_PROMPT, SmokeResult, smoke_test


@dataclass(frozen=True, slots=True)
class DrillResult:
    """The result of a drill. Durations are seconds."""

    alias: str
    target: str
    """Full name of the version that a rollback would give the traffic to."""
    live: bool
    """Whether traffic really moved, there and back."""
    seconds: float
    """From reading the table to the last acknowledgement."""
    back_s: float | None
    """The same for the way back; None for a dry drill."""
    acknowledged: tuple[str, ...]
    smoke: SmokeResult
    warnings: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether a rollback would have succeeded."""
        return not self.failures and self.smoke.passed == self.smoke.total

    @property
    def next(self) -> str:
        """The command that helps where the version does not answer; empty where it does."""
        return "" if self.smoke.passed == self.smoke.total else "fleetctl reconcile --once"

    @property
    def sentence(self) -> str:
        """The outcome as a sentence."""
        moved, version = "and back" if self.live else "no traffic moved", version_of(self.target)
        count = len(self.acknowledged)
        asked = f"{count} acknowledged" if count else "no gateway is running"
        if self.smoke.passed != self.smoke.total:
            return f"{self.alias} could NOT go back to {version}: {self.smoke.sentence}"
        return (
            f"{self.alias} could go back to {version} in {self.seconds:.2f} s "
            f"({asked}, {moved}), {self.smoke.sentence}"
        )


async def drill(
    alias: str,
    to: str | None,
    gateways: LocalGateways,
    outbox: LedgerOutbox,
    *,
    live: bool = False,
    doubts: FallbackObjection = nothing_known,
    inputs: Sequence[str] = (),
) -> DrillResult:
    """Exercise the rollback of an alias; the traffic is afterwards as it was.

    `to`: the version to go back to; None: the version that a rollback would choose. A `live` drill
    flips for a moment, and back; without a ledger a live drill is refused. `doubts`: gives the
    objections to versions; called once, and only where they matter. `inputs`: of the smoke test;
    none: `BUILT_IN_PROMPT`.

    Raises:
        FleetError: no such alias or version, or a live drill in the middle of a rollout.
    """
    doubts = cache(doubts)
    table, _ = await gateways.read_table()
    entry = entry_of(table, alias)
    gone = await lost(table, entry.shares)
    target = choose_target(alias, entry, to, doubts, forward=not live, lost=gone)
    if live and sum(share.percent > 0 for share in entry.shares) > 1:
        raise FleetError.of(
            "FC6023",
            "A live drill would disturb a rollout",
            f"Two versions share the traffic of `{alias}`; flipping it would change what its "
            "gates measure.",
            hint="A dry drill proves the same and moves no traffic.",
            command=f"fleetctl rollback {alias} --drill",
        )
    smoke = await smoke_test(target.adapter, addresses(table, target), inputs or (BUILT_IN_PROMPT,))
    writes: list[Written] = []
    if not live:
        writes.append(await write(gateways, _again))
    elif smoke.passed == smoke.total:
        before = tuple(share.model_dump(mode="json") for share in entry.shares)
        begun = DrillStarted(alias, target.adapter, before)
        await asyncio.to_thread(outbox.append_or_raise, [begun])
        try:
            writes.append(await write(gateways, partial(flipped, alias=alias, target=target)))
        finally:  # also after Ctrl-C and after a gateway that failed
            back = partial(_restored, alias=alias, target=target, shares=entry.shares)
            writes.append(await write(gateways, back))
    notes = [
        *(*against(entry, target, to, doubts), *passed_over(entry, target, gone)),
        *(note for written in writes for note in written.notes),
        *(str(note) for written in writes for note in written.published.notes),
    ]
    result = DrillResult(
        alias,
        target.adapter,
        live,
        seconds=writes[0].seconds if writes else 0.0,
        back_s=writes[1].seconds if len(writes) > 1 else None,
        acknowledged=writes[0].published.acknowledged if writes else (),
        smoke=smoke,
        warnings=tuple(dict.fromkeys((*notes, *smoke.warnings))),
        failures=tuple(failure for written in writes for failure in written.failures),
    )
    drilled = Drilled(
        alias,
        target.adapter,
        live,
        result.complete,
        seconds=round(result.seconds, 3),
        back_s=None if result.back_s is None else round(result.back_s, 3),
        acknowledged=result.acknowledged,
        smoke=smoke_counts(smoke),
    )
    unrecorded = await record_or_warn(outbox, [drilled], "the drill")
    return replace(result, warnings=(*result.warnings, *unrecorded))


def _restored(
    table: RoutingTable, alias: str, target: ShareEntry, shares: tuple[ShareEntry, ...]
) -> RoutingTable:
    """Undo the flip, unless the route was changed since: then the change holds."""
    if alias not in table.aliases or flipped(table, alias, target) is not table:
        return table
    return with_shares(table, alias, shares)


def _again(table: RoutingTable) -> RoutingTable:
    return table.model_copy(update={"revision": table.revision + 1})


def unfinished(entries: Iterable[Entry]) -> Iterator[DrillStarted]:
    """Yield the begins of live drills without a recorded end."""
    begun: dict[str, DrillStarted] = {}
    for entry in entries:
        match entry.event:
            case DrillStarted() as event:
                begun[event.alias] = event
            case Drilled() | DrillRefused() | DrillUndone() | RolledBack() as event:
                begun.pop(event.alias, None)
            case _:
                pass
    yield from begun.values()


async def undo(begun: DrillStarted, gateways: LocalGateways, ledger: Callable[[], Ledger]) -> None:
    """Restore the route from before a live drill that was killed.

    Only while the route is as that drill left it. The caller holds the lease, so that no
    drill that still runs is taken for a dead one.

    Raises:
        FleetError: the table cannot be read or written.
    """
    shares = tuple(ShareEntry.model_validate(share) for share in begun.shares)
    target = next(share for share in shares if share.adapter == begun.target)
    await write(gateways, lambda table: _restored(table, begun.alias, target, shares))
    ledger().append([DrillUndone(begun.alias, begun.target)])
