"""Parsed files by content, so that a large fleet is not parsed anew on every run."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fleet.config import Parsed, parse

FORMAT = "fleetctl-parsed-1"
"""Format of the cache; changes with the values of `fleet.config.parse`."""
_WORTHWHILE = 64 << 10
"""Lower bound of the characters of text for which a cache is kept."""


class ParseCache:
    """A JSON file with the last run's parsed files by the hash of their text.

    A cache that is missing, damaged or of another format is ignored; a cache that cannot be
    written is no error. `save` writes the cache, once everything proved valid.
    """

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which need not exist."""
        self._path = folder / "parsed.json"
        self._known: dict[str, Any] | None = None
        self._used: dict[str, Any] = {}
        self._misses = 0

    def parse(self, text: str, file: str) -> Parsed:
        """Parse a file as `fleet.config.parse`, or take the result from the cache."""
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
        """Write the files that this run used, where some are new and a cache is worth a file."""
        if not self._misses or sum(map(len, texts.values())) < _WORTHWHILE:
            return
        body = json.dumps(self._used, separators=(",", ":"))
        scratch = self._path.with_suffix(f".{hashlib.sha256(body.encode()).hexdigest()[:8]}")
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_text(f"{_seal(body)}\n{body}", encoding="utf-8")
            scratch.replace(self._path)

    def _read(self) -> dict[str, Any]:
        try:
            seal, _, body = self._path.read_text(encoding="utf-8").partition("\n")
        except (OSError, ValueError):
            return {}
        found: dict[str, Any] = json.loads(body) if seal == _seal(body) else {}
        return found


def _seal(body: str) -> str:
    return f"{FORMAT} {hashlib.sha256(body.encode()).hexdigest()}"
