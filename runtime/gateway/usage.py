"""One request's usage row, from its head to the end of its answer."""

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

LIVE: Final = "live"
"""Purpose of a request that a client made."""
BY_TEXT: Final = "text"
BY_PIECES: Final = "pieces"
"""What `Row.counted` says of tokens that no server reported."""


class Row(msgspec.Struct, omit_defaults=False):
    """One request. Times are UTC, durations seconds."""

    time: str
    request_id: str
    client: str = ""
    """Empty when the key was refused."""
    alias: str = ""
    """Empty unless it is the client's own."""
    version: str = ""
    """Full adapter name; empty when none was chosen."""
    server: str = ""
    path: str = ""
    revision: int = 0
    status: int = 0
    """As sent to the client; 499: the client left. Of a stream that ended in an error event what
    that says, from 400 on; 502: it says nothing more, the server broke off, or it held no answer.
    """
    latency_s: float = 0.0
    first_byte_s: float | None = None
    input_tokens: int | None = None
    """As the server reported it; None: it did not."""
    output_tokens: int | None = None
    """As the server reported it, of a stream that was left or broke off up to then; see `counted`.
    """
    stream: bool = False
    finish: str | None = None
    """Why the answer ended, in the words of chat completions; `length`: it was cut short."""
    format_ok: bool | None = None
    """Whether its text has the form that its adapter declares; None: no form, or not judged."""
    purpose: str = LIVE
    """`live`; `smoke` and `shadow` are never billed, `eval` where a client's policy says so."""
    retries: int = 0
    """Servers that were asked before the one that answered, or in vain."""
    unit: str | None = None
    """Stands for the user or session whom the split keeps on one version, so that users can be
    counted: 16 hex digits, a hash keyed with the operator's secret, another one for each alias and
    rollout. None: the request names nobody, or the split goes by key or by request."""
    counted: str | None = None
    """How the tokens of the answer were counted where the server had not reported them, of streams
    of responses and messages that ended in the middle. `text`: of what was sent of it, by the
    server's tokenizer. `pieces`: one for each piece of it, which are fewer than there were."""


class Tokens(msgspec.Struct):
    """Token counts as servers report them in `usage`."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @property
    def total(self) -> int:
        """Tokens of prompt and answer together, as far as they are known."""
        return (self.prompt_tokens or 0) + (self.completion_tokens or 0)


class _Ids:
    """Ids nobody can guess, drawn from the system many at a time."""

    def __init__(self) -> None:
        self._drawn: list[str] = []

    def next(self) -> str:
        """Return 32 hex digits."""
        if not self._drawn:
            drawn = secrets.token_hex(_ID_BYTES * _AT_ONCE)
            step = 2 * _ID_BYTES
            self._drawn = [drawn[at : at + step] for at in range(0, len(drawn), step)]
        return self._drawn.pop()


_ID_BYTES: Final = 16
_AT_ONCE: Final = 256
_IDS: Final = _Ids()
_NO_TOKENS: Final = Tokens()
_MICROSECONDS: Final = 1_000_000


@lru_cache(maxsize=1)
def _second(since_1970: int) -> str:
    return datetime.fromtimestamp(since_1970, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=1)
def _shown(milliseconds: int) -> str:
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03}+00:00"


def _now() -> str:
    return _shown(int(time.time() * 1000))


def _rounded(seconds: float) -> float:
    """Return whole microseconds as seconds; `round` takes five times as long."""
    return int(seconds * _MICROSECONDS) / _MICROSECONDS


class Record:
    """The usage row of one request, written and counted once."""

    __slots__ = ("_add", "_began", "_keep", "is_closed", "row", "tokens")

    def __init__(self, add: Callable[[Row], None], path: str, revision: int) -> None:
        """Begin the row; the clock runs from here, and `add` takes it when it is complete."""
        self._add = add
        self._began = time.monotonic()
        self._keep: Callable[[Row], None] | None = None
        self.is_closed = False
        """Whether all but the tokens is final."""
        self.tokens = _NO_TOKENS
        self.row = Row(_now(), _IDS.next(), path=path, revision=revision)

    def aside(self, purpose: str) -> "Record":
        """Return the record of another request beside this one, which is no client's."""
        made = Record(self._add, self.row.path, self.row.revision)
        made.row.purpose = purpose
        return made

    def first_byte(self) -> None:
        """Note that the server has begun to answer."""
        if self.row.first_byte_s is None:
            self.row.first_byte_s = _rounded(time.monotonic() - self._began)

    def write(self, status: int) -> None:
        """Hand the row over, to be written and counted, unless that has been done.

        Raises:
            OSError: the log could not take it; the request must not be answered.
        """
        if self.is_closed:
            return
        self.is_closed = True
        row = self.row
        row.status = int(status)
        row.latency_s = _rounded(time.monotonic() - self._began)
        self._hand_over(self._keep or self._add)

    def defer(self, keep: Callable[[Row], None]) -> None:
        """Let `write` close the row and `keep` it, and hand it over when it is `counted`."""
        self._keep = keep

    def counted(self, tokens: Tokens, how: str) -> None:
        """Hand over a row that was deferred, with its tokens.

        Raises:
            OSError: as `write`.
        """
        self.tokens, self.row.counted = tokens, how
        self._hand_over(self._add)

    def _hand_over(self, to: Callable[[Row], None]) -> None:
        row, tokens = self.row, self.tokens
        row.input_tokens, row.output_tokens = tokens.prompt_tokens, tokens.completion_tokens
        to(row)
