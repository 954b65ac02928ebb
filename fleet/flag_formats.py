"""Hashes the flags of a server, in the format that a known digest is written in.

A digest names its format: format 1 is twelve hex digits alone, a later format puts its number
and a point before the digits. A running server is compared in the format of its own digest, so
that a release with another hash replaces no server.

How a later release adds format N:
- put into `FORMATS` a function from all flags to the hashed flags;
- let the functions of earlier formats leave out a flag of format N that has its default;
- start a server with a new default flag only where its digest is of format N or later.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

Hashed = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Function from all flags, by the names of their fields, to the flags that a format hashes."""


def _without_default(flags: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave `image` out where a server has none: earlier releases knew no image."""
    return {name: value for name, value in flags.items() if name != "image" or value}


FORMATS: Mapping[int, Hashed] = {1: _without_default}
"""Formats that this release knows; the digest of given flags in a format never changes."""


def digest_of(
    flags: Mapping[str, Any],
    version: int | None = None,
    formats: Mapping[int, Hashed] = FORMATS,
) -> str:
    """Return the digest of flags, by the names of their fields, in a format; None: the newest.

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
    return int(number[:9]) if point and number.isdecimal() else 1


def differing(
    desired: Mapping[str, Any],
    running: Mapping[str, Any],
    version: int,
    formats: Mapping[int, Hashed] = FORMATS,
) -> tuple[str, ...]:
    """Return the names of the flags that differ in a format, in their order.

    A flag that only a later format adds is no difference. In an unknown format no flag differs.
    """
    if version not in formats:
        return ()
    left, right = formats[version](desired), formats[version](running)
    absent = object()
    return tuple(
        name
        for name in dict.fromkeys((*left, *right))
        if left.get(name, absent) != right.get(name, absent)
    )


def outdated(
    digests: Mapping[str, str | None], formats: Mapping[int, Hashed] = FORMATS
) -> tuple[str, ...]:
    """Return notes on servers whose flags are of an earlier format than the newest.

    `digests` has the flags' digest by server; None: a server that others started.
    """
    newest = max(formats)
    return tuple(
        f"{name} runs flags of format {found}; what format {newest} adds takes effect at its "
        "next restart by a plan"
        for name, digest in sorted(digests.items())
        if digest is not None and (found := format_of(digest)) < newest
    )
