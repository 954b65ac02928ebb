"""Streams that ended before the server told their tokens: their server is asked afterwards.

Nobody waits for it. The row of such a request is written once the answers are there, and after
`PATIENCE_S` without them.
"""

import asyncio
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Final, NamedTuple

import aiohttp
import msgspec

from runtime.gateway.answers import of_reply
from runtime.gateway.endpoints import RESPONSES
from runtime.gateway.tokenized import Tokenized
from runtime.gateway.typed_events import Sent
from runtime.gateway.usage import BY_PIECES, BY_TEXT, Tokens

PATIENCE_S: Final = 2.0
"""For the server to answer, in all; what a gateway that is killed may lose of such rows."""
AT_ONCE: Final = 16
"""Connections that one gateway asks with; the others wait, and give up after `PATIENCE_S` too."""
HELD: Final = 64 * 2**20
"""Bytes of texts and bodies that are kept for asking; streams beyond it are not asked about."""
_END: Final = 4
"""Bytes that it takes to keep where a piece ends."""
_TOKENIZE: Final = "/tokenize"
_TOP: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ONE_TOKEN: Final = {"stream": msgspec.Raw(b"false"), "max_output_tokens": msgspec.Raw(b"1")}
_JSON: Final = {"Content-Type": "application/json"}


class _Count(msgspec.Struct):
    count: int


_COUNT: Final = msgspec.json.Decoder(_Count)


class Stopped(NamedTuple):
    """A stream that has ended in the middle."""

    url: str
    """Of the server."""
    path: str
    version: str
    """As the server calls it."""
    body: bytes
    """What the server was sent; only looked at where it has not told the prompt's tokens."""
    sent: Sent
    prompt_tokens: int | None
    """As the server told at the beginning; None: it did not."""


Counted = Callable[[Tokens, str], None]
"""Takes the tokens, and how those of the answer were counted (`usage.Row.counted`)."""


class Recounts:
    """What one gateway process is asking about streams that have ended."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        """Begin with nothing; `patience_s` is for each stream."""
        self._patience_s = patience_s
        self._http: aiohttp.ClientSession | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._held = 0

    def start(self, stopped: Stopped, counted: Counted) -> bool:
        """Ask in a task of its own, if there is room; then `counted` is called once, later."""
        size = len(stopped.body) + len(stopped.sent.text) + _END * len(stopped.sent.ends)
        if self._held + size > HELD:
            return False
        self._held += size
        task = asyncio.create_task(self._count(stopped, counted))
        self._running.add(task)

        def ended(_: asyncio.Task[None]) -> None:
            self._running.discard(task)
            self._held -= size

        task.add_done_callback(ended)
        return True

    async def close(self) -> None:
        """Return once all is counted."""
        await asyncio.gather(*self._running)
        if self._http is not None:
            await self._http.close()

    async def _count(self, stopped: Stopped, counted: Counted) -> None:
        sent, text, prompt = stopped.sent, None, stopped.prompt_tokens
        try:
            text, prompt = await asyncio.gather(self._text(stopped), self._prompt(stopped))
        except Exception:  # noqa: BLE001 (a defect of ours must not cost the row)
            traceback.print_exc(file=sys.stderr)
        made = sent.pieces if text is None else text + sent.beyond
        is_known = text is not None and not sent.beyond
        try:
            counted(Tokens(prompt, made), BY_TEXT if is_known else BY_PIECES)
        except OSError:  # the log's disk is full: nobody is left to be told
            traceback.print_exc(file=sys.stderr)

    async def _text(self, stopped: Stopped) -> int | None:
        """Return the tokens of what was sent; None: the server does not say."""

        async def said(text: str) -> int | None:
            asked = {"model": stopped.version, "prompt": text, "add_special_tokens": False}
            answer = await self._ask(stopped.url + _TOKENIZE, msgspec.json.encode(asked))
            try:
                return _COUNT.decode(answer).count if answer else None
            except msgspec.DecodeError:
                return None

        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                return await Tokenized(stopped.sent, said).count()
        return None

    async def _prompt(self, stopped: Stopped) -> int | None:
        """Return the prompt's tokens: where no event has them, those of one more token's usage.

        The server has the prompt in its cache. A prompt made of `input`, tools and reasoning is
        what its own code makes of them: nobody else could count it.
        """
        if stopped.prompt_tokens is not None or stopped.path != RESPONSES:
            return stopped.prompt_tokens
        fields: Mapping[str, msgspec.Raw] = _TOP.decode(stopped.body)
        asked = msgspec.json.encode({**fields, **_ONE_TOKEN})
        answer = await self._ask(stopped.url + stopped.path, asked)
        return of_reply(answer, None).tokens.prompt_tokens if answer else None

    async def _ask(self, url: str, body: bytes) -> bytes | None:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                # A connection that was kept may end just as it is used again: that costs a count.
                connector=aiohttp.TCPConnector(limit=AT_ONCE, force_close=True),
                timeout=aiohttp.ClientTimeout(total=self._patience_s),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        try:
            async with self._http.post(
                url, data=body, headers=_JSON, allow_redirects=False
            ) as reply:
                return await reply.read() if reply.status == HTTPStatus.OK else None
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None
