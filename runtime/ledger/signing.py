"""Signs the entries of a ledger that decide, with a key of this machine or a declared secret."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fleet.errors import FleetError
from fleet.history import (
    EvalFinished,
    GateJudged,
    History,
    JudgeCompared,
    KeyAccepted,
    LedgerEvent,
    Released,
    RolledBack,
    RolloutMarked,
    UpgradeFields,
    anchored,
    public_key,
    sign,
)
from runtime.secrets import read_or_make_secret, read_secret
from runtime.state.home import HomeAddress

KEY_FILE: Final = "evidence.key"
"""File of the state folder, for its owner alone."""
SIGNED: Final = (
    GateJudged, UpgradeFields, EvalFinished, JudgeCompared, RolloutMarked, Released, RolledBack,
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
