"""A rollback as a project does it: flip, smoke test, ledger, and then notices to people."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from fleetctl.session import Session

if TYPE_CHECKING:
    from datetime import datetime

    from fleet.history import Entry, FallbackCheck
    from fleet.rollout_policy import OverrideSpec
    from runtime.ledger.outbox import LedgerOutbox
    from runtime.rollback.rollback import RollbackResult


CHOICE_S = 0.5
"""How long a flip waits for the ledger where it holds a choice; a rollback takes no second."""
MIRROR_S = 0.3
"""The same for its copy here, where it does not answer."""


async def roll_back(
    session: Session,
    alias: str,
    to: str | None = None,
    *,
    reason: str = "",
    cause: str = "",
    only: str = "",
    forward: bool = False,
    facts: Mapping[str, Any] | None = None,
    smoke: Sequence[str] = (),
    scribe: "LedgerOutbox | None" = None,
    turn: asyncio.Lock | None = None,
) -> "RollbackResult":
    """Roll an alias back; nobody is told, see `tell_of`.

    Args:
        session: Needs nothing but its state folder; declarations and ledger are used if there.
        alias: What clients call.
        to: The version; None: the one before.
        reason: For ledger and notices.
        cause: Who or what decided it, such as `gate errors`; empty: whoever runs this.
        only: Full name of the version that is to stay out; empty: all that are newer.
        forward: Whether `to` may be newer than what answers now.
        facts: More for the ledger's entry.
        smoke: Inputs of the smoke test; empty: those recorded or declared.
        scribe: Writes it down; None: one of its own.
        turn: Held while the table is written, where several aliases go back at once.

    Raises:
        FleetError: no such alias, or no such version is resident; nothing was changed.
    """
    from runtime.gateway.control import LocalGateways  # noqa: PLC0415 (keeps `--help` fast)
    from runtime.rollback.rollback import rollback  # noqa: PLC0415

    gateways = LocalGateways(session.state_dir, envoys=session.envoys())
    scribe = scribe or session.scribe()
    notes: list[str] = []
    try:
        result = await rollback(
            alias,
            to,
            gateways,
            scribe,
            reason=reason,
            only=only,
            forward=forward,
            facts={**(facts or {}), "cause": cause or session.by},
            doubts=lambda names: what_speaks_against(session, scribe, alias, names, notes.append),
            inputs=lambda: known_inputs(session, scribe, alias, smoke, notes.append),
            turn=turn,
        )
    finally:
        await gateways.close()
    return replace(result, warnings=(*notes, *result.warnings))


def what_speaks_against(
    session: Session,
    scribe: "LedgerOutbox",
    alias: str,
    names: tuple[str, ...],
    note: Callable[[str], object] = str,
) -> "FallbackCheck":
    """Return what the ledger says against versions, or where it hangs its copy here.

    Nothing where neither answers: an emergency waits for no ledger. `note` is told by what it
    was chosen where that is not the ledger.
    """
    from fleet.errors import FleetError  # noqa: PLC0415 (keeps `--help` fast)
    from fleet.history import (  # noqa: PLC0415
        FallbackCheck,
        fallback_check,
        fold_entries,
        loaded_digests,
        rejected_by_gates,
    )
    from runtime.deadline import call_with_timeout  # noqa: PLC0415
    from runtime.ledger.outbox import queued  # noqa: PLC0415

    def said(entries: "Iterable[Entry]") -> "FallbackCheck":
        past = fold_entries(entries)
        digests = loaded_digests(past)
        found = fallback_check(past, alias, digests, names)
        by_gates = rejected_by_gates(past, (), alias, digests, names, session.now())
        if by_gates:  # only then do the declarations matter, which may be broken
            overrides = declared_overrides(session)
            by_gates = rejected_by_gates(past, overrides, alias, digests, names, session.now())
        return replace(found, rejected=by_gates)

    def copied() -> "tuple[FallbackCheck, datetime | None]":
        kept, last = session.mirror.about(alias)
        return said([*kept, *queued(session.queue, kept)]), last

    found = scribe.read(None, lambda ledger: said(ledger.read()), CHOICE_S)
    if found is not None:
        return found
    try:
        known, last = call_with_timeout(copied, MIRROR_S)
    except (FleetError, OSError):
        known, last = FallbackCheck(), None
    note(
        "the ledger does not answer: what speaks against earlier versions is known by its copy "
        f"here, as of {last:%Y-%m-%d %H:%M:%S} UTC"
        if last
        else "neither the ledger nor its copy here can be read: what was rolled back or failed "
        "before is not known"
    )
    return known


def declared_overrides(session: Session) -> "tuple[OverrideSpec, ...]":
    """Return the overrides; none where the declarations cannot be read."""
    from fleet.errors import FleetError  # noqa: PLC0415 (keeps `--help` fast)

    try:
        return session.fleet().overrides
    except (FleetError, OSError):
        return ()


def known_inputs(
    session: Session,
    scribe: "LedgerOutbox",
    alias: str,
    given: Sequence[str] = (),
    note: Callable[[str], object] = str,
) -> Sequence[str]:
    """Return inputs for the smoke test: those given, else from the ledger, else as declared.

    `note` is told where the clock here is behind the ledger, which stops no rollback.
    """
    from fleet.errors import FleetError  # noqa: PLC0415 (keeps `--help` fast)
    from runtime.ledger.clock import behind  # noqa: PLC0415
    from runtime.smoke import recorded_inputs  # noqa: PLC0415

    none: list[Entry] = []
    entries = scribe.read(none, lambda ledger: ledger.read())
    late = behind(entries, session.now())
    if late is not None:
        note(f"{late.diagnostics[0].summary}: {late.diagnostics[0].detail}")
    found = tuple(given) or recorded_inputs(entries, alias)
    if found:
        return found
    try:
        return session.fleet().adapters[alias].smoke
    except (FleetError, OSError, KeyError):
        return ()


async def tell_of(
    session: Session,
    result: "RollbackResult",
    cause: str = "",
    scribe: "LedgerOutbox | None" = None,
) -> list[str]:
    """Tell client and operators, where that is declared; whom it does not reach is told later.

    Args:
        session: The project.
        result: What was done.
        cause: Who or what decided it; empty: whoever runs this.
        scribe: Writes down what became of it; None: one of its own.

    Returns:
        A warning for each notice that was not delivered.
    """
    from fleet.errors import FleetError  # noqa: PLC0415 (keeps `--help` fast)
    from fleetctl.telling import UNSENT, readers, tell  # noqa: PLC0415

    try:
        to = readers(await asyncio.to_thread(session.fleet), result.alias, "rolled_back")
    except (FleetError, OSError):
        why = "nobody was notified: the declarations, which say whom, cannot be read"
        return [f"{why}; the next reconcile that can does"]
    facts, about = _facts(result, cause or session.by), {"decided": result.decided}
    told = await tell(
        session, scribe or session.scribe(), "rolled_back", result.alias, to, facts, about
    )
    return [
        f"{each}; reconcile tries again in an hour" if UNSENT in each else each for each in told
    ]


def _facts(result: "RollbackResult", cause: str) -> dict[str, Any]:
    from runtime.rollback.publish import short  # noqa: PLC0415 (keeps `--help` fast)

    before = ", ".join(f"{short(name)} at {share} %" for name, share in result.before if share)
    return {
        **asdict(result),
        "from": ", ".join(short(each) for each in result.held) or before,
        "to": short(result.target),
        "cause": cause,
        "complete": result.complete,
    }
