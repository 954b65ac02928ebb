"""Notify clients and operators: find the recipients, post to webhooks, write down the deliveries.

A notice that is lost stops nothing. Imports neither evaluations nor planning: a rollback notifies
while these cannot be imported.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from fleet.errors import EngineRejectedError, EngineTimedOutError, EngineUnreachableError
from fleet.history import Notified
from fleet.names import client_of
from fleet.spec import FleetSpec, NotifyEvent, NotifySpec
from runtime.deadline import call_with_timeout
from runtime.files import plain_text
from runtime.json_client import JsonClient
from runtime.ledger.outbox import LedgerOutbox
from runtime.messages import Audience
from runtime.rollback.rollback import record_or_warn
from runtime.secrets import read_secret
from runtime.trust import UntrustedError, peer_of, require_bound, require_contact
from runtime.workspace import Workspace

DELIVER_S: Final = 5.0
"""Upper bound of the time for posting a notice. Seconds."""
UNSENT: Final = "was not delivered"
"""Part of a warning about a notice that a later round posts again."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """A reader of notices, and the webhook."""

    name: str
    """Name in the ledger: `operators`, or `client NAME`."""
    audience: Audience
    to: NotifySpec


def recipients(fleet: FleetSpec, alias: str, event: NotifyEvent) -> list[Recipient]:
    """Return the recipients of an event: operators first, then the alias's own client."""
    client = fleet.clients.get(client_of(alias))
    found: list[Recipient] = []
    if fleet.notify and event in fleet.notify.events:
        found.append(Recipient("operators", "operators", fleet.notify))
    if client and client.notify and event in client.notify.events:
        found.append(Recipient(f"client {client.name}", "client", client.notify))
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
        own = plain_text(workspace.root / to.template) if to.template else ""
        body = workspace.render_notice(event, recipient.audience, facts, own)
    except (OSError, ValueError) as error:
        warnings.append(f"the template `{to.template}` for {name} was not used: {error}")
        body = workspace.render_notice(event, recipient.audience, facts, "")
    is_secret = "://" not in to.webhook
    url = read_secret(workspace.root, to.webhook) if is_secret else to.webhook
    reference = to.webhook if is_secret else ""
    detail = f"`{to.webhook}` is not readable here"
    if url:
        detail = await deliver(url, body, reference=reference)
    if detail:
        warnings.append(f"the notice to {name} {UNSENT}: {detail}")
    return name, detail, warnings


async def deliver(
    url: str, document: Mapping[str, Any], timeout_s: float = DELIVER_S, reference: str = ""
) -> str:
    """Post a document as JSON, once; return why the document was not taken; empty: it was taken.

    `reference`: of the URL, where the URL is a secret; empty: the URL stands in the declarations.

    The caller waits at most a second more than `timeout_s`, and so does the end of the program:
    a resolver of names that hangs does so in a thread that is left behind. The reason never holds
    the URL, which may be a secret, but for its host.
    """
    try:
        peer_of(url)
        if reference:
            require_bound(url, reference)
        else:
            require_contact(url)
    except ValueError:
        return "its URL is none"
    except UntrustedError as error:
        return error.diagnostics[0].detail.rstrip(".")
    work = partial(asyncio.run, _send(url, document, timeout_s))
    try:
        return await asyncio.to_thread(call_with_timeout, work, timeout_s + 1)
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"


async def _send(url: str, document: Mapping[str, Any], timeout_s: float) -> str:
    try:
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        async with JsonClient(f"{parts.scheme}://{parts.netloc}", timeout_s=timeout_s) as client:
            await client.post(path, dict(document))
    except EngineTimedOutError:
        return f"no answer within {timeout_s:g} s"
    except EngineUnreachableError:
        return "no connection"
    except EngineRejectedError as error:
        return f"refused with status {error.status}"
    except ValueError:
        return "its URL is none"
    return ""
