"""Streams that ended before the server told their tokens: servers are asked afterwards.

Nobody waits for it. The row of such a request is written once the answers are there, and after
`PATIENCE_S` without them; until then it waits in a file (`unsettled`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple, TypeVar

import aiohttp
import msgspec

from runtime.gateway.answers import of_reply
from runtime.gateway.defects import tell_of
from runtime.gateway.endpoints import RESPONSES
from runtime.gateway.refusals import RefusalError
from runtime.gateway.tokenized import Tokenized
from runtime.gateway.typed_events import Sent
from runtime.gateway.unsettled import Unsettled
from runtime.gateway.usage import BY_PIECES, BY_TEXT, Tokens

PATIENCE_S: Final = 30.0
"""For servers to answer, in all."""
ANSWER_S: Final = 5.0
"""For one answer; then the next server is asked."""
LAST_S: Final = 2.0
"""What is left of all that once the gateway is told to stop."""
PAUSES_S: Final = (0.25, 0.5, 1.0, 2.0)
"""After each round in which nobody answered; the last of them from then on."""
AT_ONCE: Final = 16
"""Connections that one gateway asks with."""
OF_ONE: Final = 4
"""Of those, to one server: it has clients."""
HELD: Final = 64 * 2**20
"""Bytes that are kept for asking; streams beyond it are not asked about."""
_EACH: Final = 4096
"""Bytes that it takes to keep one, beside its texts."""
_END: Final = 4
"""Bytes that it takes to keep where a piece ends."""
_TOKENIZE: Final = "/tokenize"
_TOP: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ONE_TOKEN: Final = {"stream": msgspec.Raw(b"false"), "max_output_tokens": msgspec.Raw(b"1")}
_JSON: Final = {"Content-Type": "application/json"}

_Answer = TypeVar("_Answer")


class _Count(msgspec.Struct):
    count: int


_COUNT: Final = msgspec.json.Decoder(_Count)


class Stopped(NamedTuple):
    """A stream that has ended in the middle."""

    request_id: str
    urls: tuple[str, ...]
    """Of the server that answered, and of the others that hold the version."""
    path: str
    version: str
    """As the servers call it."""
    body: bytes
    """What the server was sent; only looked at where it has not told the prompt's tokens."""
    sent: Sent
    prompt_tokens: int | None
    """As the server told at the beginning; None: it did not."""

    @property
    def size(self) -> int:
        """Bytes that it takes to keep it."""
        return _EACH + len(self.body) + len(self.sent.text) + _END * len(self.sent.ends)


Counted = Callable[[Tokens, str], None]
"""Takes the tokens, and how those of the answer were counted (`usage.Row.counted`)."""


class _SilentError(Exception):
    """A server does not answer now."""


class _UnableError(Exception):
    """A server does not answer such a question, now or later."""


