"""Recovery: what an earlier run began and nobody knows the end of, decided by what is live."""

from fleet.history import History, settled
from fleet.recall import target
from fleet.resources import State
from runtime.execute.journal import Record


def recovered(history: History, live: State) -> list[tuple[str, str, Record]]:
    """Return the unfinished steps that can be decided: id, how each ended, and its record.

    `done`: its effect is there, so it counts as finished. `undone`: it is not, so it never
    happened, and the plan brings it again if it is still wanted.
    """
    open_still = settled(history, live).unfinished
    found: list[tuple[str, str, Record]] = []
    for step, each in history.unfinished.items():
        if step in open_still:
            continue
        changes, after = target(each.operation)
        if changes and live.resources.get(each.address) == after:
            server = each.address.removeprefix("server/")
            boot = live.boots.get(server, "") if after is not None else ""
            data = {"step": step, "address": each.address, "how": "recovered", "boot": boot}
            found.append((step, "done", ("step_finished", data)))
        else:
            text = "begun by an earlier run, without effect"
            found.append((step, "undone", ("note", {"step": step, "text": text})))
    return found
