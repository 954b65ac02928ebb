"""Back to the previous version, now: no plan, no declarations, no lease, no approval.

All it needs is the routing table. The order is that of an emergency: flip, wait for the
gateways, write it down, and only then test and report. What is down does not stop it.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.errors import (
    FleetError,
    StalePlanError,
    did_you_mean,
    problem,
)
from fleet.names import AdapterName
from runtime.gateway.control import LocalGateways, Published
from runtime.gateway.table import AliasEntry, RoutingTable, ShareEntry
from runtime.ledger.protocol import Ledger
from runtime.smoke import SmokeResult, smoke_test

ATTEMPTS = 5
"""How often the flip is tried when others write the table at the same moment."""
PING = "Hello"
"""What is asked where no known input is recorded: any answer at all will do."""


@dataclass(frozen=True, slots=True)
class RollbackResult:
    """What a rollback did. Durations are seconds."""

    alias: str
    target: str
    """Full name of the version that answers now."""
    before: tuple[tuple[str, int], ...]
    """Versions and their percents before, newest first."""
    held: tuple[str, ...]
    """Newer versions, kept out of the alias's traffic until released."""
    revision: int
    seconds: float
    """From reading the table to the last acknowledgement."""
    acknowledged: tuple[str, ...]
    smoke: SmokeResult
    warnings: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    """Gateways that run and did not take the table."""

    @property
    def complete(self) -> bool:
        """Whether every running gateway serves it and the version answers."""
        return not self.failures and self.smoke.passed == self.smoke.total

    @property
    def sentence(self) -> str:
        """The whole outcome in one line."""
        count = len(self.acknowledged)
        plural = "gateway" if count == 1 else "gateways"
        asked = f"{count} {plural} acknowledged" if count else "no gateway is running"
        return (
            f"{self.alias} back on {short(self.target)} in {self.seconds:.2f} s ({asked}), "
            f"{self.smoke.sentence}"
        )


@dataclass(slots=True)
class _Flip:
    table: RoutingTable
    before: AliasEntry
    target: ShareEntry
    published: Published
    warnings: list[str] = field(default_factory=list)


def short(adapter: str) -> str:
    """Return the version alone, `2.1.0`, of a full adapter name."""
    return str(AdapterName.parse(adapter).version)


async def rollback(
    alias: str,
    to: str | None,
    gateways: LocalGateways,
    ledger: Callable[[], Ledger],
    *,
    reason: str = "",
    held: Callable[[], Collection[str]] = tuple,
    inputs: Callable[[], Sequence[str]] = tuple,
    seconds: Callable[[], float] = time.monotonic,
) -> RollbackResult:
    """Give all of an alias's traffic to an earlier resident version.

    Args:
        alias: What clients call, such as `acme-support`.
        to: The version, such as `2.1.0`; None: the newest before the one that answers now.
        gateways: Where the table is read and published.
        ledger: Opens the ledger, after the flip; what fails there is a warning.
        reason: For the ledger.
        held: Gives the full names of versions that were rolled back before.
        inputs: Gives the inputs of the smoke test; asked after the flip. None known: `PING`.
        seconds: Clock for the durations.

    Raises:
        FleetError: no such alias, or no such version is resident; nothing was changed.
    """
    began = seconds()
    flip = await _flip(alias, to, gateways, held)
    took = seconds() - began
    newer = newer_than(flip.before, flip.target)
    record = {
        "alias": alias,
        "to": flip.target.adapter,
        "before": {each.adapter: each.percent for each in flip.before.shares},
        "reason": reason,
        "revision": flip.table.revision,
        "seconds": round(took, 3),
        "acknowledged": list(flip.published.acknowledged),
    }
    flip.warnings += await asyncio.to_thread(_write_down, ledger, record, newer)
    urls = [flip.table.servers[each] for each in flip.target.servers if each in flip.table.servers]
    asked = tuple(await asyncio.to_thread(inputs)) or (PING,)
    smoke = await smoke_test(flip.target.adapter, urls, asked, seconds)
    return RollbackResult(
        alias=alias,
        target=flip.target.adapter,
        before=tuple((each.adapter, each.percent) for each in flip.before.shares),
        held=newer,
        revision=flip.table.revision,
        seconds=took,
        acknowledged=flip.published.acknowledged,
        smoke=smoke,
        warnings=tuple(dict.fromkeys((*flip.warnings, *flip.published.notes, *smoke.warnings))),
        failures=tuple(
            f"gateway {name}: {error.diagnostics[0].detail}"
            for name, error in flip.published.failures
        ),
    )


