"""Requests of which a copy is to be made for a version that answers nobody."""

import secrets
from typing import Final, NamedTuple

from runtime.gateway.bodies import SMALL
from runtime.gateway.refusals import RefusalError
from runtime.gateway.rewrite import Body
from runtime.gateway.routing import Choice
from runtime.gateway.shared import Shared

_ALL: Final = 100


class Drawn(NamedTuple):
    """What is kept of such a request until its copy begins."""

    choice: Choice
    """The version that gets the copy."""
    body: Body
    held: int
    """Bytes that are counted for it, in the name of the client."""

    def begins(self, shared: Shared) -> bool:
        """Say whether the copy may begin now; if not, nothing is kept for it any longer."""
        if shared.admission.copy(self.choice.alias, self.choice.policy):
            return True
        self.drop(shared)
        return False

    def drop(self, shared: Shared) -> None:
        """Count what is kept for it no longer."""
        if self.held:
            shared.copied.give_back(self.choice.client, self.held)


def draw(shared: Shared, shadow: Choice, body: Body, size: int) -> Drawn | None:
    """Decide whether a request is to be copied; None: it is not.

    Args:
        shared: Of the gateway.
        shadow: The version that would get the copy.
        body: The request, whose bytes are kept for the copy beside what the first server gets.
        size: Of the body in bytes. Copies have room of their own; without it this one is left out.
    """
    wanted = shadow.policy.shadow
    if wanted is None or secrets.randbelow(_ALL) >= wanted.percent:
        return None
    if size <= SMALL:
        return Drawn(shadow, body, 0)
    try:
        shared.copied.take(shadow.client, size)
    except RefusalError:
        return None
    return Drawn(shadow, body, size)
