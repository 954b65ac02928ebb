"""Captures the text of a request and its answer, where the client's declaration asks for that."""

import asyncio
import secrets
from http import HTTPStatus
from typing import NamedTuple

import msgspec

from fleet.traffic import CapturePolicy
from runtime.gateway.body import RequestBody
from runtime.gateway.responses import STOP, texts_of
from runtime.gateway.sse import EventStream
from runtime.gateway.state import GatewayState
from runtime.usage.captured import CapturedItem
from runtime.usage.row import LIVE, UsageRow


class RequestCapture(NamedTuple):
    """A request whose text is captured once its answer is whole."""

    state: GatewayState
    user: str
    session: str
    stream: EventStream | None

    def finish(self, row: UsageRow, body: bytes, response: bytes | None) -> None:
        """Have request and answer written after this turn of the event loop.

        Only a single whole answer of text, and only while the table being served asks for it.
        """
        captured, route = self.state.captured, self.state.active.routes.routes.get(row.alias)
        policy = route.arms[0].target.policy.capture if route else None
        if captured is None or policy is None or (row.status, row.finish) != (HTTPStatus.OK, STOP):
            return
        if response is None:
            texts = self.stream.result().texts if self.stream else []
        else:
            texts = texts_of(response)
        if len(texts) == 1:
            item = CapturedItem(
                row.time, row.request_id, row.alias, row.version, row.path, self.user,
                self.session, row.output_tokens, msgspec.Raw(body), texts[0],
            )  # fmt: skip
            loop = asyncio.get_running_loop()
            loop.call_soon(captured.write, row.client, item, policy.keep_days)


def begin_capture(
    state: GatewayState,
    policy: CapturePolicy,
    row: UsageRow,
    body: RequestBody,
    session: str,
    stream: EventStream | None,
) -> RequestCapture | None:
    """Return the capture of a client's request; None: the request is not captured."""
    if row.purpose != LIVE or state.captured is None or secrets.randbelow(100) >= policy.percent:
        return None
    if stream is not None:
        stream.output.collects_text = True
    named = (session or body.session or "").encode("utf-8", "surrogateescape")
    return RequestCapture(state, body.user or "", named.decode("utf-8", "replace"), stream)
