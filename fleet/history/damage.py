"""Damage of served copies: what servers may have read, until a fresh path or another boot.

A server keeps the bytes that it read, whatever becomes of the copy. So a version whose copy was
damaged stays unsure on every server that listed the copy then, as long as the server lists that
path in the same boot.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

from fleet.history.apply_events import CopyDamaged
from fleet.history.values import History
from fleet.resources import LoadedAdapter, State

Damage: TypeAlias = Mapping[str, Mapping[str, str]]
"""By path of a copy that was damaged: the boot of every server that may have read it."""

MAY_ANSWER_OTHER_BYTES: Final = (
    "it may answer other bytes: its copy was damaged while the server could read it, and a server "
    "keeps what it read; it is loaded again from a fresh path"
)
"""Reason against an unsure adapter, as part of a sentence."""


def with_damage(damage: Damage, found: Iterable[CopyDamaged]) -> Damage:
    """Return the damage known so far and in further events."""
    known = {path: dict(boots) for path, boots in damage.items()}
    for event in found:
        known.setdefault(event.path, {}).update(event.boots)
    return known


def marked_unsure(live: State, damage: Damage) -> State:
    """Return the live state with every adapter marked that may answer other bytes.

    A boot that is not known may be that of the damage.
    """

    def is_unsure(adapter: LoadedAdapter) -> bool:
        boots = damage.get(adapter.path, {})
        then, now = boots.get(adapter.server), live.boots.get(adapter.server)
        return then is not None and (not then or not now or then == now)

    marked = {
        address: replace(adapter, unsure=True)
        for address, adapter in live.adapters().items()
        if is_unsure(adapter)
    }
    return replace(live, resources={**live.resources, **marked}) if marked else live


def found_damage(
    faults: Mapping[str, str], history: History, live: State
) -> tuple[CopyDamaged, ...]:
    """Return the events of damage that the ledger does not know yet, sorted by path.

    Args:
        faults: By path as servers list it: what is wrong with the copy.
        history: The ledger, folded.
        live: The observed state. A server that does not answer may have read the copy, too.
    """
    events = []
    for path, fault in sorted(faults.items()):
        users = [adapter for adapter in live.adapters().values() if adapter.path == path]
        digest = next((adapter.digest for adapter in users if adapter.digest), "")
        boots = {adapter.server: live.boots.get(adapter.server, "") for adapter in users}
        boots |= {
            held.server: history.boots.get(held.server, "")
            for held in history.established.values()
            if isinstance(held, LoadedAdapter) and held.digest == digest
            if held.server in live.unknown_servers
        }
        if boots.items() - history.damage.get(path, {}).items():
            events.append(CopyDamaged(digest, path, fault, dict(sorted(boots.items()))))
    return tuple(events)
