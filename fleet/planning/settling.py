"""Tell from the live state how unfinished work ended, and which changes of others are declared."""

from collections.abc import Iterable

from fleet.codec import operation_result, plain
from fleet.history import Adopted, History, LedgerEvent, Noted, StepFinished, settled
from fleet.names import Address
from fleet.plan import Change, PlanNote
from fleet.resources import Key, Route, State
from fleet.rollouts import is_diverted, may_be_rollback


def recovered(history: History, live: State) -> list[tuple[str, str, LedgerEvent]]:
    """Return the unfinished steps that can be decided: id, how each ended, and its event.

    `done`: the effect is there, so the step counts as finished. `undone`: the effect is not there,
    so the step never happened, and the plan brings it again if it is still wanted.
    """
    undecided = settled(history, live).unfinished
    found: list[tuple[str, str, LedgerEvent]] = []
    for step, begun in history.unfinished.items():
        if step in undecided:
            continue
        changes, after = operation_result(begun.operation)
        if changes and live.resources.get(begun.address) == after:
            server = begun.address.removeprefix("server/")
            boot = live.boots.get(server, "") if after is not None else ""
            found.append((step, "done", StepFinished(step, begun.address, "recovered", boot)))
        else:
            text = "begun by an earlier run, without effect"
            found.append((step, "undone", Noted(text, step)))
    return found


def forgotten(history: History, live: State) -> tuple[Address, ...]:
    """Return the addresses once established that are not live, where planning again finds nothing.

    No plan asks for these resources any more.
    """
    return tuple(sorted(filter(live.knows, history.established.keys() - live.resources.keys())))


def changed_by_others(
    changes: Iterable[Change], held: Iterable[PlanNote], history: History, live: State
) -> tuple[Adopted, ...]:
    """Return the routes and keys that others made as they are declared now, to be written down.

    `changes` and `held` are those of the whole plan of the live state: a part that is changed or
    held back is not as declared.
    """
    left = {change.address for change in changes} | {note.subject for note in held}
    found = []
    for address, now in live.resources.items():
        before = history.established.get(address)
        if before is None or before == now or not isinstance(now, Route | Key) or address in left:
            continue
        if isinstance(now, Route) and isinstance(before, Route):
            undone = may_be_rollback(before, now, history) or is_diverted(before, now)
            if undone or now.alias in left:
                continue
        found.append(Adopted(address, plain(now), ""))
    return tuple(found)
