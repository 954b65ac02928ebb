"""Checks that no alias serves the bytes of another client, or old bytes as a new version.

Both happen with a wrong folder in `adapter add`. Where they are meant, `same_as` says so.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from fleet.codes import nearest
from fleet.config.checks.references import DeclaredAdapter, adapters_of
from fleet.config.lockfile import Lock
from fleet.config.schema.fleet import Declarations
from fleet.config.validate import Problem
from fleet.names import AdapterName, Version


def equal_bytes(lock: Lock, name: AdapterName, formerly: str | None = None) -> list[AdapterName]:
    """Return the versions in the lock whose bytes a version must not have, sorted.

    Those are earlier versions of its alias, or of its former alias, and versions of other clients.
    Unlike these, another task of its client may have the same bytes.
    """
    pinned = lock.adapters.get(str(name))
    if pinned is None:
        return []
    others = (
        AdapterName.parse(other)
        for other, entry in lock.adapters.items()
        if entry.digest == pinned.digest and other != str(name)
    )
    return sorted(
        other
        for other in others
        if (
            other.version < name.version
            if other.alias in {name.alias, formerly}
            else other.client != name.client
        )
    )


def check_same_bytes(given: Declarations, lock: Lock) -> Iterator[Problem]:
    """Yield versions with the bytes of others that they do not name in `same_as`."""
    by_digest: dict[str, list[str]] = defaultdict(list)
    for full_name, entry in sorted(lock.adapters.items()):
        by_digest[entry.digest].append(full_name)
    declared = {adapter.alias: (adapter, _name(adapter)) for adapter in adapters_of(given)}
    for adapter, name in declared.values():
        pinned = lock.adapters.get(str(name))
        if pinned is None:
            continue
        equal = [other for other in by_digest[pinned.digest] if other != str(name)]
        if adapter.declared.same_as is None:
            others = equal_bytes(lock, name, adapter.declared.formerly) if equal else []
            yield from _unsaid(adapter, name, others, declared)
        elif adapter.declared.same_as not in equal:
            yield _untrue(adapter, name, adapter.declared.same_as, equal, lock)


def _name(adapter: DeclaredAdapter) -> AdapterName:
    version = Version.parse(adapter.declared.version)
    return AdapterName(adapter.client, str(adapter.path[-1]), adapter.declared.base, version)


def _untrue(
    adapter: DeclaredAdapter, name: AdapterName, said: str, equal: Sequence[str], lock: Lock
) -> Problem:
    path, near = (*adapter.path, "same_as"), nearest(said, tuple(equal))
    if said in lock.adapters and said != str(name):
        detail = f"`{said}` has other bytes than `{name}`, so `same_as` says nothing."
        return Problem("FC1266", path, detail, hint=near or "Delete it.", severity="warning")
    fault = (
        f"is `{adapter.alias}` {name.version} itself" if said == str(name) else "is not in the lock"
    )
    hint = (
        f"The same bytes: {', '.join(equal[:4])}."
        if equal
        else "No other version has the same bytes: delete `same_as`."
    )
    return Problem("FC1266", path, f"`{said}` {fault}.", hint=near or hint)


def _unsaid(
    adapter: DeclaredAdapter,
    name: AdapterName,
    others: Sequence[AdapterName],
    declared: Mapping[str, tuple[DeclaredAdapter, AdapterName]],
) -> Iterator[Problem]:
    """Yield the problem of the first other version that matters; of a pair, at one of the two."""
    path, command = (*adapter.path, "version"), f"fleetctl adapter show {name}"
    for other in others:
        hint = f"If that is meant, declare it beside `version`: `same_as: {other}`."
        if other.alias in {name.alias, adapter.declared.formerly}:
            detail = (
                f"`{name}` has the bytes of `{other}`: clients and gates would be told of a new "
                "version that answers as before."
            )
            yield Problem("FC1265", path, detail, hint=hint, command=command)
            return
        detail = (
            f"`{name}` has the bytes of `{other}`: `{name.client}` would be answered by the "
            f"adapter of `{other.client}`."
        )
        wrong = Problem("FC1264", path, detail, hint=hint, command=command)
        if other.alias in declared:
            theirs, now = declared[other.alias]
            if now == other and (theirs.declared.same_as or name.alias < other.alias):
                continue  # said there, or found there
            if now.version < other.version:  # not deployed: theirs may be the mistake
                wrong = replace(wrong, severity="warning")
            also = ("the other client's version at", (*theirs.path, "version"))
            wrong = replace(wrong, also=(also,))
        yield wrong
        return
