"""Usage rows of all gateways, as gates count them: plain mappings, of one alias or of all."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from runtime.gateway.envoyrows import as_ours
from runtime.gateway.usagelog import USAGE_FILE

COPY = "copy-of-usage-"
"""Begins the names of copies from elsewhere. They reach back no further than rollouts need, so
that whoever sums up usage must not take them for the whole.
"""
_PATTERNS = (USAGE_FILE.replace(".", "*."), f"{COPY}*.jsonl")


class UsageRows:
    """The rows that gateways of a state folder wrote, copies from elsewhere included."""

    def __init__(self, state_dir: Path, missing: tuple[str, ...] = ()) -> None:
        """Look for files; nothing is read before it is asked for.

        `missing` says which rows may be lacking and why, see `runtime.rollouts.collect`.
        """
        folder = state_dir / "gateways"
        found = [path for each in _PATTERNS for path in folder.rglob(each)]
        self._paths = sorted(found) if folder.is_dir() else []
        self.missing = missing
        self.damaged = 0
        """Lines that could not be read; the last line of a running gateway may be one."""

    def of(self, since: datetime, alias: str = "") -> Iterator[dict[str, Any]]:
        """Yield rows of an alias, or of every alias, from a moment on; in no order.

        A file that cannot be read is named in `missing` from then on.
        """
        # Most lines are another client's: to look for the name is ten times faster than to parse.
        needle = f'"alias":"{alias}"'.encode() if alias else b""
        moment = since.isoformat(timespec="seconds")[:19]
        self.damaged = 0
        for path in self._paths:
            try:
                if path.stat().st_mtime < since.timestamp():
                    continue
                with path.open("rb") as lines:
                    for line in lines:
                        if needle in line:
                            yield from self._row(line, moment)
            except OSError as error:
                why = f"requests in {path} are lacking: {error.strerror or error}"
                self.missing = tuple(dict.fromkeys((*self.missing, why)))

    def _row(self, line: bytes, since: str) -> Iterator[dict[str, Any]]:
        try:
            row = as_ours(json.loads(line))
            late = str(row["time"])[:19] >= since
            datetime.fromisoformat(row["time"])
            int(row["status"])
        except (ValueError, KeyError, TypeError):
            self.damaged += 1
            return
        if late:
            yield row
