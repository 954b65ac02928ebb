"""Notices of a project: who is told what, posted, and written down so that it is told once."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fleet.names import client_of
from fleetctl.session import Session

if TYPE_CHECKING:
    from fleet.history import Entry
    from fleet.maintenance import Notification
    from fleet.resources import State
    from fleet.spec import FleetSpec, NotifyEvent, NotifySpec
    from plans.reports.notifications import Audience
    from runtime.ledger.outbox import LedgerOutbox

UNSENT = "was not delivered"
Reader = tuple[str, "Audience", "NotifySpec"]
"""Name in the ledger, kind, and where."""


def readers(fleet: "FleetSpec", alias: str, event: "NotifyEvent") -> list[Reader]:
    """Return who is told of an event: operators first, then the alias's own client."""
    client = fleet.clients.get(client_of(alias))
    found: list[Reader] = []
    if fleet.notify and event in fleet.notify.events:
        found.append(("operators", "operators", fleet.notify))
    if client and client.notify and event in client.notify.events:
        found.append((f"client {client.name}", "client", client.notify))
    return found


async def tell(
    session: Session,
    scribe: "LedgerOutbox",
    event: "NotifyEvent",
    alias: str,
    to: Iterable[Reader],
    facts: Mapping[str, Any],
    about: Mapping[str, Any],
) -> list[str]:
    """Post one event to its readers; return a warning for each notice that was not delivered.

    Args:
        session: The project.
        scribe: Writes down what became of it.
        event: What happened.
        alias: Whose.
        to: From `readers`.
        facts: For the notices.
        about: More for the ledger's entries.
    """
    from runtime.rollback.rollback import record_or_warn  # noqa: PLC0415 (keeps `--help` fast)

    whole = {"fleet": session.fleet().name, **facts}
    told = await asyncio.gather(*(_post(session, event, *each, whole) for each in to))
    warnings = [line for _, problems in told for line in problems]
    if told:
        entries = [{"alias": alias, "event": event, **about, **record} for record, _ in told]
        warnings += await record_or_warn(scribe, "notified", entries, "the notices")
    return warnings


async def tell_occasions(
    session: Session,
    found: "Iterable[Notification]",
    known: "Sequence[Entry] | None" = None,
    down: str = "",
) -> list[str]:
    """Tell each occasion to whom has not been told of it; return warnings.

    Args:
        session: The project.
        found: What there is to tell.
        known: What is known of the ledger; None: it is read.
        down: Why its home is known to be away; empty: it is not.
    """
    from fleet.maintenance import is_due  # noqa: PLC0415 (keeps `--help` fast)

    scribe, fleet, warnings = session.scribe(down=down), session.fleet(), []
    open_ = [(each, readers(fleet, each.alias, each.event)) for each in found]
    open_ = [(each, to) for each, to in open_ if to]
    if known is None:
        known = await asyncio.to_thread(session.ledger().read) if open_ else []
    told = [each for each in known if each.kind == "notified"]  # few of many
    for each, to in open_:
        left = [one for one in to if is_due(told, each, one[0], session.now())]
        about = {"key": each.key}
        warnings += await tell(session, scribe, each.event, each.alias, left, each.facts, about)
    return warnings


def standing(session: Session, live: "State") -> "list[Notification]":
    """Return what lasts: versions that were stopped, rollouts that wait for people, drift, ..."""
    from fleet.evals import DriftStatus, eval_records  # noqa: PLC0415
    from fleet.history import fold_entries, settled  # noqa: PLC0415
    from fleet.maintenance import (  # noqa: PLC0415
        drifted,
        due_retrainings,
        failed_gates,
        overdue_retrainings,
        rollbacks,
        undecided_rollouts,
    )
    from fleet.rollouts import decide_rollouts  # noqa: PLC0415
    from fleetctl.evaluation import standings  # noqa: PLC0415

    fleet, now = session.fleet(), session.now()
    if not fleet.notify and not any(each.notify for each in fleet.clients.values()):
        return []
    entries = session.ledger().read()
    history, past = settled(fold_entries(entries), live), eval_records(entries)
    alarms = standings(past, live, {DriftStatus.SERVING, DriftStatus.RETRAIN, DriftStatus.WATCH})
    return [
        *rollbacks(entries, now),
        *failed_gates(fleet, history, now),
        *undecided_rollouts(decide_rollouts(fleet, live, history, now).wanted, history, now),
        *drifted(alarms, past, now),
        *overdue_retrainings(due_retrainings(fleet, entries, past, history.claims, now), now),
    ]


async def _post(
    session: Session,
    event: "NotifyEvent",
    name: str,
    who: "Audience",
    to: "NotifySpec",
    facts: Mapping[str, Any],
) -> tuple[dict[str, Any], list[str]]:
    """Return the ledger's record of one notice, and warnings."""
    from plans.reports.notifications import document  # noqa: PLC0415
    from runtime.notify import deliver  # noqa: PLC0415
    from runtime.secrets import read_secret  # noqa: PLC0415 (keeps `--help` fast)

    warnings = []
    try:
        own = (session.root / to.template).read_text(encoding="utf-8") if to.template else ""
        body = document(event, who, facts, own)
    except (OSError, ValueError) as error:
        warnings.append(f"the template `{to.template}` for {name} was not used: {error}")
        body = document(event, who, facts)
    url = to.webhook if "://" in to.webhook else read_secret(session.root, to.webhook)
    detail = await deliver(url, body) if url else f"`{to.webhook}` is not readable here"
    if detail:
        warnings.append(f"the notice to {name} {UNSENT}: {detail}")
    return {"to": name, "delivered": not detail, "detail": detail}, warnings
