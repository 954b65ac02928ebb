"""Checks a bundle of OpenSSF model signing by public keys, and tells which bytes were signed.

The bundle names every signed file with its SHA-256, so that the digest of the version follows from
the bundle alone. Only the served files count: others may change, or be added later.
Source: the specification of OMS 1.0 (OpenSSF), DSSE 1.0, in-toto statement v1.
"""

import base64
import binascii
import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Final, Never

from fleet.codec import decode_json
from fleet.errors import LibraryError
from fleet.policies import SignedBytes
from runtime.confined import confined
from runtime.files import read_plain, unlinked
from runtime.library.layout import SERVED_FILES, SIGNATURE
from runtime.state_folder import manifest_text

_LARGEST_KEY: Final = 16 << 10
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
        content = read_plain(confined(root, file), _LARGEST_KEY)
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


_LARGEST: Final = 1 << 20
"""Upper bound of a bundle, which takes 300 bytes for a file. Bytes."""


def read_bundle(folder: Path) -> bytes | None:
    """Return the bundle beside the files of a version; None: there is none.

    Raises:
        LibraryError: FC3118, the file cannot be read.
    """
    path = folder / SIGNATURE
    try:
        return read_plain(unlinked(path), _LARGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        detail = f"`{path}`: {error.strerror or error}."
        hint = "Let your user read the folder and its files, then run the command again."
        raise LibraryError.of("FC3118", "Adapter cannot be read", detail, hint=hint) from error


def check_bundle(bundle: bytes, keys: Mapping[str, bytes]) -> SignedBytes:
    """Return the key that made a bundle, and the digest of the version that was signed.

    `keys`: PEM by fingerprint. A bundle that is damaged, or that no key made, names no key.

    Raises:
        LibraryError: FC3057, the extra `signing` is not installed.
    """
    taken = _taken_apart(bundle)
    if taken is None:
        return SignedBytes("")
    plain, payload = taken
    for fingerprint, pem in keys.items():
        if _is_made_by(pem, plain):
            return SignedBytes(fingerprint, _digest(payload))
    return SignedBytes("")


def _taken_apart(bundle: bytes) -> tuple[str, bytes] | None:
    """Return a bundle with the known fields alone, and the bytes that were signed.

    What is checked is then what is read: a field given twice, or under another name, is gone.
    """
    try:
        match decode_json(bundle):
            case {
                "mediaType": str(kind),
                "verificationMaterial": {"publicKey": dict(key)},
                "dsseEnvelope": {
                    "payload": str(text),
                    "payloadType": str(payload_type),
                    "signatures": [{"sig": str(signature)}],
                },
            }:
                payload = base64.b64decode(text, validate=True)
            case _:
                return None
    except (ValueError, RecursionError):  # of base64, too
        return None
    hint = key.get("hint")
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"sig": signature, "keyid": ""}],
    }
    material = {"publicKey": {"hint": hint if isinstance(hint, str) else None}, "tlogEntries": []}
    document = {"mediaType": kind, "verificationMaterial": material, "dsseEnvelope": envelope}
    return json.dumps(document), payload


class _SignatureHoldsError(Exception):
    """The signature is right, and the signed files would be hashed next."""


class _NoHashing:
    """Takes the place of the library's hashing, which begins once the signature is right.

    The library would hash all files that were signed, and the library of versions keeps some.
    """

    def add_ignored_paths(self, **_: Any) -> None:
        """Ignore nothing: nothing is hashed."""

    def hash(self, *_: Any, **__: Any) -> Never:
        """End the check."""
        raise _SignatureHoldsError


def _is_made_by(pem: bytes, bundle: str) -> bool:
    """Say whether a key made the signature of a bundle."""
    try:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 (the extra `signing`)
        from model_signing import verifying  # noqa: PLC0415
    except ImportError:
        raise LibraryError.of(
            "FC3057",
            "Package for signatures is missing",
            "A signature of a version is to be checked, which needs the package model-signing.",
            hint="Install it beside fleetctl: pip install 'model-signing>=1.1.1' 'pyopenssl>=25'",
        ) from None
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):  # it prints advice
        key, signature = Path(folder, "key.pem"), Path(folder, SIGNATURE)
        key.write_bytes(pem)
        signature.write_text(bundle, "utf-8")
        try:
            config: Any = verifying.Config  # its types are left out
            verifier = config().use_elliptic_key_verifier(public_key=key)
            verifier.set_hashing_config(_NoHashing()).verify(folder, signature)
        except _SignatureHoldsError:
            return True
        except (InvalidSignature, ValueError, KeyError, TypeError, AttributeError):
            return False
    return False


def _digest(payload: bytes) -> str:
    """Return the digest of a version with the signed bytes; empty: not all of them were signed."""
    try:
        predicate = decode_json(payload)["predicate"]
        if predicate["serialization"]["method"] != "files":
            return ""
        resources = predicate["resources"]
        signed = {its["name"]: its["digest"] for its in resources if its["algorithm"] == "sha256"}
        served = {name: str(signed[name]) for name in SERVED_FILES}
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return hashlib.sha256(manifest_text(served).encode()).hexdigest()
