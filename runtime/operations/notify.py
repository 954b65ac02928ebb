"""Notify clients and operators: find the recipients that are due, send, record the deliveries.

A notice that is lost stops nothing. Imports neither evaluations nor planning: a rollback notifies
while these cannot be imported.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fleet.errors import problem_of
from fleet.history import Audience, Entry, Notification, Notified, is_due
from fleet.names import client_of
from fleet.spec import FleetSpec, NotifyEvent, NotifySpec
from runtime.extensions import load
from runtime.files import plain_text
from runtime.ledger.outbox import LedgerOutbox
from runtime.notify.delivery import DELIVER_S, Notice, NoticeSink
from runtime.rollback.rollback import record_or_warn
from runtime.workspace import Workspace

UNSENT: Final = "was not delivered"
"""Part of a warning about a notice that a later round posts again."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """A reader of notices, and the way there."""

    name: str
    """Name in the ledger: `operators`, or `client NAME`; with ` by SINK`, unless by webhook."""
    audience: Audience
    to: NotifySpec
    sink: str = "webhook"


def recipients(fleet: FleetSpec, alias: str, event: NotifyEvent) -> list[Recipient]:
    """Return the recipients of an event: operators first, then the alias's own client."""
    client = fleet.clients.get(client_of(alias))
    readers: list[tuple[str, Audience, NotifySpec | None]] = [
        ("operators", "operators", fleet.notify)
    ]
    if client:
        readers.append((f"client {client.name}", "client", client.notify))
    found = list[Recipient]()
    for name, audience, to in readers:
        if to and event in to.events:
            found += [Recipient(name, audience, to)] if to.webhook else []
            others = (*(["mail"] if to.mail else []), *to.sinks)
            found += [Recipient(f"{name} by {sink}", audience, to, sink) for sink in others]
    return found


async def notify_once(
    workspace: Workspace,
    notifications: Iterable[Notification],
    known: Sequence[Entry] | None = None,
    down: str = "",
) -> list[str]:
    """Notify recipients that have not been notified; return warnings.

    `known`: entries of the ledger that count; None: the ledger is read. `down`: why the ledger's
    home is known to be away; empty: the home is there.
    """
    outbox, fleet = workspace.ledger.outbox(down=down), workspace.project.fleet()
    warnings = list[str]()
    addressed = [
        (event, to)
        for event in notifications
        if (to := recipients(fleet, event.alias, event.event))
    ]
    if known is None:
        known = await asyncio.to_thread(workspace.ledger.open().standing) if addressed else []
    notified = [entry for entry in known if isinstance(entry.event, Notified)]  # few of many
    for event, to in addressed:
        left = [reader for reader in to if is_due(notified, event, reader.name, workspace.now())]
        warnings += await notify(workspace, outbox, event, left)
    return warnings


async def notify(
    workspace: Workspace, outbox: LedgerOutbox, about: Notification, to: Iterable[Recipient]
) -> list[str]:
    """Notify recipients, and record the deliveries; return warnings about those that failed.

    The ledger names the notification by its key; that of a rollback is the time of the decision.
    """
    facts = {"fleet": workspace.project.fleet().name, **about.facts}
    posted = await asyncio.gather(*(_post(workspace, about.event, reader, facts) for reader in to))
    warnings = [line for _, _, problems in posted for line in problems]
    if posted:
        of_rollback = about.event == "rolled_back"
        key, decided = (None, about.key) if of_rollback else (about.key, None)
        events = [
            Notified(about.alias, about.event, name, not detail, detail, key, decided)
            for name, detail, _ in posted
        ]
        warnings += await record_or_warn(outbox, events, "the notices")
    return warnings


async def _post(
    workspace: Workspace, event: NotifyEvent, recipient: Recipient, facts: Mapping[str, Any]
) -> tuple[str, str, list[str]]:
    """Return the recipient's name, the reason why the notice was not delivered, and warnings."""
    name, to, warnings = recipient.name, recipient.to, list[str]()
    try:
        try:
            own = plain_text(workspace.root / to.template) if to.template else ""
            body = workspace.render_notice(event, recipient.audience, facts, own)
        except (OSError, ValueError) as error:
            warnings.append(f"the template `{to.template}` for {name} was not used: {error}")
            body = workspace.render_notice(event, recipient.audience, facts, "")
        detail = await _sent(workspace, recipient, body)
    except Exception as error:  # noqa: BLE001 (the other recipients are notified)
        detail = problem_of(error).diagnostics[0].reason
    if detail:
        warnings.append(f"the notice to {name} {UNSENT}: {detail}")
    return name, detail, warnings


async def _sent(workspace: Workspace, recipient: Recipient, body: Mapping[str, Any]) -> str:
    """Send a notice; return why it was not delivered."""
    to, name = recipient.to, recipient.sink
    package = workspace.project.fleet().extensions.get("notice_sinks", {}).get(name, "")
    sink: NoticeSink = load("notice_sinks", name, package)
    notice = Notice(body, to, workspace.root, to.sinks.get(name, ""))
    if not package:
        return await sink(notice)
    try:
        async with asyncio.timeout(DELIVER_S):
            return str(await sink(notice))
    except TimeoutError:
        return f"no answer within {DELIVER_S:g} s"
    except Exception as error:  # noqa: BLE001 (its words may hold a secret, its kind does not)
        return f"`{name}` of package `{package}` failed with {type(error).__name__}"
