"""Notify clients and operators: find the recipients, send, write down the deliveries.

A notice that is lost stops nothing. Imports neither evaluations nor planning: a rollback notifies
while these cannot be imported.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fleet.errors import problem_of
from fleet.history import Notified
from fleet.names import client_of
from fleet.spec import FleetSpec, NotifyEvent, NotifySpec
from runtime.extensions import load
from runtime.files import plain_text
from runtime.ledger.outbox import LedgerOutbox
from runtime.messages import Audience
from runtime.notify.notice import Notice, NoticeSink
from runtime.notify.webhook import DELIVER_S
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


async def notify(
    workspace: Workspace,
    outbox: LedgerOutbox,
    event: NotifyEvent,
    alias: str,
    to: Iterable[Recipient],
    facts: Mapping[str, Any],
    *,
    key: str | None = None,
    decided: str | None = None,
) -> list[str]:
    """Post an event to recipients; return warnings about notices that were not delivered.

    `facts` are for the notices. `key` names the notification in the ledger; of a rollback the time
    of the decision does, `decided`.
    """
    facts = {"fleet": workspace.fleet().name, **facts}
    posted = await asyncio.gather(*(_post(workspace, event, reader, facts) for reader in to))
    warnings = [line for _, _, problems in posted for line in problems]
    if posted:
        events = [
            Notified(alias, event, name, not detail, detail, key, decided)
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
    package = workspace.fleet().extensions.get("notice_sinks", {}).get(name, "")
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
