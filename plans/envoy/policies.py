"""Traffic policies in Envoy's words: what keeps a user, how long an answer may take, limits."""

from collections.abc import Iterable, Iterator
from typing import Final

from fleet.resources import Route
from fleet.traffic import Policy, Sticky
from plans.envoy.filters import STICKY
from plans.envoy.wire import CLIENT, Json, seconds, typed

_TOTAL_S: Final = 3600.0
_IDLE_S: Final = 600.0
"""Longest silence of a server while it generates, where nothing else is declared."""
_MINUTE_S: Final = 60.0
_ALL: Final[Json] = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
_PLENTY: Final = 2**32 - 1


def sticky(route: Route) -> tuple[str, ...]:
    """Return the headers that name whoever is kept on one version, the first that counts first."""
    match _policy(route).sticky:
        case Sticky.SESSION:
            return STICKY
        case Sticky.USER:
            return STICKY[2:]
        case Sticky.KEY:
            return (CLIENT,)
        case Sticky.REQUEST:
            return ()


def total_s(route: Route) -> float:
    """Return how long a whole answer may take, seconds."""
    return _policy(route).timeouts.total_s or _TOTAL_S


def idle_s(route: Route) -> float:
    """Return the longest pause in an answer, seconds."""
    return _policy(route).timeouts.idle_s or _IDLE_S


def most_choices(route: Route) -> int:
    """Return how many answers one request may ask for."""
    return _policy(route).choices


def limited(route: Route) -> list[Json]:
    """Return what a request for an alias is counted under."""
    return [
        {"actions": [{"generic_key": {"descriptor_key": key, "descriptor_value": value}}]}
        for key, value, _ in _counted(route)
    ]


def limits(routes: Iterable[Route]) -> Json | None:
    """Return the requests a minute of aliases and clients; None where nobody has a limit."""
    counted = {(key, value): rate for each in routes for key, value, rate in _counted(each)}
    if not counted:
        return None
    return typed(
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="fleetctl_limits",
        token_bucket=_bucket(_PLENTY),
        filter_enabled=_ALL,
        filter_enforced=_ALL,
        descriptors=[
            {"entries": [{"key": key, "value": value}], "token_bucket": _bucket(rate)}
            for (key, value), rate in sorted(counted.items())
        ],
    )


def _counted(route: Route) -> Iterator[tuple[str, str, int]]:
    policy = _policy(route)
    for key, value, each in (
        ("alias", route.alias, policy.limits),
        ("client", route.client, policy.client_limits),
    ):
        if each.requests_per_minute is not None:
            yield key, value, max(1, each.requests_per_minute // policy.gateways)


def _bucket(rate: int) -> Json:
    return {"max_tokens": rate, "tokens_per_fill": rate, "fill_interval": seconds(_MINUTE_S)}


def _policy(route: Route) -> Policy:
    return route.policy or Policy()
