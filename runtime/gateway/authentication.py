"""Who asks: the client whose key a request shows."""

from collections.abc import Sequence

from runtime.gateway import refusals
from runtime.gateway.routing import Lookup


def authenticated(lookup: Lookup, authorization: Sequence[str]) -> str:
    """Return the client that these headers prove.

    Raises:
        RefusalError: 401; also where there is more than one of them.
    """
    scheme, _, secret = authorization[0].partition(" ") if len(authorization) == 1 else ("",) * 3
    client = lookup.authenticate(secret.strip()) if scheme.lower() == "bearer" else None
    if client is None:
        raise refusals.unauthorized()
    return client