class Recounts:
    """What one gateway process is asking about streams that have ended."""

    def __init__(self, unsettled: Unsettled, patience_s: float = PATIENCE_S) -> None:
        """Begin with nothing.

        Args:
            unsettled: Where the rows of those are that are asked about.
            patience_s: For each stream.
        """
        self.unsettled = unsettled
        self._patience_s = patience_s
        self._http: aiohttp.ClientSession | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._clocks: set[asyncio.Timeout] = set()
        self._is_closing = False
        self._held = 0

    def start(self, stopped: Stopped, counted: Counted) -> bool:
        """Ask in a task of its own, if there is room; then `counted` is called once, later."""
        size = stopped.size
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
        """Return once all is counted, or `LAST_S` have passed."""
        self._is_closing = True
        for clock in self._clocks:
            self._hurry(clock)
        await asyncio.gather(*self._running)
        if self._http is not None:
            await self._http.close()

    async def _count(self, stopped: Stopped, counted: Counted) -> None:
        sent = stopped.sent
        text, prompt = await asyncio.gather(
            self._in_time(self._text(stopped)), self._in_time(self._prompt(stopped))
        )
        made = sent.pieces if text is None else text + sent.beyond
        is_known = text is not None and not sent.beyond
        try:
            counted(Tokens(prompt, made), BY_TEXT if is_known else BY_PIECES)
            await asyncio.sleep(0)  # rows of one turn of the loop are written at its end
            self.unsettled.settle(stopped.request_id)
        except (OSError, RefusalError) as error:  # nobody is left to be told
            tell_of(error)

    async def _in_time(self, asked: Awaitable[_Answer]) -> _Answer | None:
        """Return an answer; None: it does not come in time."""
        clock = asyncio.timeout(self._patience_s)
        try:
            async with clock:
                self._clocks.add(clock)
                if self._is_closing:
                    self._hurry(clock)
                return await asked
        except TimeoutError:
            return None
        except Exception as error:  # noqa: BLE001 (a defect of ours must not cost the row)
            tell_of(error)
            return None
        finally:
            self._clocks.discard(clock)

    def _hurry(self, clock: asyncio.Timeout) -> None:
        last = asyncio.get_running_loop().time() + LAST_S
        if not clock.expired():
            clock.reschedule(min(last, clock.when() or last))

    async def _text(self, stopped: Stopped) -> int | None:
        """Return the tokens of what was sent; None: no server can say."""

        async def ask(url: str) -> int:
            async def said(text: str) -> int:
                asked = {"model": stopped.version, "prompt": text, "add_special_tokens": False}
                answer = await self._ask(url + _TOKENIZE, msgspec.json.encode(asked))
                try:
                    return _COUNT.decode(answer).count
                except msgspec.DecodeError:
                    raise _UnableError from None

            return await Tokenized(stopped.sent, said).count()

        return await _first(stopped.urls, ask)

    async def _prompt(self, stopped: Stopped) -> int | None:
        """Return the prompt's tokens: where no event has them, those of one more token's usage.

        The server has the prompt in its cache, and no other one is asked to read it. A prompt
        made of `input`, tools and reasoning is what its own code makes of them: nobody else
        could count it.
        """
        if stopped.prompt_tokens is not None or stopped.path != RESPONSES:
            return stopped.prompt_tokens
        fields: Mapping[str, msgspec.Raw] = _TOP.decode(stopped.body)
        asked = msgspec.json.encode({**fields, **_ONE_TOKEN})

        async def ask(url: str) -> int | None:
            answer = await self._ask(url + stopped.path, asked)
            return of_reply(answer, None).tokens.prompt_tokens

        return await _first(stopped.urls[:1], ask)

    async def _ask(self, url: str, body: bytes) -> bytes:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                # A connection that was kept may end just as it is used again: that costs a round.
                connector=aiohttp.TCPConnector(
                    limit=AT_ONCE, limit_per_host=OF_ONE, force_close=True
                ),
                timeout=aiohttp.ClientTimeout(sock_connect=ANSWER_S, sock_read=ANSWER_S),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        try:
            async with self._http.post(
                url, data=body, headers=_JSON, allow_redirects=False
            ) as reply:
                if reply.status == HTTPStatus.OK:
                    return await reply.read()
                refused = HTTPStatus.BAD_REQUEST <= reply.status < HTTPStatus.TOO_MANY_REQUESTS
        except (aiohttp.ClientError, OSError, TimeoutError):
            raise _SilentError from None
        raise _UnableError if refused else _SilentError


async def _first(urls: tuple[str, ...], ask: Callable[[str], Awaitable[_Answer]]) -> _Answer | None:
    """Return the first answer of a server, asking round and round; None: none can give one."""
    able, rounds = list(urls), 0
    while able:
        for url in [*able]:
            try:
                return await ask(url)
            except _UnableError:
                able.remove(url)
            except _SilentError:
                continue
        if able:
            await asyncio.sleep(PAUSES_S[min(rounds, len(PAUSES_S) - 1)])
            rounds += 1
    return None
