"""The usage row of a request, written by a gateway or translated from a row of an Envoy."""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec

from fleet.codec import decode_json

LIVE: Final = "live"
"""Purpose of a client's request."""
COUNTING: Final = "count_tokens"
"""Purpose of requests on `COUNT_TOKENS`."""
COUNT_TOKENS: Final = "/v1/messages/count_tokens"
"""Path on which servers count the tokens of a prompt, and their engines do nothing."""
CLIENT_LEFT: Final = 499
"""Status of a request whose client left."""
BY_PIECES: Final = "pieces"
"""Value of `UsageRow.counted`: the output tokens are a lower bound."""
_MARK_OF_ENVOY: Final = b'"latency_us":'
"""In every line that an Envoy wrote, and in no line of a gateway: quotes in a value are escaped."""
_SERVER_ABORT_FLAGS: Final = frozenset({"UC", "UR", "UPE", "UMSDR", "SI"})
"""Envoy's response flags for a server that broke off or fell silent."""
_GIVEN_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""Sound ids of clients: without blanks, quotes and line breaks, which have a meaning in logs."""
_UNSET: Final = (None, "", "-")
"""Values of a field in Envoy's rows that was never set."""
_TRACE: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""Source: W3C Trace Context, level 1, section 3.2."""


_LARGEST: Final = 2**31
Count = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]
Seconds = Annotated[float, msgspec.Meta(ge=-_LARGEST, le=_LARGEST)]


class UsageRow(msgspec.Struct, omit_defaults=False):
    """A request in the usage log. Times are UTC, durations seconds.

    Rows of any release have these types; a number beyond its bounds makes a line no row.
    """

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
    latency_s: Seconds = 0.0
    first_byte_s: Seconds | None = None
    input_tokens: Count | None = None
    """As the server reported; None: no report."""
    output_tokens: Count | None = None
    """As the server reported, for an aborted stream up to its end; see `counted`."""
    stream: bool = False
    finish: str | None = None
    """Finish reason in the words of chat completions; `length`: the answer was cut short."""
    format_ok: bool | None = None
    """Whether the text has the declared format; None: no format is declared, or not judged."""
    purpose: str = LIVE
    """`live`; `eval` is billed where the client's policy says so, `smoke`, `shadow` and
    `count_tokens` never."""
    retries: Count = 0
    """Number of retries: servers tried in vain before the last, plus repeats on a new connection
    to the same server because the kept one had closed."""
    unit: str | None = None
    """Pseudonym of the user or session that the split keeps on a version, so that users can be
    counted: 16 hex digits, a hash keyed with the operator's secret, different for each alias and
    rollout. None: the request names no user, or the split goes by key or by request."""
    counted: str | None = None
    """How output tokens were counted that no server had reported; None: a server reported them.

    `pieces`: one token for each piece of an aborted stream of `/v1/responses` or `/v1/messages`;
    a lower bound, for a piece is one token or more.
    `text`: by the server's tokenizer (rows of earlier versions).
    """
    cached_tokens: Count | None = None
    """Prompt tokens from the server's cache, part of `input_tokens`; None: not reported."""
    waited_s: Seconds | None = None
    """Time until the request's turn, part of `latency_s`; None: a row of an Envoy, or of an earlier
    version."""
    trace_id: str | None = None
    """Trace id of the client's `traceparent`, which the server gets too; None: there was none."""
    digest: str | None = None
    """First 12 hex digits of the digest of the version's bytes, by the routing table.

    None: unknown, or a row of an earlier version.
    """
    given_id: str | None = None
    """Id that the client gave the request (`x-request-id`); None: no id, or no sound one."""

    @property
    def shown_id(self) -> str:
        """Id of the request in answers: the client's, else the row's."""
        return self.given_id or self.request_id


