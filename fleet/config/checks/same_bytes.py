"""Checks that no alias serves the bytes of another client, or old bytes as a new version.

Both happen with a wrong folder in `adapter add`. Where they are meant, `same_as` says so when a
version is new; `adapter add` records that in the lock, and the record holds however other clients
go on.
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


def declared_same_bytes(given: Declarations) -> dict[str, str]:
    """Return the declared `same_as` of versions, by full name."""
    return {
        str(_name(adapter)): adapter.declared.same_as
        for adapter in adapters_of(given)
        if adapter.declared.same_as
    }


def check_same_bytes(given: Declarations, lock: Lock) -> Iterator[Problem]:
    """Yield versions with the bytes of others that neither `same_as` nor the lock names."""
    by_digest: dict[str, list[str]] = defaultdict(list)
    for full_name, entry in sorted(lock.adapters.items()):
        by_digest[entry.digest].append(full_name)
    declared = {adapter.alias: (adapter, _name(adapter)) for adapter in adapters_of(given)}
    recorded = lock.with_same_bytes(declared_same_bytes(given))
    agreed = {name: entry.same_as for name, entry in recorded.adapters.items() if entry.same_as}
    for adapter, name in declared.values():
        pinned = lock.adapters.get(str(name))
        if pinned is None:
            continue
        said = adapter.declared.same_as
        equal = [other for other in by_digest[pinned.digest] if other != str(name)]
        if said and said != agreed.get(str(name)) and said not in equal:
            yield _untrue(adapter, name, said, equal, lock)
        if equal and str(name) not in agreed:
            others = equal_bytes(lock, name, adapter.declared.formerly)
            yield from _unsaid(adapter, name, others, declared, agreed)


def _first(name: str, agreed: Mapping[str, str]) -> str:
    """Return the version that a version's bytes were agreed to be those of, after all steps."""
    passed: list[str] = []
    while name in agreed and name not in passed:
        passed.append(name)
        name = agreed[name]
    return min(passed[passed.index(name) :]) if name in passed else name


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
    if equal or said == str(name):
        hint = f"The same bytes: {', '.join(equal[:4])}." if equal else "Delete it."
        return Problem("FC1266", path, f"`{said}` {fault}.", hint=near or hint)
    hint = "No other version has the same bytes any more: delete `same_as`."
    return Problem("FC1266", path, f"`{said}` {fault}.", hint=hint, severity="warning")


def _unsaid(
    adapter: DeclaredAdapter,
    name: AdapterName,
    others: Sequence[AdapterName],
    declared: Mapping[str, tuple[DeclaredAdapter, AdapterName]],
    agreed: Mapping[str, str],
) -> Iterator[Problem]:
    """Yield the problem of the first other version that matters; of a pair, at one of the two."""
    path, command = (*adapter.path, "version"), f"fleetctl adapter show {name}"
    for other in others:
        if _first(str(name), agreed) == _first(str(other), agreed):
            continue  # said at the other version, now or once
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
            if now == other and name.alias < other.alias and str(other) not in agreed:
                continue  # found there
            if now.version < other.version:  # not deployed: theirs may be the mistake
                wrong = replace(wrong, severity="warning")
            also = ("the other client's version at", (*theirs.path, "version"))
            wrong = replace(wrong, also=(also,))
        yield wrong
        return
