"""Quarantine: bytes that a gate or a person took out stay out until a person says otherwise."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from fleet.conditions import Override
from fleet.declared import AdapterFacts
from fleet.gates import Verdict
from fleet.history.past import History, Hold
from fleet.history.trials import Evidence, Mark
from fleet.names import Address, adapter_address
from fleet.resources import LoadedAdapter, Resource, Route


def kept_out(history: History, alias: str) -> frozenset[str]:
    """Return the versions that stay out until released: rolled back, failed by a gate, aborted."""
    failed = {each.adapter for each in history.rejected.get(alias, {}).values()}
    return frozenset({*history.holds.get(alias, {}), *failed, *aborted(history, alias)})


def aborted(history: History, alias: str) -> dict[str, Mark]:
    """Return who ended which version's rollout, by its full name, until it is released."""
    return {each.adapter: each for each in history.marks.get(alias, ()) if each.mark == "abort"}


def ways_back(history: History, alias: str) -> frozenset[str]:
    """Return what an alias's traffic may fall back on: what had all of it, and is not kept out."""
    return history.answered_all - kept_out(history, alias)


def twins(
    history: History, versions: Mapping[str, AdapterFacts], alias: str, adapter: str, digest: str
) -> tuple[Hold | Mark, ...]:
    """Return the holds and aborts of an alias's other versions with the same bytes, oldest first.

    Args:
        history: The ledger, folded.
        versions: Those in the lock, for what the ledger does not say the digest of.
        alias: Whom the version would serve.
        adapter: Its full name.
        digest: Of its bytes; empty, nothing is known to be the same.
    """

    def same(each: Hold | Mark) -> bool:
        known = versions.get(each.adapter)
        return digest == (each.digest or (known.digest if known else ""))

    out = _taken_out(history, alias) if digest else []
    found = [each for each in out if each.adapter != adapter and same(each)]
    return tuple(sorted(found, key=lambda each: each.at))


def _taken_out(history: History, alias: str) -> list[Hold | Mark]:
    return [*history.holds.get(alias, {}).values(), *aborted(history, alias).values()]


def same_bytes(
    history: History, versions: Mapping[str, AdapterFacts], alias: str, adapter: str
) -> frozenset[str]:
    """Return a version and all that stay out and have its bytes: one goes with the others.

    Empty where neither it nor its bytes are kept out. `versions`: those in the lock.
    """
    out = kept_out(history, alias)
    known = {name: each.digest for name, each in versions.items() if name in {*out, adapter}}
    known |= {each.adapter: digest for digest, each in history.rejected.get(alias, {}).items()}
    known |= {each.adapter: each.digest for each in _taken_out(history, alias) if each.digest}
    its = known.get(adapter)
    same = {each for each in out if each == adapter or (its and known.get(each) == its)}
    return frozenset({*same, adapter}) if same else frozenset()


def loaded_bytes(
    established: Mapping[Address, Resource], route: Resource | None, adapter: str
) -> str:
    """Return the digest of a version as the servers of its route hold it; empty: not known."""
    shares = route.shares if isinstance(route, Route) else ()
    servers = [name for each in shares if each.adapter == adapter for name in each.servers]
    found = [established.get(adapter_address(adapter, each)) for each in servers]
    digests = (each.digest for each in found if isinstance(each, LoadedAdapter) and each.digest)
    return next(digests, "")


def rejection(
    history: History,
    overrides: Iterable[Override],
    alias: str,
    adapter: str,
    digest: str,
    now: datetime,
) -> Evidence | None:
    """Return the evidence that keeps a version out; None: it may serve.

    Args:
        history: The ledger, folded.
        overrides: Those declared, expired ones too.
        alias: Whom the version would serve.
        adapter: Its full name.
        digest: Of its bytes; the same bytes under another name are rejected too.
        now: The time; an override ends with its last day.
    """
    if not history.rejected.get(alias) and alias not in history.evidence:
        return None
    found = [
        each
        for each in history.evidence.get(alias, ())
        if each.finding.verdict is Verdict.FAIL and _same(each, adapter, digest)
    ]
    kept = history.rejected.get(alias, {}).get(digest)
    found += [kept] if kept else []
    open_ones = [
        each
        for each in sorted(found, key=lambda each: each.seq)
        if not accepted(overrides, alias, digest, each.gate, now)
    ]
    return open_ones[0] if open_ones else None


def accepted(
    overrides: Iterable[Override], alias: str, digest: str, gate: str, now: datetime
) -> str:
    """Return who accepts these bytes whatever this gate says, and why; empty: nobody."""
    for each in overrides:
        its = each.alias == alias and bool(digest) and digest.startswith(each.accept)
        if its and now.astimezone(UTC).date() <= each.until and gate in (each.gates or (gate,)):
            return f"accepted by {each.by} until {each.until}: {each.reason}"
    return ""


def _same(evidence: Evidence, adapter: str, digest: str) -> bool:
    judged = evidence.digests.get("adapter")
    return judged == digest if judged and digest else evidence.adapter == adapter