class Tokens(msgspec.Struct):
    """Token counts as servers report them in `usage`."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None

    @property
    def total(self) -> int:
        """Tokens of prompt and answer together; an unknown count is 0."""
        return (self.prompt_tokens or 0) + (self.completion_tokens or 0)


_ID_BYTES: Final = 16
_IDS_AT_ONCE: Final = 256
_request_ids: Final[list[str]] = []
"""Unguessable ids of 32 hex digits, drawn from the system many at a time."""
_NO_TOKENS: Final = Tokens()
_MICROSECONDS: Final = 1_000_000


def _next_request_id() -> str:
    if not _request_ids:
        drawn, step = secrets.token_hex(_ID_BYTES * _IDS_AT_ONCE), 2 * _ID_BYTES
        _request_ids.extend(drawn[at : at + step] for at in range(0, len(drawn), step))
    return _request_ids.pop()


@lru_cache(maxsize=1)
def _format_second(since_1970: int) -> str:
    return datetime.fromtimestamp(since_1970, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=1)
def _format_time(milliseconds: int) -> str:
    return f"{_format_second(milliseconds // 1000)}.{milliseconds % 1000:03}+00:00"


def _whole_microseconds(seconds: float) -> float:
    """Return whole microseconds as seconds; `round` takes five times as long."""
    return int(seconds * _MICROSECONDS) / _MICROSECONDS


class UsageRecorder:
    """Fills the usage row of a request, timed from here on, and hands the row to `add` once."""

    __slots__ = ("_add", "_began", "_waits_since", "is_closed", "row", "tokens")

    def __init__(self, add: Callable[[UsageRow], None], path: str, revision: int) -> None:
        self._add = add
        self._began = time.monotonic()
        self._waits_since = 0.0
        self.is_closed = False
        self.tokens = _NO_TOKENS
        began = _format_time(int(time.time() * 1000))
        self.row = UsageRow(began, _next_request_id(), path=path, revision=revision, waited_s=0.0)

    def aside(self, purpose: str) -> "UsageRecorder":
        """Return a recorder for a second request beside the first, which is no client's."""
        recorder = UsageRecorder(self._add, self.row.path, self.row.revision)
        recorder.row.purpose = purpose
        return recorder

    def wait(self) -> None:
        """Note that the request waits for its turn from now on."""
        self._waits_since = time.monotonic()

    def stop_waiting(self) -> None:
        """Note that the wait, if any, has ended."""
        if self._waits_since:
            waited = time.monotonic() - self._waits_since + (self.row.waited_s or 0.0)
            self.row.waited_s, self._waits_since = _whole_microseconds(waited), 0.0

    def first_byte(self) -> None:
        """Note that the server has begun to answer."""
        if self.row.first_byte_s is None:
            self.row.first_byte_s = _whole_microseconds(time.monotonic() - self._began)

    def write(self, status: int, *, begins: bool = False) -> None:
        """Complete the row and hand the row over, once; if `add` raises, no answer may go out.

        `begins`: the server's answer begins, and ends, now.
        """
        if self.is_closed:
            return
        self.is_closed = True
        row, tokens = self.row, self.tokens
        if self._waits_since:
            self.stop_waiting()
        row.status = int(status)
        row.latency_s = _whole_microseconds(time.monotonic() - self._began)
        if begins and row.first_byte_s is None:
            row.first_byte_s = row.latency_s
        row.input_tokens, row.output_tokens = tokens.prompt_tokens, tokens.completion_tokens
        row.cached_tokens = tokens.cached_tokens
        self._add(row)


def sound_id(given: str) -> str | None:
    """Return the id that a client gave its request, if the id is sound."""
    return given if given and _GIVEN_ID.fullmatch(given) else None


def trace_id_of(parent: str) -> str | None:
    """Return the trace id of a header `traceparent`; None: the header is malformed or missing."""
    found = _TRACE.fullmatch(parent)
    return found[1] if found else None


def to_usage_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the fields of `UsageRow`; a row of a gateway comes back as it is.

    Raises:
        KeyError, TypeError, ValueError: `row` is no usage row.
    """
    if "latency_us" not in row:
        return row
    latency_us, first_byte_us = row["latency_us"], row.get("first_byte_us")
    return {
        **row,
        **{name: row.get(name) or "" for name in ("client", "alias", "version", "server", "path")},
        "latency_s": row["duration_ms"] / 1e3 if latency_us is None else latency_us / 1e6,
        "first_byte_s": None if first_byte_us is None else first_byte_us / 1e6,
        "status": _status(row),
        "stream": row.get("stream") == "true",
        "purpose": COUNTING if row.get("path") == COUNT_TOKENS else LIVE,
        "trace_id": trace_id_of(str(row.get("traceparent") or "")),
        "digest": None if row.get("digest") in _UNSET else row["digest"],
    }


def translate_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a usage log with the fields of `UsageRow`; damaged lines as they are."""
    for line in lines:
        if _MARK_OF_ENVOY not in line:
            yield line
            continue
        try:
            row = to_usage_row(decode_json(line))
        except (KeyError, TypeError, ValueError):
            yield line
        else:
            yield json.dumps(row).encode() + b"\n"


def _status(row: Mapping[str, Any]) -> int:
    status, flags = int(row["status"]), set(str(row.get("flags") or "").split(","))
    if "DC" in flags:  # Envoy's flag for a client that left
        return CLIENT_LEFT
    if status < HTTPStatus.BAD_REQUEST and flags & _SERVER_ABORT_FLAGS:
        return HTTPStatus.BAD_GATEWAY
    return status
