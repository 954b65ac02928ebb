"""Reads public keys of elliptic curves, in PEM; without a cryptographic library."""

import base64
import binascii
import hashlib
import re
from pathlib import Path
from typing import Final

from runtime.confined import confined
from runtime.files import read_plain

_LARGEST: Final = 16 << 10
"""Upper bound of a key's file. Bytes."""
_BLOCK: Final = re.compile(
    rb"-----BEGIN PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]+?)\s+-----END PUBLIC KEY-----"
)
_ELLIPTIC: Final = bytes.fromhex("06072a8648ce3d0201")
"""Object identifier of keys of elliptic curves, in DER. Source: RFC 5480, section 2.1.1."""


def read_key(root: Path, file: str) -> bytes | None:
    """Return the PEM of a key of the project; None: there is no such key in the file.

    Raises:
        ConfigError: FC1285, the path leads out of the project.
    """
    try:
        content = read_plain(confined(root, file), _LARGEST)
    except OSError:
        return None
    return content if fingerprint(content) else None


def key_in(root: Path, file: str) -> str | None:
    """Return the fingerprint of a key of the project; None: there is no such key in the file."""
    pem = read_key(root, file)
    return fingerprint(pem) if pem else None


def fingerprint(pem: bytes) -> str | None:
    """Return the SHA-256 of a key in DER; None: the text is not a single key of a curve.

    As of `openssl pkey -pubin -in KEY -outform der | sha256sum`.
    """
    blocks = _BLOCK.findall(pem)
    if len(blocks) != 1:
        return None
    try:
        der = base64.b64decode(b"".join(blocks[0].split()), validate=True)
    except binascii.Error:
        return None
    return hashlib.sha256(der).hexdigest() if _ELLIPTIC in der[:16] else None
