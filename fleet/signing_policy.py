"""Defines the keys that sign versions, and the state of the signature of a version on a day."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum


class SignatureState(StrEnum):
    """The worth of a version's signature."""

    VERIFIED = "verified"
    """A declared key signed the bytes of the version."""
    UNSIGNED = "unsigned"
    UNKNOWN_KEY = "unknown_key"
    """No declared key made the signature."""
    CHANGED = "changed"
    """A declared key signed other bytes."""
    EXPIRED = "expired"
    """The key's last day has passed."""


@dataclass(frozen=True, slots=True)
class SigningKeySpec:
    """A declared public key."""

    name: str
    fingerprint: str
    """SHA-256 of the key in DER, 64 hex digits."""
    until: date | None = None
    """The last day (UTC) on which its signatures count; None: no end."""


@dataclass(frozen=True, slots=True)
class SignedBytes:
    """The content of a signature that was checked: a key, and the bytes that the key signed."""

    key: str
    """Fingerprint; empty: no declared key made the signature."""
    digest: str = ""
    """Digest of a version with these bytes; empty: not known."""


@dataclass(frozen=True, slots=True)
class VersionSignature:
    """A key that signed a version, and whether its very bytes; as in fleet.lock."""

    key: str
    """Fingerprint; empty: no key that was declared then made the signature."""
    matches: bool
    """Whether the key signed the bytes of the version."""


@dataclass(frozen=True, slots=True)
class SigningSpec:
    """The declared keys, and the signatures in fleet.lock."""

    keys: tuple[SigningKeySpec, ...] = ()
    """Sorted by name."""
    versions: Mapping[str, VersionSignature] = field(default_factory=dict)
    """By full name of the version; versions without a signature are left out."""

    def key(self, fingerprint: str) -> SigningKeySpec | None:
        """Return the declared key with a fingerprint; the latest of several under other names."""
        found = [key for key in self.keys if key.fingerprint == fingerprint]
        return max(found, key=lambda key: key.until or date.max, default=None)

    def state(self, version: str, today: date) -> SignatureState:
        """Return the state of a version's signature on a day (UTC)."""
        signature = self.versions.get(version)
        if signature is None:
            return SignatureState.UNSIGNED
        key = self.key(signature.key)
        if key is None:
            return SignatureState.UNKNOWN_KEY
        if not signature.matches:
            return SignatureState.CHANGED
        if key.until is not None and key.until < today:
            return SignatureState.EXPIRED
        return SignatureState.VERIFIED
