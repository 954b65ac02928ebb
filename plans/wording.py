"""Word changes and amounts: symbols, verbs, counts, sizes, times, money, shares."""

import re
from collections import Counter
from collections.abc import Iterable, Sized
from datetime import datetime

from fleet.names import AdapterName, kind_of_address
from fleet.plan import Action, Change, Plan
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server
from fleet.steps import LoadAdapter

SYMBOLS = {
    Action.CREATE: "+",
    Action.DELETE: "-",
    Action.UPDATE: "~",
    Action.REPLACE: "-/+",
    Action.MOVE: ">",
}
KIND_ORDER = ("server", "adapter", "route", "key")

_VERBS = {
    ("server", Action.CREATE): "start",
    ("server", Action.DELETE): "stop",
    ("server", Action.UPDATE): "change",
    ("server", Action.REPLACE): "restart",
    ("server", Action.MOVE): "move",
    ("adapter", Action.CREATE): "load",
    ("adapter", Action.DELETE): "unload",
    ("adapter", Action.UPDATE): "reload",
    ("adapter", Action.REPLACE): "reload",
    ("adapter", Action.MOVE): "move",
    ("route", Action.CREATE): "create",
    ("route", Action.DELETE): "delete",
    ("route", Action.UPDATE): "shift",
    ("route", Action.REPLACE): "replace",
    ("route", Action.MOVE): "rename",
    ("key", Action.CREATE): "issue",
    ("key", Action.DELETE): "revoke",
    ("key", Action.UPDATE): "rotate",
    ("key", Action.REPLACE): "rotate",
    ("key", Action.MOVE): "rename",
}
_NOTHING = ("", "none")
_HEX = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def kind_of(change: Change) -> str:
    """Return `server`, `adapter`, `route` or `key`."""
    return kind_of_address(change.address)


def verb(change: Change) -> str:
    """Return the verb of a change, such as `load`."""
    return _VERBS[kind_of(change), change.action]


