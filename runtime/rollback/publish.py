"""The flip: all of an alias's traffic to a resident version, acknowledged by every gateway.

The flip needs the routing table and nothing else. Rollback and drill are made of flips.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from fleet.errors import FleetError, StalePlanError, did_you_mean
from fleet.history import FallbackObjection, nothing_known
from fleet.names import version_of
from fleet.resources import FULL
from runtime.gateway.admin.protocol import Published
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.table.table import AliasEntry, RoutingTable, ShareEntry

ATTEMPTS = 5
"""Upper bound of the attempts to write the table, where others write at the same moment."""
SHOW_S = 0.5
"""Upper bound of the wait for the table of a gateway before the others are given the new table."""

_LATER = " It may go on by older routes; once it answers: fleetctl reconcile --once"
"""Addition to the reason of a gateway that did not take a table."""

Change = Callable[[RoutingTable], RoutingTable]
"""Makes the next revision of a table; returns the very same table where nothing is to be done."""


@dataclass(frozen=True, slots=True)
class Written:
    """A table that was published, and the table before."""

    before: RoutingTable
    table: RoutingTable
    published: Published
    notes: tuple[str, ...] = ()
    """From reading the table."""
    seconds: float = 0.0
    """From the first reading to the last acknowledgement."""

    @property
    def failures(self) -> tuple[str, ...]:
        """Gateways that run and did not take the table, with the reason."""
        found = ((name, error.diagnostics[0]) for name, error in self.published.failures)
        return tuple(
            f"gateway {name}: {diagnostic.detail}"
            + (f" {diagnostic.hint} {diagnostic.command}" if diagnostic.command else _LATER)
            for name, diagnostic in found
        )


async def write(gateways: LocalGateways, change: Change) -> Written:
    """Read, change and publish the table; again when another run wrote in between.

    Raises:
        FleetError: what `change` refuses, or that the table cannot be read or written.
    """
    began = time.monotonic()
    for attempt in range(1, ATTEMPTS + 1):
        table, notes = await gateways.read_table(SHOW_S)
        changed = change(table)
        try:
            published = await gateways.publish_and_report(changed, urgent=True)
        except StalePlanError:  # another run wrote in between: read again
            if attempt == ATTEMPTS:
                raise
            continue
        return Written(table, changed, published, tuple(map(str, notes)), time.monotonic() - began)
    raise AssertionError("ATTEMPTS is 1 or more")


def entry_of(table: RoutingTable, alias: str) -> AliasEntry:
    """Return an alias's entry.

    Raises:
        FleetError: FC6020, there is none.
    """
    if alias not in table.aliases:
        known = sorted(table.aliases)
        detail = f"`{alias}` is not in the routing table, which has {len(known)} aliases."
        hint = "Nothing was applied from this folder; `-C DIR` before the command names another."
        if known:
            own = [name for name in known if name.startswith(f"{alias}-")]
            hint = f"Those of `{alias}`: {', '.join(own)}." if own else did_you_mean(alias, known)
        raise FleetError.of("FC6020", "No such alias", detail, hint=hint, command="fleetctl status")
    return table.aliases[alias]


def names_of(entry: AliasEntry) -> tuple[str, ...]:
    """Return the full names of the versions in a route, newest first."""
    return tuple(share.adapter for share in entry.shares)


def newest_serving(entry: AliasEntry) -> int:
    """Return the place, in a route, of the newest version with traffic."""
    return next(place for place, share in enumerate(entry.shares) if share.percent)


def choose_target(
    alias: str,
    entry: AliasEntry,
    to: str | None,
    doubts: FallbackObjection = nothing_known,
    *,
    forward: bool = False,
    lost: Collection[str] = (),
) -> ShareEntry:
    """Return the version to go back to, in this order.

    1. The version `to`. A version as new as the one that answers now, or newer, needs `forward`.
    2. The version that answers now, where the next newer version was rolled back already or a
       rollback was killed half-way.
    3. During a canary, the older version with the rest of the traffic.
    4. The newest older version that has proven itself and that its servers still hold.
    5. The newest older version that has proven itself and that its servers have `lost`.

    A shadow and a version that never proved itself are chosen with `to` alone. `doubts` is called
    only where the choice depends on the ledger.

    Raises:
        FleetError: `to` is not resident or is no way back; no older version is resident, or none
            has proven itself.
    """
    newest = newest_serving(entry)
    now = entry.shares[newest]
    if to is not None:
        return _named(alias, entry, to, forward=forward)
    names = names_of(entry)
    # A second call, by the same or another person, goes no further back: that needs `to`.
    # A rollback that was killed has flipped the route and is not in the ledger.
    if newest > 0 and now.percent == FULL:
        known, before = doubts(names), entry.shares[newest - 1].adapter
        if before in known.held or before in known.served:
            return now
    older = [share for share in entry.shares[newest + 1 :] if share.servers]
    older = [share for share in older if share.percent or share.adapter != entry.shadow]
    stable = [share for share in older if share.percent and share.adapter not in lost]
    if not older:
        raise _no_older(alias, entry, now)
    if len(stable) == 1:
        return stable[0]
    unfit = doubts(names).unfit
    good = [share for share in stable or older if share.adapter not in unfit]
    there = [share for share in good if share.adapter not in lost]
    found = there or [share for share in good if share.percent] or good or stable
    if not found:
        unproven = [share.adapter for share in older]
        against = "; ".join(f"{version_of(name)}: {unfit[name]}" for name in unproven)
        raise FleetError.of(
            "FC6025",
            "No earlier version has proven itself",
            f"What is resident of `{alias}` is nothing to fall back on: {against}. Nothing was "
            "changed.",
            hint="One that is named gets all traffic in spite of that.",
            command=f"fleetctl rollback {alias} --to {version_of(older[0].adapter)}",
        )
    return found[0]


def _no_older(alias: str, entry: AliasEntry, now: ShareEntry) -> FleetError:
    resident = [share.adapter for share in entry.shares if share.servers]
    others = [version_of(adapter) for adapter in resident if adapter != now.adapter]
    newer = f" Newer ones are resident: {', '.join(others)}." if others else ""
    version = version_of(now.adapter)
    detail = f"`{alias}` is answered by {version}, the oldest that is loaded.{newer}"
    hint = "Declare an earlier version and apply: it is loaded and tested first."
    return FleetError.of(
        "FC6022", "No earlier version is resident", detail, hint=hint, command="fleetctl status"
    )


def _named(alias: str, entry: AliasEntry, to: str, *, forward: bool) -> ShareEntry:
    """Return the version `to`; as `choose_target`."""
    newest = newest_serving(entry)
    resident = [share for share in entry.shares if share.servers]
    found = [share for share in resident if to in (version_of(share.adapter), share.adapter)]
    if not found:
        listed = ", ".join(f"{version_of(share.adapter)} ({share.percent} %)" for share in resident)
        detail = f"No server holds `{to}` for `{alias}`. Resident: {listed or 'none'}."
        hint = "Choose one of these, or declare the version and apply: it is loaded first."
        raise FleetError.of("FC6021", "The version is not resident", detail, hint=hint)
    share, now = found[0], entry.shares[newest]
    ahead = share in entry.shares[: newest + 1] or share.adapter == entry.shadow
    if ahead and share.percent < FULL and not forward:
        raise FleetError.of(
            "FC6024",
            "That is not back",
            f"`{alias}` is answered by {version_of(now.adapter)} ({now.percent} %). "
            f"{version_of(share.adapter)} is no older: it would get all traffic at once, without "
            "stage or gate.",
            hint="Released, it begins at its first stage with the next plan. To undo a mistaken "
            "rollback now: --forward and --reason.",
            command=f"fleetctl release {alias}",
        )
    return share


def refuse_rejected(
    alias: str, entry: AliasEntry, target: ShareEntry, doubts: FallbackObjection
) -> None:
    """Refuse the way forward to bytes that a gate failed and no override accepts.

    Raises:
        FleetError: FC6026.
    """
    if entry.shares.index(target) > newest_serving(entry) or target.percent == FULL:
        return
    if why := doubts(names_of(entry)).rejected.get(target.adapter):
        raise FleetError.of(
            "FC6026",
            "A gate rejects that version",
            f"{version_of(target.adapter)} of `{alias}` gets no traffic: {why}. Nothing was "
            "changed.",
            hint="Declare an override in fleet.yaml that accepts its bytes, or lift the "
            "quarantine; then say it again.",
            command=f"fleetctl release {alias}",
        )


def flipped(table: RoutingTable, alias: str, target: ShareEntry) -> RoutingTable:
    """Return the next revision, with all of an alias's traffic on `target`.

    The very same table if nothing differs. The lease's token stays: an emergency must not
    let a run with an older lease write again.
    """
    entry = table.aliases[alias]
    shares = tuple(
        share.model_copy(update={"percent": 100 if share.adapter == target.adapter else 0})
        for share in entry.shares
    )
    return with_shares(table, alias, shares)


def with_shares(table: RoutingTable, alias: str, shares: tuple[ShareEntry, ...]) -> RoutingTable:
    """Return the next revision with these shares, or the very same table if they are there."""
    entry = table.aliases[alias]
    if shares == entry.shares:
        return table
    aliases = {**table.aliases, alias: entry.model_copy(update={"shares": shares})}
    return table.model_copy(update={"revision": table.revision + 1, "aliases": aliases})


def newer_than(entry: AliasEntry, target: ShareEntry) -> tuple[str, ...]:
    """Return the versions that stand before `target`: the newer ones.

    A shadow, which only gets copies of requests, is none of them.
    """
    newer = entry.shares[: names_of(entry).index(target.adapter)]
    return tuple(share.adapter for share in newer if share.percent or share.adapter != entry.shadow)


def addresses(table: RoutingTable, share: ShareEntry) -> list[str]:
    """Return the URLs of the servers that hold a version."""
    return [table.servers[server] for server in share.servers if server in table.servers]
