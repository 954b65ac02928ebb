"""Which client, or the operator, sent a request: API keys against the routing table."""

import hashlib
from collections.abc import Sequence
from typing import Final

from runtime.gateway import errors
from runtime.gateway.routing import Principal, RouteTable

OPERATOR_PURPOSES: Final = ("eval", "smoke", "shadow")
"""Purposes that the operator may name; the first is the default."""
OPERATOR: Final = Principal("", b"", is_operator=True)


def digest(secret: str) -> bytes:
    """Return the SHA-256 of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


class Credentials:
    """The keys in the head of a request, and their principal for as long as a table holds.

    Heads repeat on a connection, and with them the key: one hash for a table is enough.
    """

    __slots__ = ("principal", "table_digest", "values")

    def __init__(self) -> None:
        """Begin with no key."""
        self.values: list[str] = []
        """Values of all headers `Authorization`, and of `x-api-key` as bearer tokens."""
        self.principal = OPERATOR
        """Counts only for the table of `table_digest`."""
        self.table_digest = ""
        """Of the table that was asked; the table itself must not be kept alive."""

    def add_api_key(self, key: str) -> None:
        """Add the value of a header `x-api-key`."""
        self.values.append(f"Bearer {key}")

    def authenticate(self, table: RouteTable, operator: bytes) -> Principal:
        """Set and return the principal, as the function `authenticate` finds it.

        Raises:
            ApiError: 401.
        """
        if self.table_digest != table.digest:
            self.principal = authenticate(table, self.values, operator)
            self.table_digest = table.digest
        return self.principal


def authenticate(
    table: RouteTable, authorization: Sequence[str], operator: bytes = b""
) -> Principal:
    """Return the client whose key a request shows, or the operator.

    Args:
        table: With the clients' keys.
        authorization: Values of all headers of that name.
        operator: SHA-256 of the operator's secret; empty: there is none.

    Raises:
        ApiError: 401, also where there is more than one value.
    """
    scheme, _, secret = authorization[0].partition(" ") if len(authorization) == 1 else ("",) * 3
    if scheme.lower() == "bearer":
        shown = digest(secret.strip())
        principal = table.principals.get(shown)
        if principal is not None:
            return principal
        if operator and shown == operator:
            return OPERATOR
    raise errors.unauthorized()
