"""Usage rows of all gateways, as gates count them: plain mappings, of one alias or of all."""

import json
import math
import os
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
_LOOKS = 10
"""For files that got another name meanwhile; a gateway puts one aside every 200,000 requests."""
_NUMBERS = ("first_token_s", "first_byte_s", "output_tokens")
_NO_FILE = (0, 0)
_PATTERNS = (USAGE_FILE.replace(".", "*."), f"{COPY}*.jsonl")


class UsageRows:
    """The rows that gateways of a state folder wrote, copies from elsewhere included."""

    def __init__(self, state_dir: Path, missing: tuple[str, ...] = ()) -> None:
        """Prepare; nothing is read before it is asked for.

        `missing` says which rows may be lacking and why, see `runtime.rollouts.collect`.
        """
        self._folder = state_dir / "gateways"
        self.missing = missing
        self.damaged = 0
        """Lines that could not be read; the last line of a running gateway may be one."""

    def of(self, since: datetime, alias: str = "") -> Iterator[dict[str, Any]]:
        """Yield rows of an alias, or of every alias, from a moment on; in no order.

        A gateway may put its file aside meanwhile, under another name: files are looked for
        until each that is there was read, once. One that cannot be read is named in `missing`
        from then on.
        """
        # Most lines are another client's: to look for the name is ten times faster than to parse.
        needle = f'"alias":"{alias}"'.encode() if alias else b""
        moment = since.isoformat(timespec="seconds")[:19]
        self.damaged = 0
        read: set[tuple[int, int]] = set()
        for _ in range(_LOOKS):
            unread = [(path, which) for path, which in self._files(since) if which not in read]
            if not unread:
                return
            for path, which in unread:
                try:
                    with path.open("rb") as lines:
                        opened = _identity(os.fstat(lines.fileno()))
                        if opened in read:
                            continue
                        read.add(opened)
                        for line in lines:
                            if needle in line:
                                yield from self._row(line, moment)
                except FileNotFoundError:  # it has another name by now
                    continue
                except OSError as error:
                    read.add(which)
                    self._lacks(f"in {path}", error.strerror or str(error))
        self._lacks(f"below {self._folder}", "its files get other names all the time")

    def _files(self, since: datetime) -> Iterator[tuple[Path, tuple[int, int]]]:
        """Yield files that were written since, each with what stays its own under any name."""
        names = [path for each in _PATTERNS for path in self._folder.rglob(each)]
        for path in sorted(names):
            try:
                found = path.stat()
            except FileNotFoundError:  # it has another name by now
                yield path, _NO_FILE
                continue
            except OSError as error:
                self._lacks(f"in {path}", error.strerror or str(error))
                continue
            if found.st_mtime >= since.timestamp():
                yield path, _identity(found)

    def _lacks(self, where: str, why: str) -> None:
        told = f"requests {where} are lacking: {why}"
        self.missing = tuple(dict.fromkeys((*self.missing, told)))

    def _row(self, line: bytes, since: str) -> Iterator[dict[str, Any]]:
        try:
            row = as_ours(json.loads(line))
            late = str(row["time"])[:19] >= since
            numbers = [row[each] for each in _NUMBERS if row.get(each) is not None]
            whole = (
                datetime.fromisoformat(row["time"]).tzinfo is not None
                and type(row["status"]) is int
                and all(map(_is_finite, (row["latency_s"], *numbers)))
            )
        except (ValueError, KeyError, TypeError, OverflowError):
            whole = late = False
        if not whole:
            self.damaged += 1
        elif late:
            yield row


def _is_finite(given: Any) -> bool:
    return type(given) in {int, float} and math.isfinite(given)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
