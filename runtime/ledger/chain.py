"""The form of a ledger's lines, the chain of hashes that holds them together, and signing keys.

A line without `format` is of format 1, and is written so. A new kind of entry, or a further field
in `data`, needs no new format: an earlier release passes over both. A line that an earlier release
must not pass over has a later `format`, which refuses that release by name.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fleet.codec import decode_json
from fleet.errors import FleetError, require_known
from fleet.history import (
    Entry,
    EvalFinished,
    GateVerdict,
    History,
    JudgeCompared,
    KeyAccepted,
    LedgerEvent,
    Released,
    RolledBack,
    RolloutMarked,
    UpgradeDecided,
    anchored,
    data_of,
    event_of,
    public_key,
    sign,
)
from runtime.secrets import read_or_make_secret, read_secret
from runtime.state.home import HomeAddress

KEY_FILE: Final = "evidence.key"
"""File of the state folder, for its owner alone."""
SIGNED: Final = (
    GateVerdict, UpgradeDecided, EvalFinished, JudgeCompared, RolloutMarked, Released, RolledBack,
    KeyAccepted,
)  # fmt: skip
"""Events of entries that are signed: evidence, and what is decided by it or in spite of it."""


@dataclass(frozen=True)
class EntrySigner:
    """Signs entries; makes the key for the first one, where the state folder is the home."""

    state_dir: Path
    root: Path
    declared: str = ""
    """`env:NAME` or `file:PATH` of the secret; empty: the file of the state folder."""
    makes_key: bool = True
    """Whether a key is made where there is none: other checkouts would not have the key."""

    def signature(self, event: LedgerEvent, digest: bytes) -> str:
        """Return public key and signature for the line of an entry; empty: it is not signed.

        An entry is never held up by its key: unsigned, it passes no gate.
        """
        if not isinstance(event, SIGNED):
            return ""
        if self.makes_key and not self.declared:
            with suppress(OSError, FleetError):
                read_or_make_secret(self.state_dir / KEY_FILE)
        seed = self._seed()
        return f"{public_key(seed).hex()}:{sign(seed, digest).hex()}" if seed else ""

    @property
    def own(self) -> str:
        """The public key of this machine; empty: there is none."""
        seed = self._seed()
        return public_key(seed).hex() if seed else ""

    def made(self) -> str:
        """Return the public key of this machine, which is made where there is none and may be."""
        if not self.declared:
            read_or_make_secret(self.state_dir / KEY_FILE)
        return self.own

    def _seed(self) -> bytes:
        reference = self.declared or f"file:{(self.state_dir / KEY_FILE).absolute()}"
        secret = read_secret(self.root, reference)
        return _seed_of(secret) if secret else b""


def entry_signer(state_dir: Path, root: Path, home: HomeAddress, *, makes_key: bool) -> EntrySigner:
    """Return the signer by the declared key, or by that of the state folder.

    `makes_key`: a key is made where there is none, unless other checkouts have the same home.
    """
    makes = makes_key and home.is_state_folder
    return EntrySigner(state_dir, root, home.evidence_key, makes_key=makes)


def believed(history: History, signer: EntrySigner | None) -> History:
    """Return the history with the keys that this machine believes, by the key of its own.

    A key that was made here has signed an entry, so that a ledger without one is another.
    """
    if signer is None:
        return history
    is_made = not signer.declared and (signer.state_dir / KEY_FILE).exists()
    if not history.keys and not is_made:
        return history
    return replace(history, keys=anchored(history.keys, signer.own))


def public_of(secret: str) -> str:
    """Return the public key that stands for a secret, 64 hex digits."""
    return public_key(_seed_of(secret)).hex()


def _seed_of(secret: str) -> bytes:
    return hashlib.sha256(b"fleetctl evidence key\n" + secret.encode()).digest()


class DamagedLedgerError(FleetError):
    """A line of the ledger is not as written, so nothing is planned from the lines."""


FORMAT = 1
"""Newest format of a line that this release reads."""


def line(entry: Entry, signer: EntrySigner | None = None) -> tuple[bytes, str]:
    """Return the line of an entry with its newline, and the hash of the line.

    The hash is the SHA-256 of the line without the hash, so that checking costs no second encoding.
    A signature is of the SHA-256 of the line without both.
    """
    body = json.dumps(
        {
            "by": entry.by,
            "data": data_of(entry.event),
            "kind": entry.event.kind,
            "previous": entry.previous,
            "run": entry.run,
            "seq": entry.seq,
            "time": entry.time.astimezone(UTC).isoformat(timespec="milliseconds"),
            "token": entry.token,
        },
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )
    signed = signer and signer.signature(entry.event, hashlib.sha256(body.encode()).digest())
    if signed:
        body = f'{body[:-1]},"signed":"{signed}"}}'
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f'{body[:-1]},"hash":"{digest}"}}\n'.encode(), digest


def checked(text: bytes, number: int, home: str) -> dict[str, Any]:
    """Parse a line, without its newline, and check its own hash; `seq` and `hash` are there.

    The number of the line, from 1, and the home are for the error.

    Raises:
        FleetError: FC5102, the line is not what was written; FC5007, it is of a later format.
    """
    try:
        found: dict[str, Any] = decode_json(text)
        if found.get("format") is not None:
            require_known(found["format"], FORMAT, f"{home}:{number}" if number else home)
        digest, _ = found["hash"], found["seq"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise broken(home, number, "is not a ledger entry") from None
    end = f',"hash":"{digest}"}}'.encode()  # of which the hash knows nothing
    body = text.removesuffix(end) + b"}" if text.endswith(end) else b""
    if hashlib.sha256(body).hexdigest() != digest:
        raise broken(home, number, "was changed after it was written")
    return found


def entry(text: bytes, number: int, home: str) -> Entry:
    """Return the entry of a line that `checked` takes.

    Raises:
        FleetError: as `checked`; FC5102, a field is of another type.
    """
    return entry_of(checked(text, number, home), text, number, home)


def entry_of(found: dict[str, Any], text: bytes, number: int, home: str) -> Entry:
    """Return the entry of a parsed line whose hash is known to be right.

    Raises:
        FleetError: FC5102, a field is of another type.
    """
    try:
        return Entry(
            found["seq"],
            datetime.fromisoformat(found["time"]),
            event_of(found["kind"], found["data"]),
            found["run"],
            found["by"],
            found["token"],
            found["previous"],
            found["hash"],
            text,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise broken(home, number, "is not a ledger entry") from None


@dataclass(frozen=True, slots=True)
class LedgerPrefix:
    """The first lines of a ledger, proven to be an unbroken chain."""

    seq: int = 0
    """Number of lines."""
    hash: str = ""
    """Hash of the last line's entry."""
    size: int = 0
    """Bytes of the lines."""
    sha256: str = hashlib.sha256().hexdigest()
    """Digest of these bytes. The same bytes are the same chain, so no line is checked again. Empty:
    the home keeps written lines from changes, and `hash` stands for all.
    """


