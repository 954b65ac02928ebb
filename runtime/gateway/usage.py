"""The usage log: one JSON line per request, written before the client has its last byte."""

import os
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import msgspec

USAGE_FILE = "usage.jsonl"
TAIL_BYTES = 16_384
"""How much of a stream's end is kept to find the token counts in."""
_MODE = 0o600


class Row(msgspec.Struct, omit_defaults=False):
    """One request. Times are UTC, durations seconds."""

    time: str
    request_id: str
    client: str
    """Empty when the key was refused."""
    alias: str
    """Empty unless it is the client's own."""
    version: str
    """Full adapter name; empty when none was chosen."""
    server: str
    path: str
    revision: int
    status: int
    """As sent to the client; 499: the client left, 502 in a stream: the server broke off."""
    latency_s: float
    first_byte_s: float | None
    input_tokens: int | None
    """As the server reported it; None: it did not (a stream without `include_usage`)."""
    output_tokens: int | None
    stream: bool


class Tokens(msgspec.Struct):
    """Token counts as servers report them in `usage`."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Reply(msgspec.Struct):
    usage: Tokens | None = None


_REPLY = msgspec.json.Decoder(_Reply)
_ROW = msgspec.json.Encoder()


def tokens_in_reply(body: bytes) -> Tokens:
    """Return the token counts in a whole JSON reply; empty if it has none."""
    try:
        return _REPLY.decode(body).usage or Tokens()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Tokens()


def tokens_in_stream(tail: bytes) -> Tokens:
    """Return the last token counts in the end of an event stream; empty if it has none."""
    for line in reversed(tail.splitlines()):
        if line.startswith(b"data:") and b'"usage"' in line:
            found = tokens_in_reply(line[5:].strip())
            if found.completion_tokens is not None:
                return found
    return Tokens()


class UsageLog:
    """Appends rows to a file; each is one write, so that a killed process loses none."""

    def __init__(self, path: Path) -> None:
        """Open the file, cutting off a line that a power failure left incomplete."""
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, _MODE)
        self._cut_torn_tail()

    def append(self, row: Row) -> None:
        """Write one row; the kernel has it when this returns."""
        os.write(self._file, _ROW.encode(row) + b"\n")

    def close(self) -> None:
        """Write through to the disk and close."""
        os.fsync(self._file)
        os.close(self._file)

    def _cut_torn_tail(self) -> None:
        size = os.fstat(self._file).st_size
        start = max(0, size - TAIL_BYTES)
        tail = os.pread(self._file, size - start, start)
        if tail and not tail.endswith(b"\n"):
            os.ftruncate(self._file, start + tail.rfind(b"\n") + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Record:
    """The usage row of one request, written once."""

    def __init__(self, log: UsageLog, path: str, revision: int) -> None:
        """Begin the row; the clock runs from here."""
        self._log = log
        self._began = time.monotonic()
        self._written = False
        self.tokens = Tokens()
        self.row = Row(
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            request_id=secrets.token_hex(16),
            client="",
            alias="",
            version="",
            server="",
            path=path,
            revision=revision,
            status=0,
            latency_s=0.0,
            first_byte_s=None,
            input_tokens=None,
            output_tokens=None,
            stream=False,
        )

    def first_byte(self) -> None:
        """Note that the server has begun to answer."""
        if self.row.first_byte_s is None:
            self.row.first_byte_s = round(time.monotonic() - self._began, 6)

    def write(self, status: int) -> None:
        """Append the row unless that has been done."""
        if self._written:
            return
        self._written = True
        self.row.status = int(status)
        self.row.latency_s = round(time.monotonic() - self._began, 6)
        self.row.input_tokens = self.tokens.prompt_tokens
        self.row.output_tokens = self.tokens.completion_tokens
        self._log.append(self.row)
