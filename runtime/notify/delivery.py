"""Delivers a notice: as JSON to a webhook, or as a mail."""

import asyncio
import smtplib
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from fleet.errors import EngineRejectedError, EngineTimedOutError, EngineUnreachableError
from fleet.spec import MailSpec, NotifySpec
from runtime.deadline import call_with_timeout
from runtime.json_client import JsonClient
from runtime.secrets import read_secret
from runtime.trust import UntrustedError, is_own, peer_of, require_bound, require_contact


@dataclass(frozen=True, slots=True)
class Notice:
    """The facts of an event in words, and where they go."""

    body: Mapping[str, Any]
    """The sentence under `text`, beside the facts."""
    receivers: NotifySpec
    """All declared receivers, of which the sink finds its own."""
    root: Path
    """Folder of the project; references of secrets are relative to it."""
    to: str = ""
    """Address that is declared for a sink of an extension."""


NoticeSink = Callable[[Notice], Awaitable[str]]
"""Sends a notice once, in a few seconds; returns why it was not delivered; empty: it was.

The reason is written to the ledger, so it never holds a secret.
"""


DELIVER_S: Final = 5.0
"""Upper bound of the time for sending a notice. Seconds."""


async def post_notice(notice: Notice) -> str:
    """Post a notice to its webhook, whose URL may be a secret."""
    webhook = notice.receivers.webhook
    is_secret = "://" not in webhook
    url = read_secret(notice.root, webhook) if is_secret else webhook
    if not url:
        return f"`{webhook}` is not readable here"
    return await deliver(url, notice.body, reference=webhook if is_secret else "")


async def deliver(
    url: str, document: Any, timeout_s: float = DELIVER_S, reference: str = ""
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


async def _send(url: str, document: Any, timeout_s: float) -> str:
    try:
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        async with JsonClient(f"{parts.scheme}://{parts.netloc}", timeout_s=timeout_s) as client:
            await client.post(path, document)
    except EngineTimedOutError:
        return f"no answer within {timeout_s:g} s"
    except EngineUnreachableError:
        return "no connection"
    except EngineRejectedError as error:
        return f"refused with status {error.status}"
    except ValueError:
        return "its URL is none"
    return ""


_IMPLICIT_TLS = 465


async def mail_notice(notice: Notice) -> str:
    """Send the text of a notice to its receivers by mail."""
    to = notice.receivers.mail
    if to is None:
        return "no mail is declared"
    login = read_secret(notice.root, to.login) if to.login else ""
    if login is None:
        return f"`{to.login}` is not readable here"
    return await send_mail(to, str(notice.body["text"]), login)


async def send_mail(to: MailSpec, text: str, login: str, timeout_s: float = DELIVER_S) -> str:
    """Send a text, once; return why the server did not take it; empty: the server took it.

    `login`: `user:password`; empty: the server asks for none. The reason never holds the login.
    """
    try:
        address = f"https://{to.server}"  # the trust file knows hosts and ports
        if to.login:
            require_bound(address, to.login)
        else:
            require_contact(address)
    except UntrustedError as error:
        return error.diagnostics[0].detail.rstrip(".")
    work = partial(_send_mail, to, text, login, timeout_s)
    try:
        await asyncio.to_thread(call_with_timeout, work, timeout_s + 1)
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except smtplib.SMTPResponseException as error:
        return f"refused with status {error.smtp_code}"
    except smtplib.SMTPException as error:
        return f"refused: {type(error).__name__}"
    except OSError:
        return "no connection"
    return ""


def _send_mail(to: MailSpec, text: str, login: str, timeout_s: float) -> None:
    host, _, port = to.server.rpartition(":")
    message = EmailMessage()
    message["From"], message["To"] = to.sender, ", ".join(to.to)
    message["Subject"] = text.partition("\n")[0]
    message.set_content(text)
    tls = ssl.create_default_context()
    if int(port) == _IMPLICIT_TLS:
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, int(port), timeout=timeout_s, context=tls)
    else:
        server = smtplib.SMTP(host, int(port), timeout=timeout_s)
    with server:
        if not is_own(host) and int(port) != _IMPLICIT_TLS:
            server.starttls(context=tls)
        if login:
            server.login(*login.split(":", 1))
        server.send_message(message)
