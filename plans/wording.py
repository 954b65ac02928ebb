"""Word changes of a plan: symbols, verbs, differences, costs, names of versions."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from fleet.names import AdapterName, kind_of_address
from fleet.plan import Action, Change, Freeze, Impact, Plan
from fleet.resources import Server, client_in, servers_in
from fleet.steps import LoadAdapter, schedule
from plans.tables import counted, iso, listed

SYMBOLS = dict(zip(Action, ("+", "-", "~", "-/+", ">"), strict=True))
UPGRADED = "^"
"""Symbol of the stages of an upgrade."""
KIND_ORDER = ("server", "adapter", "route", "key")
_VERBS = {
    (kind, action): verb
    for kind, verbs in {
        "server": ("start", "stop", "change", "restart", "move"),
        "adapter": ("load", "unload", "reload", "reload", "move"),
        "route": ("create", "delete", "shift", "replace", "rename"),
        "key": ("issue", "revoke", "rotate", "rotate", "rename"),
    }.items()
    for action, verb in zip(Action, verbs, strict=True)
}
_NOTHING = ("", "none")
_HEX = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def frozen_line(freeze: Freeze) -> str:
    """Return a freeze as a line: author, time, reason, consequences."""
    return (
        f"FROZEN by {freeze.by} since {iso(freeze.at)}: {freeze.reason}. Nothing is applied and no "
        "rollout is promoted until `fleetctl thaw`; healing, gates that fail and rollback go on."
    )


def first_lines(plan: Plan) -> tuple[str, ...]:
    """Return the lines before everything else: clients that are set aside, and a freeze."""
    lines = [frozen_line(plan.frozen)] if plan.frozen else []
    if plan.set_aside:
        clients = "; ".join(map(str, plan.set_aside))
        aside = {note.subject for note in plan.set_aside}
        stopped = {impact.client for impact in plan.impacts if impact.interrupted} & aside
        but = f" (a server of {listed(sorted(stopped))} restarts)" if stopped else ""
        lines.insert(0, f"SET ASIDE, and left as it is live{but}: {clients}")
    return tuple(lines)


def frozen_document(freeze: Freeze) -> dict[str, Any]:
    """Return a freeze as a document."""
    return {"by": freeze.by, "at": iso(freeze.at), "reason": freeze.reason}


def interruption(impacts: Iterable[Impact]) -> str:
    """Return the verb of interrupted requests: `wait` where all wait for a reload, else `fail`."""
    return "wait" if all(impact.waits for impact in impacts if impact.interrupted) else "fail"


def kind_of(change: Change) -> str:
    """Return `server`, `adapter`, `route` or `key`."""
    return kind_of_address(change.address)


def verb(change: Change) -> str:
    """Return the verb of a change, such as `load`."""
    return _VERBS[kind_of(change), change.action]


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
    return client_in(change.resources[-1]) if change.resources else ""


def servers_of(change: Change) -> tuple[str, ...]:
    """Return the servers of a change, sorted; none for a key."""
    return tuple(sorted({name for resource in change.resources for name in servers_in(resource)}))


def cost(plan: Plan) -> str:
    """Return the cost of the devices in use, before and after; empty when no price is known."""
    before, after = plan.cost_before, plan.cost_after
    if after is None:
        return "" if before is None else "not known for the whole fleet"
    if before is None:
        return f"{after:.2f} per hour; before: not known, a device in use is not declared"
    if before == after:
        return f"{after:.2f} per hour, unchanged"
    change = f"{before:.2f} -> {after:.2f} per hour ({after - before:+.2f})"
    least = plan.cost_bound
    if least is None or not after:
        return change
    if least >= after:
        return f"{change}, the least possible"
    basis = f" (a bound by {plan.bound_by})" if plan.bound_by else ""
    return f"{change}; no placement costs less than {least:.2f}{basis}"


def short_version(adapter: str) -> str:
    """Return `2.1.0` for a full adapter name, and any other name unchanged."""
    try:
        return str(AdapterName.parse(adapter).version)
    except ValueError:
        return adapter


def critical_path(plan: Plan) -> float:
    """Return the least seconds that the steps take, by estimate."""
    return max((end for _, end in schedule(plan.steps).values()), default=0.0)