def counted(number: int, noun: str) -> str:
    """Return `1 server`, `2 servers`, `3 routes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def capitalized(text: str) -> str:
    """Return `text` with a capital first letter, otherwise unchanged."""
    return text[:1].upper() + text[1:]


def and_more(found: Sized, shown: int) -> str:
    """Return `and 3 more` for the entries beyond `shown`; empty where `shown` covers all."""
    return f"and {len(found) - shown} more" if len(found) > shown else ""


def listed(words: Iterable[str], limit: int = 12) -> str:
    """Return the words joined by commas; beyond `limit` only how many more there are."""
    every = list(words)
    text = ", ".join(every[:limit])
    return f"{text} {rest}" if (rest := and_more(every, limit)) else text


def tally(changes: Iterable[Change]) -> str:
    """Return the counts of changes: `2 adapters to load, 1 route to shift`."""
    counts = Counter((kind_of(change), verb(change)) for change in changes)
    order = {word: index for index, word in enumerate(dict.fromkeys(_VERBS.values()))}
    ranked = sorted(counts, key=lambda pair: (KIND_ORDER.index(pair[0]), order[pair[1]]))
    return ", ".join(f"{counted(counts[pair], pair[0])} to {pair[1]}" for pair in ranked)


def ordered(changes: Iterable[Change]) -> list[Change]:
    """Return the changes in reading order: servers, adapters, routes, keys; then by address."""
    return sorted(changes, key=lambda change: (KIND_ORDER.index(kind_of(change)), change.address))


def difference(name: str, before: str, after: str) -> str:
    """Return the change of a field: `max_loras: 8 -> 16`, `2.2.0: 10 % (new)`."""
    before, after = _HEX.sub(r"\1…", before), _HEX.sub(r"\1…", after)
    if before in _NOTHING:
        return f"{name}: {after or 'set'} (new)"
    return f"{name}: {before} (gone)" if after in _NOTHING else f"{name}: {before} -> {after}"


def differences(change: Change, plan: Plan) -> list[str]:
    """Return the fields that differ, and the loads after a restart.

    The salt of a route is left out: only gateways read a salt.
    """
    lines = [difference(*detail) for detail in change.details if detail[0] != "salt"]
    if isinstance(change.after, Server) and change.action is Action.REPLACE:
        again = sum(
            isinstance(step.operation, LoadAdapter)
            and step.operation.adapter.server == change.after.name
            for step in plan.steps
        )
        lines.append(f"a restart forgets all adapters; then {counted(again, 'adapter')} to load")
    return lines


def client_of(change: Change) -> str:
    """Return the client of a change; empty for a server or an unmanaged adapter."""
    resource = change.after or change.before
    match resource:
        case Route() | Key():
            return resource.client
        case LoadedAdapter():
            try:
                return AdapterName.parse(resource.adapter).client
            except ValueError:
                return ""
        case Server() | None:
            return ""


def servers_of(change: Change) -> tuple[str, ...]:
    """Return the servers of a change, sorted; none for a key."""
    return tuple(
        sorted({name for resource in (change.before, change.after) for name in _on(resource)})
    )


def _on(resource: Resource | None) -> tuple[str, ...]:
    match resource:
        case Server():
            return (resource.name,)
        case LoadedAdapter():
            return (resource.server,)
        case Route():
            return tuple(name for share in resource.shares for name in share.servers)
        case Key() | None:
            return ()


def size(amount: int | None) -> str:
    """Return bytes in the unit that suits, such as `5.0 GiB`; `?` where unknown."""
    if amount is None:
        return "?"
    value = float(amount)
    for unit in ("B", "KiB", "MiB"):
        if abs(value) < 1024:  # noqa: PLR2004 (binary units)
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def file_size(amount: int | None) -> str:
    """Return bytes in decimal units, as file managers do: `163.0 KB`; `-` where unknown."""
    if amount is None:
        return "-"
    for unit, divisor in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if amount >= divisor:
            return f"{amount / divisor:.1f} {unit}"
    return f"{amount} B"


def percent(part: float, digits: int = 0) -> str:
    """Return a part of 1 as `62 %`, or with more digits as `62.4 %`."""
    return f"{100 * part:.{digits}f} %"


def iso(moment: datetime) -> str:
    """Return a time as ISO 8601 to the second, for documents."""
    return moment.isoformat(timespec="seconds")


def iso_millis(moment: datetime) -> str:
    """Return a time as ISO 8601 to the millisecond, for entries and events."""
    return moment.isoformat(timespec="milliseconds")


def date_time(moment: datetime) -> str:
    """Return a time for people, without its zone: `2031-05-01 12:00:00`."""
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def duration(seconds: float) -> str:
    """Return `3 s`, `1 min 50 s`, `2 h 5 min` or `3 d 4 h`; under a second `under 1 s`."""
    whole = round(seconds)
    if seconds < 1:
        return "under 1 s"
    for above, unit, below, small in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if whole >= above:
            rest = whole % above // below
            return f"{whole // above} {unit}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def about(seconds: float) -> str:
    """Return an estimate of seconds: `about 4 s`, `under 1 s`."""
    return duration(seconds) if seconds < 1 else f"about {duration(seconds)}"


def cost(plan: Plan) -> str:
    """Return the cost of the devices in use, before and after; empty when no price is known."""
    before, after = plan.cost_before, plan.cost_after
    if before is None or after is None:
        return "" if before is after else "not known for the whole fleet"
    if before == after:
        return f"{after:.2f} per hour, unchanged"
    change = f"{before:.2f} -> {after:.2f} per hour ({after - before:+.2f})"
    least = plan.cost_bound
    if least is None or not after:
        return change
    if least >= after:
        return f"{change}, the least possible"
    return f"{change}; no placement costs less than {least:.2f}"


def rate(rpm: float | None) -> str:
    """Return requests per minute, such as `18.9 requests/min`; empty where not declared."""
    return "" if rpm is None else f"{rpm:g} requests/min"


def short_version(adapter: str) -> str:
    """Return `2.1.0` for a full adapter name, and any other name unchanged."""
    try:
        return str(AdapterName.parse(adapter).version)
    except ValueError:
        return adapter


def critical_path(plan: Plan) -> float:
    """Return the least seconds that the steps take, by estimate: lanes and needs respected.

    Steps are taken in the plan's order, which is a valid order of execution.
    """
    ends: dict[str, float] = {}
    lanes: dict[str, float] = {}
    for step in plan.steps:
        start = max([lanes.get(step.lane, 0.0), *(ends.get(need, 0.0) for need in step.needs)])
        ends[step.id] = lanes[step.lane] = start + step.estimate_s
    return max(ends.values(), default=0.0)
