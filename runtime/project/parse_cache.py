"""Keeps parsed declarations between runs, in the user's own cache."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fleet.codec import decode_json
from fleet.config import Parsed, parse
from runtime.files import make_private, plain_text, replace_file

FORMAT = "fleetctl-parsed-1"
"""Format of the cache; changes with the values of `fleet.config.parse`."""
_WORTHWHILE = 64 << 10
"""Lower bound of the characters of text for which a cache is kept."""


class ParseCache:
    """A JSON file with the last run's parsed files by the hash of their text.

    The file lies in the user's own cache, `${XDG_CACHE_HOME:-~/.cache}/fleetctl`, by the project's
    path: a file of the checkout could be forged to hold other declarations than the files.
    A cache that is missing, damaged or of another format is ignored; a cache that cannot be
    written is no error. `save` writes the cache, once everything proved valid.
    """

    def __init__(self, root: Path) -> None:
        """Use the file of the project at `root`, which need not exist."""
        home = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if not home.is_absolute():
            try:
                home = Path.home() / ".cache"
            except RuntimeError:  # a user without a home has no cache
                home = Path(os.devnull)
        place = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
        self._path = home / "fleetctl" / f"parsed-{place}.json"
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
        with suppress(OSError):
            make_private(self._path.parent)
            replace_file(self._path, f"{_seal(body)}\n{body}".encode())

    def _read(self) -> dict[str, Any]:
        try:
            seal, _, body = plain_text(self._path).partition("\n")
            found: dict[str, Any] = decode_json(body) if seal == _seal(body) else {}
        except (OSError, ValueError):
            return {}
        return found


def _seal(body: str) -> str:
    return f"{FORMAT} {hashlib.sha256(body.encode()).hexdigest()}"
