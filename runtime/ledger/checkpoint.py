"""The folded ledger, kept in a file: a command folds what was appended since, and no more.

Beside the fold are the entries that still count (`fleet.history.kept_entries`), for what a command
looks up in entries.

A cache, never the truth. A checkpoint names the bytes that it was folded from, by their digest.
Where the ledger does not begin with just these bytes, or the file is damaged or of other code, all
of the ledger is proven and folded again, and the file is replaced.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import accumulate, islice
from pathlib import Path
from typing import Final

import fleet
from fleet.codec import decode, decode_json
from fleet.history import (
    Entry,
    History,
    fold_entries,
    history_document,
    history_of,
    standing_entries,
)
from runtime.files import LARGEST_LOG, make_private, read_plain, replace_file
from runtime.ledger import chain
from runtime.ledger.chain import LedgerPrefix
from runtime.ledger.protocol import Ledger

CHECKPOINT_FILE: Final = "ledger-checkpoint.json"
EVERY: Final = 500
"""Entries after which a checkpoint is replaced. Upper bound of what a command folds, some 40 ms."""
_BATCH: Final = 10_000
"""Entries that are in memory at most while a long ledger is folded, beside those that count."""
_FOLDING: Final = "*.py", "history/*.py", "gates/*.py"
"""Files of `fleet` by which entries are decoded and folded."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A history, and the lines of the ledger that were folded."""

    prefix: LedgerPrefix = field(default_factory=LedgerPrefix)
    history: History = field(default_factory=History)
    lines: tuple[bytes, ...] = ()
    """Of the folded entries those that count; of the newest, which are not sifted yet, all."""

    def entries(self) -> list[Entry]:
        """Return the entries of `lines`, which answer commands as all entries do.

        The lines were proven before they came here, so they are parsed at once and not hashed.
        """
        parsed = json.loads(b"[%b]" % b",".join(self.lines))
        pairs = zip(parsed, self.lines, strict=True)
        return [chain.entry_of(found, line, 0, CHECKPOINT_FILE) for found, line in pairs]

    def then(self, batch: Sequence[Entry]) -> "Checkpoint":
        """Return the checkpoint with entries that follow."""
        lines = (*self.lines, *(one.line for one in batch))
        return replace(self, history=fold_entries(batch, self.history), lines=lines)

    def sifted(self) -> "Checkpoint":
        """Return the checkpoint with the entries that count, and no others."""
        kept = standing_entries(self.entries(), self.history)
        return replace(self, lines=tuple(one.line for one in kept))


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
        lines = tuple(line.encode() for line in document["standing"])
        return Checkpoint(prefix, history_of(document["history"]), lines)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Checkpoint()


def write_checkpoint(folder: Path, made: Checkpoint) -> None:
    """Replace the checkpoint; readers find the old or the new one, whole.

    Raises:
        OSError: it cannot be written.
    """
    history = history_document(made.history)
    document = {"code": _code(), "prefix": asdict(made.prefix), "history": history}
    document["standing"] = [line.decode() for line in made.lines]
    body = json.dumps(document, separators=(",", ":")).encode()  # in the order of the fold
    make_private(folder)
    replace_file(folder / CHECKPOINT_FILE, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def fold_on(known: Checkpoint, home: Ledger, progress: list[int]) -> Checkpoint:
    """Return the ledger folded, from a checkpoint on where the ledger begins with its bytes."""
    entries = home.since(known.prefix)
    made = known if entries.start == known.prefix else Checkpoint()
    news = reported(entries, progress)
    while batch := list(islice(news, _BATCH)):
        made = made.then(batch)
        if len(batch) == _BATCH:
            made = made.sifted()
    return replace(made, prefix=entries.end)


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
    return kept != Checkpoint(prefix).then(entries[:count]).sifted()


@cache
def _code() -> str:
    """Return the digest of the code that folds: another release makes a checkpoint of its own."""
    digest = hashlib.sha256()
    for file in sorted(path for name in _FOLDING for path in Path(fleet.__path__[0]).glob(name)):
        with suppress(OSError):
            digest.update(file.read_bytes())
    return digest.hexdigest()
