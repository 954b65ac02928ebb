"""Checks that no alias serves the bytes of another client, or old bytes as a new version.

Both happen with a wrong folder in `adapter add`. Where they are meant, `same_as` says so when a
version is new; `adapter add` records that in the lock, and the record holds however other clients
go on.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Final

from fleet.codes import nearest
from fleet.config.checks import ProjectFacts
from fleet.config.checks.references import DeclaredAdapter, adapters_of
from fleet.config.files.lockfile import Lock
from fleet.config.files.validate import Problem
from fleet.config.schema.fleet import Declarations
from fleet.names import AdapterName, Version
from fleet.policies import SignatureState, SigningSpec
from fleet.spec import AdapterSpec, FleetSpec


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


_CODES: Final[Mapping[SignatureState, tuple[str, str]]] = {
    SignatureState.UNSIGNED: (
        "FC1293",
        "Sign it, put the signature beside its files as `model.sig`, and add it again.",
    ),
    SignatureState.UNKNOWN_KEY: (
        "FC1294",
        "If the key is yours, declare it under `signatures` and add the version again.",
    ),
    SignatureState.CHANGED: (
        "FC1295",
        "Bring the files that were signed; add what you changed as a version of its own, signed.",
    ),
    SignatureState.EXPIRED: (
        "FC1299",
        "Sign it with a key that counts, and add it again, or give the key a later day.",
    ),
}
"""Code and hint of the states that are warned of."""


def check_signing_keys(given: Declarations, facts: ProjectFacts) -> Iterator[Problem]:
    """Yield keys that cannot be used, and rules that ask for signatures where no key is."""
    for name, key in given.signatures.items():
        if facts.signing_keys.get(key.file, "not asked") is None:
            detail = f"`{key.file}` holds no public key of an elliptic curve in PEM."
            hint = "Write it there: openssl ec -in PRIVATE.pem -pubout -out PUBLIC.pem."
            yield Problem("FC1292", ("signatures", name, "file"), detail, hint=hint)
    for name, rule in given.plan_rules.items():
        if rule.signed and not given.signatures:
            detail = f"`{name}` asks for signed versions, and no key is declared: none can count."
            hint = "Declare one: `signatures: {release: {file: keys/release.pem}}`."
            yield Problem("FC1292", ("plan_rules", name, "signed"), detail, hint=hint)


def signature_fault(version: str, signing: SigningSpec, today: date) -> str:
    """Return why the signature of a version does not count; empty: it does."""
    signature = signing.versions.get(version)
    key = signing.key(signature.key) if signature else None
    name, until = (f"`{key.name}`", key.until) if key else ("", None)
    match signing.state(version, today):
        case SignatureState.VERIFIED:
            return ""
        case SignatureState.UNSIGNED:
            return f"`{version}` is not signed"
        case SignatureState.UNKNOWN_KEY:
            return f"no key of `signatures` made the signature of `{version}`"
        case SignatureState.CHANGED:
            return f"`{version}` has other bytes than {name} signed"
        case SignatureState.EXPIRED:
            return f"`{version}` is signed by {name}, whose last day was {until}"


def signature_problem(version: str, signing: SigningSpec, today: date) -> Problem | None:
    """Return the warning of a version whose signature does not count."""
    state = signing.state(version, today)
    if state is SignatureState.VERIFIED:
        return None
    code, hint = _CODES[state]
    fault = signature_fault(version, signing, today)
    detail = f"{fault[0].upper()}{fault[1:]}."
    return Problem(code, (), detail, hint=hint, severity="warning")


def lint_signatures(fleet: FleetSpec, today: date) -> Iterator[Problem]:
    """Yield declared versions whose signature does not count, a warning for every state.

    Of the tiers that a rule asks for; of all where keys are declared and no rule asks.
    """
    rules = [rule for rule in fleet.plan_rules if rule.signed]
    excepted = [its for rule in rules for its in rule.exceptions if today <= its.until]
    tiers = {rule.signed for rule in rules} or ({*fleet.tiers} if fleet.signing.keys else set())
    found: dict[SignatureState, list[AdapterSpec]] = defaultdict(list)
    for alias, adapter in fleet.adapters.items():
        if adapter.tier in tiers and not any(
            its.covers(adapter.name.client, alias) for its in excepted
        ):
            found[fleet.signing.state(str(adapter.name), today)].append(adapter)
    for adapters in found.values():
        problem = signature_problem(str(adapters[0].name), fleet.signing, today)
        if problem is None:
            continue
        name, more = adapters[0].name, len(adapters) - 1
        also = f" So it is with {more} more." if more else ""
        path = ("clients", name.client, "adapters", name.task, "version")
        code, detail, hint = problem.code, f"{problem.detail}{also}", problem.hint
        yield Problem(code, path, detail, hint=hint, severity="warning")
