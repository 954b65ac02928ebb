"""Notices: one document posted to one webhook. A notice that is lost stops nothing."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from fleet.errors import EngineRejectedError, EngineTimedOutError, EngineUnreachableError
from runtime.deadline import call_with_timeout
from runtime.json_client import JsonClient

DELIVER_S = 5.0


async def deliver(url: str, document: Mapping[str, Any], timeout_s: float = DELIVER_S) -> str:
    """Post a document as JSON, once; return why it was not taken, empty when it was.

    Whoever asks waits no longer than a second more than `timeout_s`, nor does the end of the
    program, whatever a resolver of names does: it is asked in a thread that is left behind. The
    reason never holds the URL, which may be a secret.
    """
    work = partial(asyncio.run, _post(url, document, timeout_s))
    try:
        return await asyncio.to_thread(call_with_timeout, work, timeout_s + 1)
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"


async def _post(url: str, document: Mapping[str, Any], timeout_s: float) -> str:
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
