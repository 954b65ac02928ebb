"""Quarantine: bytes that a gate has failed stay out until a person says otherwise."""

from collections.abc import Iterable
from datetime import UTC, datetime

from fleet.conditions import Override
from fleet.gates import Verdict
from fleet.history.past import History
from fleet.history.trials import Evidence


def kept_out(history: History, alias: str) -> frozenset[str]:
    """Return the versions that stay out until released: rolled back, failed by a gate, aborted."""
    failed = {each.adapter for each in history.rejected.get(alias, {}).values()}
    aborted = {each.adapter for each in history.marks.get(alias, ()) if each.mark == "abort"}
    return frozenset({*history.holds.get(alias, {}), *failed, *aborted})


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
