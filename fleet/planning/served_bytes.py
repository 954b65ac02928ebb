"""Keep the bytes of a version under its name: other bytes are another version.

What a version has served with is known from the ledger, else from the copies that servers list.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from fleet.codes import diagnostic
from fleet.errors import Diagnostic
from fleet.history import History
from fleet.names import AdapterName
from fleet.resources import LoadedAdapter, Resource, State
from fleet.spec import FleetSpec


@dataclass(frozen=True, slots=True)
class KnownBytes:
    """The bytes under the name of a version."""

    digests: AbstractSet[str]
    witness: str
    """Subject and verb of a sentence, such as `the ledger has`."""


def known_bytes(history: History, live: State) -> dict[str, KnownBytes]:
    """Return the bytes with which versions are loaded or have served, by full name.

    The ledger comes first: what servers list beside it may have been loaded by hand.
    """
    listed = _loaded(live.resources.values())
    recorded = _loaded(history.established.values())
    for name, digest in history.served.items():
        recorded[name].add(digest)
    return {
        **{name: KnownBytes(digests, "a server lists") for name, digests in listed.items()},
        **{name: KnownBytes(digests, "the ledger has") for name, digests in recorded.items()},
    }


def _loaded(resources: Iterable[Resource]) -> defaultdict[str, set[str]]:
    found = defaultdict[str, set[str]](set)
    for loaded in resources:
        if isinstance(loaded, LoadedAdapter) and loaded.digest:
            found[loaded.adapter].add(loaded.digest)
    return found


def with_served_bytes(
    fleet: FleetSpec, history: History, live: State
) -> tuple[FleetSpec, Mapping[str, Diagnostic]]:
    """Return a fleet in which versions keep their bytes, and the problems by version."""
    known = known_bytes(history, live)
    changed = {
        name: known[name]
        for name in sorted({*_named(fleet, live)} & known.keys() & fleet.versions.keys())
        if fleet.versions[name].digest not in known[name].digests
    }
    problems = {
        name: changed_bytes(
            fleet, name, fleet.versions[name].digest, f"{was.witness} {min(was.digests)[:12]}"
        )
        for name, was in changed.items()
    }
    before = {
        name: replace(fleet.versions[name], digest=min(was.digests))
        for name, was in changed.items()
    }
    return replace(fleet, versions={**fleet.versions, **before}), problems


def _named(fleet: FleetSpec, live: State) -> Iterator[str]:
    """Yield the versions that are declared, or stand on the route of a declared alias.

    Without clients that are set aside, which keep the bytes that are live.
    """
    adapters = {
        alias: str(adapter.name)
        for alias, adapter in fleet.adapters.items()
        if adapter.name.client not in fleet.set_aside
    }
    yield from adapters.values()
    for alias, route in live.routes().items():
        if alias in adapters:
            yield from (share.adapter for share in route.shares)


def changed_bytes(fleet: FleetSpec, full_name: str, pinned: str, known: str) -> Diagnostic:
    """Return the problem of a version with other bytes; `known`: who knows which, as a clause."""
    name = AdapterName.parse(full_name)
    place = fleet.declared_at("clients", name.client, "adapters", name.task, "version")
    version = replace(name.version, patch=name.version.patch + 1)
    detail = (
        f"fleet.lock pins `{name}` to digest {pinned[:12]}, and {known}. The bytes of a version "
        "never change under its name: the old bytes would be no way back any more, and what gates "
        "found out about them would count for others."
    )
    hint = (
        "Take back its line in fleet.lock and its folder in the library. The new bytes are a "
        "version of their own:"
    )
    command = f"fleetctl adapter add PATH --as {replace(name, version=version)}"
    made = diagnostic("FC1281", detail, place, hint=hint, command=command)
    return replace(made, subjects=(name.client,))
