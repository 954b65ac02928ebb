"""Candidates: changes to be tried, and the edits that they are made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fleet.declared import Adapter, Base, Fleet, Host
from fleet.pace import alias_of
from fleet.placement.causes import Cause

Change = Callable[[Fleet], Fleet]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One change to be tried."""

    text: str
    edit: str
    path: tuple[str, ...]
    """Dotted path of what is edited, for its place in the files."""
    change: Change | None = None
    """None: made by `what_if`."""
    what_if: tuple[str, ...] = ()
    devices: int = 0
    """Devices that are bought."""
    priced: bool = True
    """False where what it costs is not known."""


Rungs = tuple[Candidate, ...]
"""Ever larger changes of one kind: the first that works is enough."""


def aliases_of(fleet: Fleet, cause: Cause) -> list[Adapter]:
    """Return the declarations of what a cause keeps out, by alias."""
    names = sorted({alias_of(each) for each in cause.adapters})
    return [fleet.adapters[each] for each in names if each in fleet.adapters]


def path_of(adapter: Adapter) -> tuple[str, ...]:
    """Return where an adapter is declared."""
    return ("clients", adapter.name.client, "adapters", adapter.name.task)


def listed(adapters: Sequence[Adapter], shown: int = 3) -> str:
    """Return the aliases, beyond a few only how many more there are."""
    names = ", ".join(each.alias for each in adapters[:shown])
    rest = len(adapters) - shown
    return f"{names} and {rest} more" if rest > 0 else names


def with_adapters(adapters: Sequence[Adapter], **fields: object) -> Change:
    """Return the change that gives adapters these fields."""
    changed = {each.alias: replace(each, **fields) for each in adapters}  # type: ignore[arg-type]
    return lambda fleet: replace(fleet, adapters={**fleet.adapters, **changed})


def with_host(host: Host) -> Change:
    """Return the change that puts a host in the place of the one of its name."""
    return lambda fleet: replace(fleet, hosts={**fleet.hosts, host.name: host})


def with_base(base: Base) -> Change:
    """Return the change that puts a base in the place of the one of its name."""
    return lambda fleet: replace(fleet, bases={**fleet.bases, base.name: base})
