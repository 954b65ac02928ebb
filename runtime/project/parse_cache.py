"""Parsed files by content, so that a large fleet is not parsed anew on every run."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.config import Parsed, parse

FORMAT = "fleetctl-parsed-1"
"""Changes with what `fleet.config.yaml` returns, so that an older cache is not read."""
_WORTHWHILE = 64 << 10
"""Characters of text from which on a cache is kept."""


class ParseCache:
    """One JSON file that holds the last run's parsed files by the hash of their text.

    A cache that is missing, damaged or of another format is ignored; one that cannot be
    written is not an error. It is written by `save`, once everything proved valid.
    """

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which need not exist."""
        self._path = folder / "parsed.json"
        self._known: dict[str, Any] | None = None
        self._used: dict[str, Any] = {}
        self._misses = 0

    def parse(self, text: str, file: str) -> Parsed:
        """Do what `fleet.config.parse` does, from the cache where it can."""
        if self._known is None:
            self._known = self._read()
        key = hashlib.sha256(text.encode()).hexdigest()
        entry = self._known.get(key)
        if entry is None:
            parsed = parse(text, file)
            self._misses += 1
            entry = [parsed.value, parsed.marks]
        self._used[key] = entry
        return Parsed(*entry)

    def save(self, texts: Mapping[str, str]) -> None:
        """Keep what this run used, if it is new and large enough to be worth a file."""
        if not self._misses or sum(map(len, texts.values())) < _WORTHWHILE:
            return
        body = json.dumps(self._used, separators=(",", ":"))
        scratch = self._path.with_suffix(f".{hashlib.sha256(body.encode()).hexdigest()[:8]}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_text(f"{_seal(body)}\n{body}", encoding="utf-8")
            scratch.replace(self._path)
        except OSError:
            return

    def _read(self) -> dict[str, Any]:
        try:
            seal, _, body = self._path.read_text(encoding="utf-8").partition("\n")
        except (OSError, ValueError):
            return {}
        found: dict[str, Any] = json.loads(body) if seal == _seal(body) else {}
        return found


def _seal(body: str) -> str:
    return f"{FORMAT} {hashlib.sha256(body.encode()).hexdigest()}"