class ChainedEntries:
    """The entries of the lines after a prefix, read once and checked as an unbroken chain."""

    def __init__(
        self, lines: Iterable[bytes], home: str, start: LedgerPrefix, read: "hashlib._Hash | None"
    ) -> None:
        """Prepare; no line is read.

        `read`: the hash of the bytes of `start`; None: the home keeps no digest of its bytes.
        """
        self.lines, self._home, self._read = lines, home, read
        self._seq, self._hash, self._size = start.seq, start.hash, start.size
        self.start = start

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries.

        Raises:
            FleetError: FC5102, names the first line that does not belong; FC5007, the first line
                of a later format.
        """
        for line in self.lines:
            made = entry(line.removesuffix(b"\n"), self._seq + 1, self._home)
            if made.seq != self._seq + 1 or made.previous != self._hash:
                raise broken(self._home, self._seq + 1, "does not follow the line before it")
            self._seq, self._hash, self._size = made.seq, made.hash, self._size + len(line)
            if self._read is not None:
                self._read.update(line)
            yield made

    def hash_so_far(self) -> "hashlib._Hash | None":
        """Return a copy of the hash of all bytes that were read."""
        return None if self._read is None else self._read.copy()

    @property
    def end(self) -> LedgerPrefix:
        """The prefix with all entries that were read."""
        digest = "" if self._read is None else self._read.hexdigest()
        return LedgerPrefix(self._seq, self._hash, self._size, digest)


def entries(content: bytes, home: str) -> ChainedEntries:
    """Return the entries of whole lines, to be checked as an unbroken chain."""
    lines = (text + b"\n" for text in content.split(b"\n")[:-1])
    return ChainedEntries(lines, home, LedgerPrefix(), hashlib.sha256())


def continuing(last: Entry, lines: Sequence[bytes]) -> Iterator[Entry]:
    """Yield the entries of lines for as long as they follow the last entry in its chain."""
    for text in lines:
        try:
            found = entry(text, 0, "")
        except FleetError:
            return
        if (found.seq, found.previous) != (last.seq + 1, last.hash):
            return
        last = found
        yield found


def broken(home: str, number: int, what: str) -> DamagedLedgerError:
    """Return the error that names the line."""
    return DamagedLedgerError.of(
        "FC5102",
        "The ledger was tampered with",
        f"Line {number} of `{home}` {what}. The chain of hashes ends there, so nothing "
        "after it can be trusted: nothing is planned from it. A rollback still works.",
        hint="Put back the file from a backup. Without one, move it away and rebuild the "
        "ledger from what is live.",
        command="fleetctl adopt",
    )
