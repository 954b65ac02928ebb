"""Lists the changes that may have made an alias slower: from the ledger, and from a table of cells.

A change is a value with its scope: the versions or the servers on which an effect can be seen.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from fleet.codec import operation_result
from fleet.history import (
    ApplyFinished,
    Document,
    Entry,
    EvalFinished,
    RolledBack,
    StepFinished,
    StepStarted,
)
from fleet.names import address_parts, alias_parts, server_of_address
from fleet.resources import FULL, Route, Share

_LIMITS = frozenset({"limits", "timeouts", "weight", "queue", "choices"})
"""Parts of paths of settings that decide on waiting and refusal of requests."""


class ChangeKind(StrEnum):
    """The kind of a change."""

    VERSION = "version"
    WEIGHTS = "weights"
    LOAD = "load"
    """More requests of a neighbour, an alias on the same servers."""
    OWN_LOAD = "own load"
    RESTART = "restart"
    MOVE = "move"
    LIMIT = "limit"
    ENGINE = "engine flag"
    """A setting of the base, such as a flag of its servers."""
    EVAL = "evaluation"


@dataclass(frozen=True, slots=True)
class AliasChange:
    """A change in an alias's surroundings, with its scope: none named, the whole alias."""

    kind: ChangeKind
    at: datetime
    subject: str
    """Full name of a version, server, alias, or path of a setting."""
    before: str = ""
    after: str = ""
    by: str = ""
    """Author of the ledger's entry; empty: the change was seen in the traffic."""
    until: datetime | None = None
    """End of a change that ends by itself."""
    versions: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    strength: float = 1.0
    """Weight of the change, 0 to 1: for a load the part of the servers' work that it added."""


class RouteChange(NamedTuple):
    """A route before and after an entry of the ledger."""

    entry: Entry
    alias: str
    before: tuple[Share, ...]
    after: tuple[Share, ...]


def route_changes(entries: Iterable[Entry]) -> Iterator[RouteChange]:
    """Yield the changes of routes by applies and rollbacks, the oldest first."""
    begun, known = dict[str, Document](), dict[str, tuple[Share, ...]]()
    for entry in entries:
        match entry.event:
            case StepStarted(step=step, operation=operation):
                begun[step] = operation
                continue
            case StepFinished(step=step) as event:
                operation = begun.pop(step, event.operation or {})
                if operation.get("verb") != "set_route":
                    continue
                _, route = operation_result(operation)
                if not isinstance(route, Route):
                    continue
                alias, after = route.alias, route.shares
            case RolledBack(alias=alias, to=to):
                after = tuple(
                    Share(share.adapter, FULL * (share.adapter == to), share.servers)
                    for share in known.get(alias, ())
                )
            case _:
                continue
        before, known[alias] = known.get(alias, ()), after
        if before != after:
            yield RouteChange(entry, alias, before, after)


def ledger_changes(
    entries: Iterable[Entry],
    alias: str,
    sections: Mapping[str, str],
    neighbours: Collection[str],
    servers: Collection[str],
    since: datetime,
) -> Iterator[AliasChange]:
    """Yield the changes around an alias since a moment that the ledger tells of, in any order.

    `sections`: the names of its tier and base, by `tiers` and `bases`. `neighbours`: aliases on the
    same `servers`, whose evaluations take time there.
    """
    known = tuple(entries)
    for change in route_changes(known):
        if change.alias == alias and change.entry.time >= since:
            yield from _of_route(change)
    boots, settings = dict[str, str](), dict[str, str | None]()
    for entry in known:
        for found in _of_event(entry, alias, sections, neighbours, servers, boots, settings):
            if found.at >= since or (found.until and found.until >= since):
                yield found


def _of_route(change: RouteChange) -> Iterator[AliasChange]:
    before, entry = {share.adapter: share for share in change.before}, change.entry
    for share in change.after:
        old = before.get(share.adapter)
        had, on = (old.percent, {*old.servers}) if old else (0, set[str]())
        if share.percent > had:
            yield AliasChange(
                ChangeKind.WEIGHTS if had else ChangeKind.VERSION,
                entry.time, share.adapter, f"{had} %", f"{share.percent} %", entry.by,
                versions=(share.adapter,),
            )  # fmt: skip
        elif share.percent and (added := {*share.servers} - on):
            yield AliasChange(
                ChangeKind.MOVE,
                entry.time, share.adapter, ", ".join(sorted(on)), ", ".join(share.servers),
                entry.by, servers=tuple(sorted(added)),
            )  # fmt: skip


def _of_event(
    entry: Entry,
    alias: str,
    sections: Mapping[str, str],
    neighbours: Collection[str],
    servers: Collection[str],
    boots: dict[str, str],
    settings: dict[str, str | None],
) -> Iterator[AliasChange]:
    """Yield the changes of an entry; note the last boots and settings."""
    match entry.event:
        case StepFinished(address=address):
            kind, server = address_parts(address)
            if kind == "server" and server in servers:
                yield _on_server(ChangeKind.RESTART, entry, server, server)
            elif (server := server_of_address(address)) in servers and kind == "adapter":
                yield _on_server(ChangeKind.MOVE, entry, address_parts(address)[1], server)
        case ApplyFinished() as event:
            for server, boot in event.boots.items():
                if server in servers and boots.setdefault(server, boot) != boot:
                    yield _on_server(ChangeKind.RESTART, entry, server, server)
            boots.update(event.boots)
            for change in _of_settings(entry, event.settings or {}, settings, alias, sections):
                is_engine = change.kind is ChangeKind.ENGINE
                yield replace(change, servers=tuple(sorted(servers))) if is_engine else change
        case EvalFinished(alias=evaluated) as event if evaluated in {alias, *neighbours}:
            begun = entry.time - timedelta(seconds=float(event.summary.get("seconds") or 0))
            texts = event.adapter, "", event.purpose
            yield AliasChange(ChangeKind.EVAL, begun, *texts, entry.by, until=entry.time)
        case _:
            pass


def _of_settings(
    entry: Entry,
    recorded: Mapping[str, str | None],
    before: dict[str, str | None],
    alias: str,
    sections: Mapping[str, str],
) -> Iterator[AliasChange]:
    for path, after in recorded.items():
        if kind := _kind_of(path, alias, sections):
            texts = path, before.get(path) or "the default", after or "the default"
            yield AliasChange(kind, entry.time, *texts, entry.by)
    before.update(recorded)


def _on_server(kind: ChangeKind, entry: Entry, subject: str, server: str) -> AliasChange:
    return AliasChange(kind, entry.time, subject, by=entry.by, servers=(server,))


def _kind_of(path: str, alias: str, sections: Mapping[str, str]) -> ChangeKind | None:
    """Return the kind of a setting that concerns the requests of an alias; None: it does not."""
    if path.startswith(f"bases.{sections['bases']}."):
        return ChangeKind.ENGINE
    client, task = alias_parts(alias)
    parts = path.split(".")
    of_another_task = parts[2:3] == ["adapters"] and parts[3:4] != [task]
    of_its_own = parts[:2] in (["clients", client], ["tiers", sections["tiers"]])
    limits = of_its_own and not of_another_task and not _LIMITS.isdisjoint(parts)
    return ChangeKind.LIMIT if limits else None
