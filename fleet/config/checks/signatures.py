"""Checks the keys that sign versions; warns of versions whose signature does not count."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Final

from fleet.config.checks import ProjectFacts
from fleet.config.schema.fleet import Declarations
from fleet.config.validate import Problem
from fleet.policies import SignatureState, SigningSpec
from fleet.spec import AdapterSpec, FleetSpec

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
