"""Reading usage logs back: the requests that clients made, over all files of a folder."""

from collections.abc import Iterator
from datetime import datetime
from http import HTTPStatus
from pathlib import Path

import msgspec

from fleet.capacity import RecordedRequest
from runtime.gateway.envoyrows import in_our_words
from runtime.gateway.usage import LIVE
from runtime.gateway.usagelog import USAGE_FILE

_PATTERN = USAGE_FILE.replace(".", "*.")


class _Row(msgspec.Struct):
    """What is read of a row; see `runtime.gateway.usage.Row`. Envoy has null where it is empty."""

    time: str
    alias: str | None = None
    version: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    purpose: str = LIVE
    status: int = 0
    finish: str | None = None
    format_ok: bool | None = None


class UsageFiles:
    """The rows of a folder's logs, those that were put aside included, in no order."""

    def __init__(self, folder: Path) -> None:
        """Look through `folder` and the folders in it; nothing is read before iteration."""
        self.paths = sorted(folder.rglob(_PATTERN))
        self.damaged = 0
        """Lines that could not be read; the last line of a running gateway may be one."""

    def __iter__(self) -> Iterator[RecordedRequest]:
        """Yield every request that was given a version; refused ones are nobody's demand.

        Raises:
            OSError: a file cannot be read.
        """
        decoder = msgspec.json.Decoder(_Row)
        self.damaged = 0
        for path in self.paths:
            with path.open("rb") as lines:
                for line in in_our_words(lines):
                    try:
                        row = decoder.decode(line)
                        time = datetime.fromisoformat(row.time).timestamp()
                    except (ValueError, OverflowError):
                        self.damaged += 1
                        continue
                    if row.alias and row.version and row.purpose == LIVE:
                        yield RecordedRequest(
                            time,
                            row.alias,
                            row.input_tokens,
                            row.output_tokens,
                            row.status >= HTTPStatus.INTERNAL_SERVER_ERROR,
                            row.format_ok,
                            row.finish == "length" if row.finish else None,
                        )
