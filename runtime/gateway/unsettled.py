"""Rows whose tokens are still being counted, each in a file: a kill in between loses none.

unsettled/<request id>.json    the row as it would be without an answer, a lower bound
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from runtime.gateway.defects import tell
from runtime.gateway.usage import Row
from runtime.gateway.usagelog import UsageLog

FOLDER: Final = "unsettled"
_ROW: Final = msgspec.json.Encoder()
_READ: Final = msgspec.json.Decoder(Row)
_MODE: Final = 0o600
_PRIVATE: Final = 0o700


class Unsettled:
    """The rows of one gateway process that wait."""

    def __init__(self, home: Path) -> None:
        """Prepare; `home` is the gateway's folder."""
        self._folder = home / FOLDER

    def keep(self, row: Row) -> None:
        """Keep a row; where the disk does not take it, only a killed process would miss it."""
        try:
            self._folder.mkdir(mode=_PRIVATE, exist_ok=True)
            file = os.open(self._path(row.request_id), os.O_WRONLY | os.O_CREAT, _MODE)
            try:
                os.write(file, _ROW.encode(row))
            finally:
                os.close(file)
        except OSError as error:
            tell(f"A usage row that waits for its tokens is not kept: {error}")

    def settle(self, request_id: str) -> None:
        """Forget a row: it is in the log."""
        self._path(request_id).unlink(missing_ok=True)

    def recover(self, log: UsageLog) -> None:
        """Write the rows that a killed process left into the log, each once.

        Raises:
            OSError: the log does not take them; they are kept.
        """
        known = log.end()
        for path, row in self._left():
            if row is not None and row.request_id.encode() not in known:
                log.append(_ROW.encode(row))
            path.unlink(missing_ok=True)

    def _left(self) -> Iterator[tuple[Path, Row | None]]:
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield path, _READ.decode(path.read_bytes())
            except msgspec.DecodeError:  # cut short by a power failure
                yield path, None

    def _path(self, request_id: str) -> Path:
        return self._folder / f"{request_id}.json"
