"""API keys: made once, kept where their reference says, never shown again."""

import os
import secrets
import string
from contextlib import suppress
from math import log2
from pathlib import Path
from typing import Final

from fleet.codes import Sources
from fleet.errors import EngineError, FleetError
from runtime.files import make_private, plain_text

PREFIX = "fctl_"
"""Lets secret scanners find a key that was committed by mistake."""
FILLED: Final = Sources()
"""Values of the environment in all declarations that this process has read: nothing printed shows
them."""
_BYTES = 32
LEAST_BITS: Final = 128
"""Lower bound of the strength of a secret."""
_ALPHABETS = string.digits, string.ascii_lowercase, string.ascii_uppercase
_HEXADECIMAL = f"{string.digits}abcdef", f"{string.digits}ABCDEF"
_OTHERS = 33
"""Characters of ASCII beyond letters and digits."""
_FEW = 6
"""Different characters below which these alone count as the alphabet of a secret."""
_LARGEST_SECRET = 64 << 10
"""Upper bound of a secret's file. Unit: bytes."""


def read_secret(root: Path, reference: str) -> str | None:
    """Return the secret behind `env:NAME` or `file:path`; None where it cannot be read here.

    A path counts from `root`.
    """
    kind, _, where = reference.partition(":")
    if kind == "env":
        found = os.environ.get(where, "")
    else:
        try:
            found = plain_text(root / where, _LARGEST_SECRET)
        except (OSError, ValueError):
            return None
    return found.strip() or None


def is_weak(secret: str | None) -> bool:
    """Say whether a secret is estimated below 128 bits; one that is not readable here is not.

    Strength is the number of characters times the bits of their alphabet: hexadecimal digits, else
    digits, small letters, capital letters and others, as far as they occur. The prefix of our keys
    counts nothing. Words count as random letters, so that a phrase looks stronger than it is.
    """
    if secret is None:
        return False
    text = secret.removeprefix(PREFIX)
    used = {*text}
    size = sum(len(alphabet) for alphabet in _ALPHABETS if used & {*alphabet})
    size += _OTHERS * bool(used.difference(*_ALPHABETS))
    if len(used) < _FEW:
        size = len(used)
    elif any(used <= {*alphabet} for alphabet in _HEXADECIMAL):
        size = min(size, len(_HEXADECIMAL[0]))
    return len(text) * log2(max(size, 1)) < LEAST_BITS


def secret_unreadable(reference: str = "", server: str = "") -> EngineError:
    """Return the error of a secret that servers ask for and that cannot be read here.

    `reference`: of the key of the attached server `server`; empty: that of `servers_secret`.
    """
    detail = "What `servers_secret` names, of which keys are made, is empty or not readable here."
    hint = "Put the secret of the fleet there: with another one, servers that run refuse the keys."
    if reference:
        detail = f"`{reference}`, the `api_key` of `{server}`, is empty or not readable here."
        hint = "Put the key there that the server was started with."
    return EngineError.of("FC4025", "The secret of servers cannot be read", detail, hint=hint)


def make_key() -> str:
    """Return a new API key: 256 random bits."""
    return PREFIX + secrets.token_urlsafe(_BYTES)


def write_secret(secret: str, path: Path) -> None:
    """Write a secret to a new file that only its owner can read.

    Raises:
        FleetError: there is such a file, which holds a key that may be in use.
    """
    make_private(path.parent)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        detail = f"`{path}` is there and may be in use; it is not overwritten."
        hint = "To rotate, declare a second key, apply, move the client over, and remove the first."
        raise FleetError.of("FC6011", "The key exists already", detail, hint=hint) from None
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(secret + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_or_make_secret(path: Path) -> str:
    """Return the secret in a file; empty: the file is empty or no text.

    A file that is not there is made, whole or not at all.
    """
    if not path.is_file():
        scratch = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        write_secret(make_key(), scratch)
        with suppress(FileExistsError):  # another process has just made it
            path.hardlink_to(scratch)
        scratch.unlink()
    with suppress(ValueError):  # not UTF-8
        return plain_text(path).strip()
    return ""
