"""Usage rows of all gateways, as gates count them: plain mappings, of one alias or of all."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from runtime.gateway.envoyrows import as_ours
from runtime.gateway.usagelog import USAGE_FILE

_PATTERN = USAGE_FILE.replace(".", "*.")


class UsageRows:
    """The rows that gateways of a state folder wrote from a moment on."""

    def __init__(self, state_dir: Path, since: datetime) -> None:
        """Look for files that were written to since then; nothing is read before iteration."""
        moment = since.timestamp()
        folder = state_dir / "gateways"
        found = sorted(folder.rglob(_PATTERN)) if folder.is_dir() else []
        self._paths = [each for each in found if each.stat().st_mtime >= moment]
        self._since = since.isoformat(timespec="seconds")[:19]
        self.damaged = 0
        """Lines that could not be read; the last line of a running gateway may be one."""

    def of(self, alias: str = "") -> Iterator[dict[str, Any]]:
        """Yield rows of an alias, or of every alias; in no order.

        Raises:
            OSError: a file cannot be read.
        """
        # Most lines are another client's: to look for the name is ten times faster than to parse.
        needle = f'"alias":"{alias}"'.encode() if alias else b""
        self.damaged = 0
        for path in self._paths:
            with path.open("rb") as lines:
                for line in lines:
                    if needle in line:
                        yield from self._row(line)

    def _row(self, line: bytes) -> Iterator[dict[str, Any]]:
        try:
            row = as_ours(json.loads(line))
            late = str(row["time"])[:19] >= self._since
            datetime.fromisoformat(row["time"])
            int(row["status"])
        except (ValueError, KeyError, TypeError):
            self.damaged += 1
            return
        if late:
            yield row
