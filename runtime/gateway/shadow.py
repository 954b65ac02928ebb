"""Shadow traffic: requests that are copied for a version whose answers no client gets."""

import secrets
from typing import Final, NamedTuple

from runtime.gateway.body import RequestBody
from runtime.gateway.errors import ApiError
from runtime.gateway.limits import UNCOUNTED_BYTES
from runtime.gateway.routing import RouteTarget
from runtime.gateway.state import GatewayState

_ALL: Final = 100
"""Percent."""


class ShadowSample(NamedTuple):
    """A request that is to be copied, kept until its copy begins."""

    target: RouteTarget
    """The version that gets the copy."""
    body: RequestBody
    held: int
    """Bytes that count for the sample, in the name of the client."""

    def begin(self, state: GatewayState) -> bool:
        """Say whether the copy may begin now; if not, the sample is dropped."""
        if state.admission.begin_shadow(self.target):
            return True
        self.drop(state)
        return False

    def drop(self, state: GatewayState) -> None:
        """Release the memory of the sample."""
        if self.held:
            state.shadow_memory.release(self.target.client, self.held)


def sample(
    state: GatewayState, target: RouteTarget, body: RequestBody, size: int
) -> ShadowSample | None:
    """Decide whether a request is copied; None: it is not.

    Args:
        state: Of the gateway.
        target: The version that would get the copy.
        body: Of the request; its bytes stay in memory for the copy.
        size: Of the body in bytes. Copies have a memory budget of their own; a request for which
            it has no room is not copied.
    """
    shadow = target.policy.shadow
    if shadow is None or secrets.randbelow(_ALL) >= shadow.percent:
        return None
    if size <= UNCOUNTED_BYTES:
        return ShadowSample(target, body, 0)
    try:
        state.shadow_memory.acquire(target.client, size)
    except ApiError:
        return None
    return ShadowSample(target, body, size)
