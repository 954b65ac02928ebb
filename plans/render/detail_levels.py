"""Group the rows of a plan that is too large to list change by change."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from fleet.plan import Change, DeviceUse, Impact, Plan
from plans.tables import about, counted, duration, listed
from plans.wording import client_of, interruption, kind_of, servers_of, tally

MANY = 50
"""Upper bound of changes that are listed; more are counted by client and by server."""
FEW = 12
"""Upper bound of rows that stand alone; above, clients with the same cells share a row."""


@dataclass(frozen=True, slots=True)
class ImpactRow:
    """A row of the table of clients: an alias, or all aliases of a client or tier."""

    who: str
    tier: str
    what: str
    share: str
    back: str
    command: str
    """Command for the way back; empty where a row stands for several aliases."""


def impact_rows(plan: Plan) -> list[ImpactRow]:
    """Return the rows by alias; by client or by tier where rows are many."""
    ranked = sorted(
        plan.impacts, key=lambda impact: (not impact.interrupted, -impact.share_moved, impact.alias)
    )
    rows = _alike([_alias_row(impact) for impact in ranked])
    if len(rows) <= MANY:
        return rows
    clients: dict[tuple[str, str], list[Impact]] = defaultdict(list)
    tiers: dict[str, list[Impact]] = defaultdict(list)
    for impact in ranked:
        clients[impact.client, impact.tier].append(impact)
        tiers[impact.tier].append(impact)
    rows = _alike([_group_row(*pair, clients[pair]) for pair in sorted(clients)])
    if len(rows) <= MANY:
        return rows
    return [
        _group_row(
            counted(len({impact.client for impact in tiers[tier]}), "client"), tier, tiers[tier]
        )
        for tier in sorted(tiers)
    ]


def _alias_row(impact: Impact) -> ImpactRow:
    return ImpactRow(
        who=impact.alias,
        tier=impact.tier,
        what=impact.summary,
        share=share_of(impact),
        back=way_back(impact),
        command=impact.back_out if impact.back_out_class != "none" else "",
    )


def _alike(rows: list[ImpactRow]) -> list[ImpactRow]:
    """Return the rows; where rows are many, clients with the same cells share a row."""
    if len(rows) <= FEW:
        return rows
    same: dict[tuple[str, str, str, str], list[ImpactRow]] = defaultdict(list)
    for row in rows:
        same[row.tier, row.what, row.share, row.back].append(row)
    return [
        group[0]
        if len(group) == 1
        else replace(group[0], who=listed((row.who for row in group), 3), command="")
        for group in same.values()
    ]


def commands(plan: Plan) -> list[str]:
    """Return the commands for the way back; with `ALIAS` where several aliases share a command."""
    usual = [i for i in plan.impacts if i.back_out and i.back_out_class != "none"]
    if len(usual) > 1:
        return sorted({impact.back_out.replace(impact.alias, "ALIAS") for impact in usual})
    return [impact.back_out for impact in usual]


def _group_row(who: str, tier: str, impacts: list[Impact]) -> ImpactRow:
    moved = [impact.share_moved for impact in impacts if impact.share_moved]
    stopped = sum(impact.interrupted for impact in impacts)
    classes = Counter(impact.back_out_class for impact in impacts)
    back = [f"{classes[name]} {name}" for name in ("warm", "cold", "none") if classes[name]]
    return ImpactRow(
        who=who,
        tier=tier,
        what="1 alias" if len(impacts) == 1 else f"{len(impacts)} aliases",
        share=(f"up to {max(moved)} % of {len(moved)}" if moved else "none")
        + (f"; {stopped} {interruption(impacts)} meanwhile" if stopped else ""),
        back=", ".join(back),
        command="",
    )


def share_of(impact: Impact) -> str:
    """Return the share of an alias's requests that get another answer, or none."""
    if impact.interrupted:
        verb = interruption([impact])
        if impact.outage_s:
            return f"{verb} for {about(impact.outage_s)}"
        return f"all {verb} meanwhile"
    if not impact.share_moved:
        return "none"
    if impact.peak_rpm is None:
        return f"{impact.share_moved} %"
    return f"{impact.share_moved} % of {impact.peak_rpm:g}/min"


def way_back(impact: Impact) -> str:
    """Return class and seconds of the way back, such as `warm, 3 s`."""
    if impact.back_out_class == "none":
        return (impact.back_out or "none") if impact.share_moved else "-"
    if impact.back_out_s is None:
        return impact.back_out_class
    return f"{impact.back_out_class}, {duration(impact.back_out_s)}"


def by_client(changes: Iterable[Change]) -> list[tuple[str, str]]:
    """Return the counts of changes by client; changes without a client are left out.

    Many clients with the same counts share a row.
    """
    return _counts(((client_of(change), change) for change in changes), "client")


def by_server(changes: Iterable[Change]) -> list[tuple[str, str]]:
    """Return the counts of changes by server, those of adapters on the server among them."""
    moved = (change for change in changes if kind_of(change) != "route")
    return _counts(
        ((server, change) for change in moved for server in servers_of(change)), "server"
    )


def _counts(pairs: Iterable[tuple[str, Change]], noun: str) -> list[tuple[str, str]]:
    changes: dict[str, list[Change]] = defaultdict(list)
    for name, change in pairs:
        changes[name].append(change)
    rows = [(name, tally(changes[name])) for name in sorted(changes) if name]
    if len(rows) <= FEW:
        return rows
    alike: dict[str, list[str]] = defaultdict(list)
    for name, counts in rows:
        alike[counts].append(name)
    ranked = sorted(alike.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    return [
        (names[0], counts)
        if len(names) == 1
        else (f"{counted(len(names), noun)} ({listed(names, 3)})", f"each {counts}")
        for counts, names in ranked
    ]


def untouched(plan: Plan) -> str:
    """Return the number of clients without a change, with names while the names fit a line."""
    names = plan.untouched_clients
    if not names:
        return ""
    shown = f": {', '.join(names)}" if len(names) <= 12 else ""  # noqa: PLR2004 (one line)
    return f"{counted(len(names), 'client')} untouched{shown}"


def capacity_rows(plan: Plan) -> tuple[DeviceUse, ...]:
    """Return the servers that change or whose adapters change."""
    changed = {
        name
        for change in plan.changes
        if kind_of(change) in ("server", "adapter")
        for name in servers_of(change)
    }
    return tuple(
        use
        for use in plan.capacity
        if use.server in changed or len({use.slots_before, use.slots_during, use.slots_after}) > 1
    )


def idle_servers(plan: Plan) -> str:
    """Return the number of servers without a change; empty for none."""
    number = len(plan.capacity) - len(capacity_rows(plan))
    return f"{counted(number, 'server')} unchanged" if number else ""