async def _flip(
    alias: str, to: str | None, gateways: LocalGateways, held: Callable[[], Collection[str]]
) -> _Flip:
    for _ in range(ATTEMPTS - 1):
        try:
            return await _try_flip(alias, to, gateways, held)
        except StalePlanError:  # another run wrote in between: read again
            continue
    return await _try_flip(alias, to, gateways, held)


async def _try_flip(
    alias: str, to: str | None, gateways: LocalGateways, held: Callable[[], Collection[str]]
) -> _Flip:
    table, notes = await gateways.read()
    if alias not in table.aliases:
        raise _no_such_alias(alias, table)
    before = table.aliases[alias]
    target = choose_target(alias, before, to, held)
    changed = flipped(table, alias, target)
    published = await gateways.publish_and_report(changed)
    return _Flip(changed, before, target, published, list(notes))


def choose_target(
    alias: str, entry: AliasEntry, to: str | None, held: Callable[[], Collection[str]] = tuple
) -> ShareEntry:
    """Return the version to go back to.

    During a canary that is the one which answers the rest; else the newest older one that
    was not itself rolled back (`held` is asked only where there is a choice).

    Raises:
        FleetError: it is not resident, or there is none before the one that answers now.
    """
    resident = [each for each in entry.shares if each.servers]
    if to is not None:
        for share in resident:
            if to in (short(share.adapter), share.adapter):
                return share
        raise _not_resident(alias, to, resident)
    newest = next(place for place, each in enumerate(entry.shares) if each.percent)
    older = [each for each in entry.shares[newest + 1 :] if each.servers]
    stable = [each for each in older if each.percent]
    if not stable and len(older) > 1:
        bad = held()
        stable = [each for each in older if each.adapter not in bad]
    if not (stable or older):
        raise _nothing_before(alias, entry.shares[newest], resident)
    return (stable or older)[0]


def flipped(table: RoutingTable, alias: str, target: ShareEntry) -> RoutingTable:
    """Return the next revision, with all of an alias's traffic on `target`.

    The very same table if nothing differs. The lease's token stays: an emergency must not
    let a run with an older lease write again.
    """
    entry = table.aliases[alias]
    shares = tuple(
        each.model_copy(update={"percent": 100 if each.adapter == target.adapter else 0})
        for each in entry.shares
    )
    if shares == entry.shares:
        return table
    aliases = {**table.aliases, alias: entry.model_copy(update={"shares": shares})}
    return table.model_copy(update={"revision": table.revision + 1, "aliases": aliases})


def newer_than(entry: AliasEntry, target: ShareEntry) -> tuple[str, ...]:
    """Return the versions that stand before `target`, which is to say newer ones."""
    names = [each.adapter for each in entry.shares]
    return tuple(names[: names.index(target.adapter)])


def _write_down(
    ledger: Callable[[], Ledger], record: dict[str, Any], newer: Sequence[str]
) -> list[str]:
    """Append to the ledger; a dead home is a warning, for the traffic is back already."""
    try:
        ledger().append("rolled_back", [{**record, "adapter": each} for each in newer] or [record])
    except (FleetError, OSError) as error:
        risk = "until it is, a reconcile may roll the newer version out again"
        return [f"the rollback could not be recorded ({error}); {risk}"]
    return []


def _no_such_alias(alias: str, table: RoutingTable) -> FleetError:
    known = sorted(table.aliases)
    return FleetError(
        problem(
            "FC6020",
            "No such alias",
            f"`{alias}` is not in the routing table, which has {len(known)} aliases.",
            hint=did_you_mean(alias, known),
            command="fleetctl status",
        )
    )


def _not_resident(alias: str, to: str, resident: Sequence[ShareEntry]) -> FleetError:
    listed = ", ".join(f"{short(each.adapter)} ({each.percent} %)" for each in resident)
    return FleetError(
        problem(
            "FC6021",
            "The version is not resident",
            f"No server holds `{to}` for `{alias}`. Resident: {listed or 'none'}.",
            hint="Choose one of these, or declare the version and apply: it is loaded first.",
        )
    )


def _nothing_before(alias: str, now: ShareEntry, resident: Sequence[ShareEntry]) -> FleetError:
    others = [short(each.adapter) for each in resident if each.adapter != now.adapter]
    newer = f" Newer ones are resident: {', '.join(others)}." if others else ""
    return FleetError(
        problem(
            "FC6022",
            "No earlier version is resident",
            f"`{alias}` is answered by {short(now.adapter)}, the oldest that is loaded.{newer}",
            hint="Name one with --to, or declare an earlier version and apply.",
            command=f"fleetctl rollback {alias} --to {others[0]}" if others else "",
        )
    )
