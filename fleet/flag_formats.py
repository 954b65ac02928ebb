"""Hashes the flags of a server, in the format that a known digest is written in.

A digest says its own format: format 1 is twelve hex digits alone, a later format puts its number
and a point before the digits. A running server is compared in the format of its own digest, so
that a release that hashes otherwise replaces no server.

How a later release adds format N:
- put into `FORMATS` a function from the flags to what is hashed of them;
- let the functions of the formats before leave out what format N adds, where that has its default;
- start a server with a new default flag only where its digest is of format N or later.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

Hashed = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""From all flags, by the names of their fields, to what a format hashes of them."""

FORMATS: Mapping[int, Hashed] = MappingProxyType({1: dict})
"""Each format that this release knows; a format never changes."""


def digest_of(
    flags: Mapping[str, Any],
    version: int | None = None,
    formats: Mapping[int, Hashed] = FORMATS,
) -> str:
    """Return the digest of a server's flags.

    Args:
        flags: By the names of their fields.
        version: Format of the digest; None: the newest.
        formats: Those that are known.

    Returns:
        Empty where the format is not known.
    """
    number = max(formats) if version is None else version
    if number not in formats:
        return ""
    canonical = json.dumps(formats[number](flags), sort_keys=True, separators=(",", ":"))
    digits = hashlib.sha256(canonical.encode()).hexdigest()[:12]
    return digits if number == 1 else f"{number}.{digits}"


def format_of(digest: str | None) -> int:
    """Return the format of a digest; a server without one counts as format 1."""
    number, point, _ = (digest or "").partition(".")
    return int(number) if point and number.isdecimal() else 1


def differing(
    wished: Mapping[str, Any],
    running: Mapping[str, Any],
    version: int,
    formats: Mapping[int, Hashed] = FORMATS,
) -> tuple[str, ...]:
    """Return the names under which two sets of flags differ in a format, in their order.

    What only a later format adds is no difference. In a format that is not known, nothing is.
    """
    hashed = formats.get(version, _nothing)
    left, right = hashed(wished), hashed(running)
    absent = object()
    return tuple(
        name
        for name in dict.fromkeys((*left, *right))
        if left.get(name, absent) != right.get(name, absent)
    )


def outdated(
    digests: Mapping[str, str | None], formats: Mapping[int, Hashed] = FORMATS
) -> tuple[str, ...]:
    """Return a note for each server whose flags are of an earlier format than the newest.

    Args:
        digests: Server to the digest of its flags; None: started by others.
        formats: Those that are known.
    """
    newest = max(formats)
    return tuple(
        f"{name} runs flags of format {found}; what format {newest} adds takes effect at its "
        "next restart by a plan"
        for name, digest in sorted(digests.items())
        if digest is not None and (found := format_of(digest)) < newest
    )


def _nothing(_: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is compared in a format that is not known."""
    return {}
