"""Tells whether an entry of the ledger is signed by an accepted key.

Entries that decide are signed by their writer's key: verdicts, evaluations, marks, releases. The
signature is of the SHA-256 of the line without it, so that it stands for text, number, time, author
and, by the hash of the entry before, for the whole ledger up to there.

The first signed entry names the first key. A key accepts another by an entry that it signs.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final

from nacl.exceptions import CryptoError
from nacl.signing import SigningKey, VerifyKey

from fleet.codec import optional
from fleet.history.apply_events import PassiveEvent

_SIGNED: Final = re.compile(
    rb',"signed":"([0-9a-f]{64}):([0-9a-f]{128})","hash":"[0-9a-f]{64}"\}', re.DOTALL
)
_LENGTH: Final = 280
"""Bytes of the end of a signed line."""
_SHOWN: Final = 12
"""Digits of a key that people are shown."""


def public_key(seed: bytes) -> bytes:
    """Return the public key of a seed of Ed25519."""
    return bytes(SigningKey(seed).verify_key)


def sign(seed: bytes, message: bytes) -> bytes:
    """Return the signature of a message by the key of a seed."""
    return SigningKey(seed).sign(message).signature


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether a signature is of this message by this public key."""
    try:
        VerifyKey(public).verify(message, signature)
    except (CryptoError, ValueError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class KeyAccepted(PassiveEvent):
    """A key that may sign from now on; the entry is signed by a key that may."""

    kind: ClassVar[str] = "key_accepted"
    key: str = ""
    """Public key, 64 hex digits."""
    replaces: bool = False
    """Whether the key of the signature signs nothing from now on."""
    lost: str | None = optional()
    """Why no earlier key could sign this entry, by a person; None: an earlier key signed it.

    Such an entry is signed by the new key itself, and ends all others."""


@dataclass(frozen=True, slots=True)
class KeyTerm:
    """The entries that a key may have signed."""

    since: int
    """Number of the first."""
    until: int | None = None
    """Number of the first later entry that the key may not sign; None: there is none."""

    lost: bool = False
    """Whether the key ended without its own signature."""

    def covers(self, seq: int) -> bool:
        """Say whether the key may have signed an entry."""
        return self.since <= seq and (self.until is None or seq < self.until)


@dataclass(frozen=True, slots=True)
class Signature:
    """The signature of an entry, in hex digits."""

    key: str
    """The public key."""
    value: str
    digest: str
    """SHA-256 of the line without signature and hash, which is signed."""

    def is_valid(self) -> bool:
        """Say whether the key made this signature of this entry."""
        return _is_valid(self.key, self.value, self.digest)


@lru_cache(maxsize=1 << 14)
def _is_valid(key: str, value: str, digest: str) -> bool:
    return is_signed(bytes.fromhex(key), bytes.fromhex(digest), bytes.fromhex(value))


def signature_of(line: bytes) -> Signature | None:
    """Return the signature in a line of the ledger, without its newline; None: there is none."""
    found = _SIGNED.fullmatch(line[-_LENGTH:])
    if found is None:
        return None
    digest = hashlib.sha256(line[:-_LENGTH] + b"}").hexdigest()
    return Signature(found[1].decode(), found[2].decode(), digest)


def keys_after(
    keys: Mapping[str, KeyTerm], seq: int, event: object, signature: Signature | None
) -> Mapping[str, KeyTerm]:
    """Return the accepted keys after an entry. Entries that name no key cost nothing."""
    if signature is None or (keys and not isinstance(event, KeyAccepted)):
        return keys
    signer = KeyTerm(seq) if not keys else keys.get(signature.key)
    if not signature.is_valid():
        return keys
    found = keys or {signature.key: KeyTerm(seq)}
    match event:
        case KeyAccepted(lost=str(), key=signature.key) if keys:
            ended = {
                key: its if its.until else KeyTerm(its.since, seq, lost=True)
                for key, its in keys.items()
            }
            return {**ended, signature.key: KeyTerm(seq)}
        case KeyAccepted(lost=None, key=key, replaces=replaces) if signer and signer.covers(seq):
            ended = {signature.key: KeyTerm(signer.since, seq + 1)} if replaces else {}
            since = keys[key].since if key in keys else seq
            return {**found, **ended, key: KeyTerm(since)}
        case _:
            return found


def distrust(keys: Mapping[str, KeyTerm], seq: int, signature: Signature | None) -> str:
    """Return why an entry is not believed, as a sentence without its full stop; empty: it is.

    Entries from before the first signed entry are believed.
    """
    if signature is not None and not keys and not signature.is_valid():
        return "its signature is of another entry"
    if not keys or seq < min(its.since for its in keys.values()):
        return ""
    if signature is None:
        return "it is not signed, and entries of its kind before it are"
    term = keys.get(signature.key)
    if term is None or not term.covers(seq):
        return f"it is signed by key {shown_key(signature.key)}, which is not accepted"
    return "" if signature.is_valid() else "its signature is of another entry"


def shown_key(key: str) -> str:
    """Return the first digits of a public key, for people."""
    return key[:_SHOWN]


def anchored(keys: Mapping[str, KeyTerm], own: str) -> Mapping[str, KeyTerm]:
    """Return the accepted keys as a machine with a key of its own believes them.

    A ledger that does not accept this key now, or no longer has a signed entry, was written by
    others: the key alone is believed then. `own`: public key; empty: the machine has none.
    """
    term = keys.get(own)
    if not own or (term is not None and not term.lost):
        return keys
    return {own: KeyTerm(min((its.since for its in keys.values()), default=1))}
