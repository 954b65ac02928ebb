"""The usage row of one request, from the request's head to the end of its answer."""

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

LIVE: Final = "live"
"""Purpose of a client's request."""
BY_PIECES: Final = "pieces"
"""Value of `UsageRow.counted`: the output tokens are a lower bound."""


class UsageRow(msgspec.Struct, omit_defaults=False):
    """One request. Times are UTC, durations seconds."""

    time: str
    request_id: str
    client: str = ""
    """Empty: the key was refused."""
    alias: str = ""
    """Empty: the alias is not the client's own."""
    version: str = ""
    """Full adapter name; empty: none was chosen."""
    server: str = ""
    path: str = ""
    revision: int = 0
    status: int = 0
    """HTTP status as sent to the client.

    499: the client left.
    A stream that ended in an error event: the status of that event, from 400 on.
    502 for a stream: the error event names no status, the server broke off, or the stream held no
    answer.
    """
    latency_s: float = 0.0
    first_byte_s: float | None = None
    input_tokens: int | None = None
    """As the server reported; None: no report."""
    output_tokens: int | None = None
    """As the server reported, for an aborted stream up to its end; see `counted`."""
    stream: bool = False
    finish: str | None = None
    """Finish reason in the words of chat completions; `length`: the answer was cut short."""
    format_ok: bool | None = None
    """Whether the text has the declared format; None: no format is declared, or not judged."""
    purpose: str = LIVE
    """`live`; `smoke` and `shadow` are never billed, `eval` where the client's policy says so."""
    retries: int = 0
    """Number of retries: servers tried in vain before the last, plus repeats on a new connection
    to the same server because the kept one had closed."""
    unit: str | None = None
    """Stands for the user or session that the split keeps on one version, so that users can be
    counted: 16 hex digits, a hash keyed with the operator's secret, different for each alias and
    rollout. None: the request names no user, or the split goes by key or by request."""
    counted: str | None = None
    """How output tokens were counted that no server had reported; None: a server reported them.

    `pieces`: one token for each piece of an aborted stream of `/v1/responses` or `/v1/messages`;
    a lower bound, for a piece is one token or more.
    `text`: by the server's tokenizer (rows of earlier versions).
    """


class Tokens(msgspec.Struct):
    """Token counts as servers report them in `usage`."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @property
    def total(self) -> int:
        """Tokens of prompt and answer together; an unknown count is 0."""
        return (self.prompt_tokens or 0) + (self.completion_tokens or 0)


class _RequestIds:
    """Unguessable ids, drawn from the system many at a time."""

    def __init__(self) -> None:
        self._drawn: list[str] = []

    def next(self) -> str:
        """Return 32 hex digits."""
        if not self._drawn:
            drawn = secrets.token_hex(_ID_BYTES * _IDS_AT_ONCE)
            step = 2 * _ID_BYTES
            self._drawn = [drawn[at : at + step] for at in range(0, len(drawn), step)]
        return self._drawn.pop()


_ID_BYTES: Final = 16
_IDS_AT_ONCE: Final = 256
_REQUEST_IDS: Final = _RequestIds()
_NO_TOKENS: Final = Tokens()
_MICROSECONDS: Final = 1_000_000


@lru_cache(maxsize=1)
def _format_second(since_1970: int) -> str:
    return datetime.fromtimestamp(since_1970, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=1)
def _format_time(milliseconds: int) -> str:
    return f"{_format_second(milliseconds // 1000)}.{milliseconds % 1000:03}+00:00"


def _now() -> str:
    return _format_time(int(time.time() * 1000))


def _whole_microseconds(seconds: float) -> float:
    """Return whole microseconds as seconds; `round` takes five times as long."""
    return int(seconds * _MICROSECONDS) / _MICROSECONDS


class UsageRecorder:
    """Fills the usage row of one request and hands it over once."""

    __slots__ = ("_add", "_began", "is_closed", "row", "tokens")

    def __init__(self, add: Callable[[UsageRow], None], path: str, revision: int) -> None:
        """Begin the row and start its clock.

        Args:
            add: Takes the complete row.
            path: Path of the request.
            revision: Revision of the routing table.
        """
        self._add = add
        self._began = time.monotonic()
        self.is_closed = False
        """Whether the row was handed over."""
        self.tokens = _NO_TOKENS
        self.row = UsageRow(_now(), _REQUEST_IDS.next(), path=path, revision=revision)

    def aside(self, purpose: str) -> "UsageRecorder":
        """Return a recorder for a second request beside this one, which is no client's."""
        made = UsageRecorder(self._add, self.row.path, self.row.revision)
        made.row.purpose = purpose
        return made

    def first_byte(self) -> None:
        """Note that the server has begun to answer."""
        if self.row.first_byte_s is None:
            self.row.first_byte_s = _whole_microseconds(time.monotonic() - self._began)

    def write(self, status: int) -> None:
        """Complete the row and hand it over, unless that was done.

        Raises:
            Exception: whatever `add` raises where the log cannot take the row; the request must
                not be answered then.
        """
        if self.is_closed:
            return
        self.is_closed = True
        row, tokens = self.row, self.tokens
        row.status = int(status)
        row.latency_s = _whole_microseconds(time.monotonic() - self._began)
        row.input_tokens, row.output_tokens = tokens.prompt_tokens, tokens.completion_tokens
        self._add(row)
