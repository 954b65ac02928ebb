"""Send a notice as a mail. Beyond this machine only over TLS, and only to a trusted host."""

import asyncio
import smtplib
import ssl
from email.message import EmailMessage
from functools import partial

from fleet.spec import MailSpec
from runtime.deadline import call_with_timeout
from runtime.notify.webhook import DELIVER_S, Notice
from runtime.secrets import read_secret
from runtime.trust import UntrustedError, is_own, require_bound, require_contact

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
    work = partial(_send, to, text, login, timeout_s)
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


def _send(to: MailSpec, text: str, login: str, timeout_s: float) -> None:
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
