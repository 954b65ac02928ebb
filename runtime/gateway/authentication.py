"""Who asks: the client whose key a request shows, or the operator."""

import hashlib
from collections.abc import Sequence
from typing import Final

from runtime.gateway import refusals
from runtime.gateway.routing import Asker, Lookup

PURPOSES: Final = ("eval", "smoke", "shadow")
"""What the operator may ask for; the first is meant where nothing is said."""
OPERATOR: Final = Asker("", b"", is_operator=True)


def digest(secret: str) -> bytes:
    """Return the SHA-256 of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def as_bearer(key: str) -> str:
    """Return the value of `x-api-key` as `Authorization` would have it."""
    return f"Bearer {key}"


class Proof:
    """What a head shows to say who asks; remembers the answer for as long as the keys hold.

    Heads repeat on a connection, and with them the key: to hash it once for a table is enough.
    """

    __slots__ = ("_asker", "_digest", "shown")

    def __init__(self) -> None:
        """Begin with nothing shown."""
        self.shown: list[str] = []
        """The values of all headers `Authorization`, and of `x-api-key` as if given there."""
        self._asker = OPERATOR
        self._digest = ""
        """Of the table that was asked; a table that has been replaced must not be kept alive."""

    def asker(self, lookup: Lookup, operator: bytes) -> Asker:
        """Return who asks, as `authenticated` does.

        Raises:
            RefusalError: 401.
        """
        if self._digest != lookup.digest:
            self._asker = authenticated(lookup, self.shown, operator)
            self._digest = lookup.digest
        return self._asker


def authenticated(lookup: Lookup, authorization: Sequence[str], operator: bytes = b"") -> Asker:
    """Return who these headers prove to ask.

    Args:
        lookup: With the clients' keys.
        authorization: The values of all headers of that name.
        operator: SHA-256 of the operator's secret; empty: there is none.

    Raises:
        RefusalError: 401; also where there is more than one of them.
    """
    scheme, _, secret = authorization[0].partition(" ") if len(authorization) == 1 else ("",) * 3
    if scheme.lower() == "bearer":
        shown = digest(secret.strip())
        found = lookup.authenticate(shown)
        if found is not None:
            return found
        if operator and shown == operator:
            return OPERATOR
    raise refusals.unauthorized()
