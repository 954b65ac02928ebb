"""The folded ledger, kept in a file: a plan folds what was appended since, and no more.

A cache, never the truth. A checkpoint names the bytes that it was folded from, by their digest.
Where the ledger does not begin with just these bytes, or the file is damaged or of other code, all
of the ledger is proven and folded again, and the file is replaced.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Final

import fleet
from fleet.decoding import decode
from fleet.encoding import decode_json
from fleet.history import Entry, History, fold_entries, history_document, history_of
from runtime.files import LARGEST_LOG, make_private, read_plain, replace_file
from runtime.ledger.chain import LedgerPrefix
from runtime.ledger.protocol import Ledger

CHECKPOINT_FILE: Final = "ledger-checkpoint.json"
EVERY: Final = 500
"""Entries after which a checkpoint is replaced. Upper bound of what a plan folds, about 40 ms."""
_FOLDING: Final = "*.py", "history/*.py", "gates/*.py"
"""Files of `fleet` by which entries are decoded and folded."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A history, and the lines of the ledger that were folded."""

    prefix: LedgerPrefix = field(default_factory=LedgerPrefix)
    history: History = field(default_factory=History)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Return the checkpoint; an empty one where there is none that this code has written whole."""
    try:
        digest, _, body = read_plain(folder / CHECKPOINT_FILE, LARGEST_LOG).partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            return Checkpoint()
        document = decode_json(body)
        if document["code"] != _code():
            return Checkpoint()
        prefix = decode(LedgerPrefix, document["prefix"], "prefix")
        return Checkpoint(prefix, history_of(document["history"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Checkpoint()


def write_checkpoint(folder: Path, made: Checkpoint) -> None:
    """Replace the checkpoint; readers find the old or the new one, whole.

    Raises:
        OSError: it cannot be written.
    """
    history = history_document(made.history)
    document = {"code": _code(), "prefix": asdict(made.prefix), "history": history}
    body = json.dumps(document, separators=(",", ":")).encode()  # in the order of the fold
    make_private(folder)
    replace_file(folder / CHECKPOINT_FILE, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def fold_on(known: Checkpoint, home: Ledger, progress: list[int]) -> Checkpoint:
    """Return the ledger folded, from a checkpoint on where the ledger begins with its bytes."""
    entries = home.since(known.prefix)
    before = known.history if entries.start == known.prefix else None
    history = fold_entries(reported(entries, progress), before)
    return Checkpoint(entries.end, history)


def reported(entries: Iterable[Entry], progress: list[int]) -> Iterator[Entry]:
    """Yield entries and note the number of the last: a long ledger is no home that hangs."""
    for entry in entries:
        progress[:] = [entry.seq]
        yield entry


def is_forged(folder: Path, home: Ledger, entries: Sequence[Entry]) -> bool:
    """Say whether plans use a checkpoint that was edited: the entries amount to another one.

    `entries`: all of the ledger, proven.
    """
    kept = read_checkpoint(folder)
    size = kept.prefix.size
    if not kept.prefix.seq or home.since(kept.prefix).start != kept.prefix:
        return False
    ends = list(accumulate(len(entry.line) + 1 for entry in entries))
    count = ends.index(size) + 1 if size in ends else 0
    last = entries[count - 1].hash if count else ""
    prefix = LedgerPrefix(count, last, size, kept.prefix.sha256)
    return kept != Checkpoint(prefix, fold_entries(entries[:count]))


@cache
def _code() -> str:
    """Return the digest of the code that folds: another release makes a checkpoint of its own."""
    digest = hashlib.sha256()
    for file in sorted(path for name in _FOLDING for path in Path(fleet.__path__[0]).glob(name)):
        with suppress(OSError):
            digest.update(file.read_bytes())
    return digest.hexdigest()
