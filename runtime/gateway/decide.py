"""Which version answers a request: whose alias it is, and on which side of a split it falls."""

import secrets
from typing import NamedTuple

from fleet.traffic import Sticky
from runtime.gateway import refusals
from runtime.gateway.rewrite import Body
from runtime.gateway.routing import Alias, Asker, Choice, Lookup

# Python 3.11 takes ten times as long for a member of an enumeration as for a name.
_SESSION, _USER, _KEY = Sticky.SESSION, Sticky.USER, Sticky.KEY


class Decision(NamedTuple):
    """What a request comes to."""

    alias: Alias
    choice: Choice
    """The version that answers."""
    user: bytes = b""
    """The user or session whom the split keeps on one version; empty: the request names none, or
    the split goes by something else."""


def decide(lookup: Lookup, asker: Asker, body: Body, session: str, version: str = "") -> Decision:
    """Return the alias that is asked for and the version that answers.

    Args:
        lookup: The table of this moment.
        asker: Who asks; the operator may ask for anybody's alias and name a version of it.
        body: The request.
        session: The header X-Session-Id, empty if it was not given.
        version: Such as `2.2.0`; only the operator's counts.

    Raises:
        RefusalError: 404 for a model that is not this client's, or a version that is not there.
    """
    if asker.is_operator:
        alias = lookup.find_any(body.model)
        choice = alias.version(version) if alias is not None and version else None
        if alias is None or (version and choice is None):
            raise refusals.no_such_model()
        return Decision(alias, choice or alias.choose(secrets.token_bytes(16)))
    alias = lookup.find(asker.client, body.model)
    if alias is None:
        raise refusals.no_such_model()
    if alias.sticky == _KEY:
        return Decision(alias, alias.choose(asker.key))
    user = _user(alias.sticky, body, session)
    return Decision(alias, alias.choose(user or secrets.token_bytes(16)), user)


def _user(policy: Sticky, body: Body, session: str) -> bytes:
    """Return who is to stay on one side of a split; empty: nobody is named, chance decides."""
    named = None
    if policy == _SESSION:
        named = session or body.session or body.user
    elif policy == _USER:
        named = body.user
    return named.encode("utf-8", "surrogateescape") if named else b""
