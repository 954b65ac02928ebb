"""How the requests for an alias are split over its versions.

Traffic policies in Envoy's words: what keeps a user, how long an answer may take, limits.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from fleet.resources import Route, Share
from fleet.traffic import Sticky, TrafficPolicy
from plans.compile.envoy import refusals
from plans.compile.envoy.clusters import cluster_name, path_of
from plans.compile.envoy.endpoints import CHOICES
from plans.compile.envoy.filters import CHOOSING, STICKY
from plans.compile.envoy.messages import (
    CLIENT,
    NAMESPACE,
    VERSION_STATE,
    Json,
    seconds,
    state,
    typed,
)
from plans.compile.envoy.routing import Routing

_TOTAL_S: Final = 3600.0
_IDLE_S: Final = 600.0
"""Longest silence of a server while it generates, where nothing else is declared."""
_MINUTE_S: Final = 60.0
_ALL_POLICIES: Final[Json] = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
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
        filter_enabled=_ALL_POLICIES,
        filter_enforced=_ALL_POLICIES,
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


def _policy(route: Route) -> TrafficPolicy:
    return route.policy or TrafficPolicy()


_STATE: Final = "envoy.extensions.filters.http.set_filter_state.v3.Config"
_ALL: Final[Json] = {"prefix": "/"}
"""What a route matches that was found by what is asked for."""


def answered(routing: Routing, route: Route, most: int) -> list[Json]:
    """Return the routes of an alias.

    Args:
        routing: What is served.
        route: The alias.
        most: How many answers to one request every alias may give; more were refused before.

    Raises:
        ConfigError: its servers differ in scheme or path.
    """
    split = {"match": _ALL, **_split(routing, route)}
    allowed = most_choices(route)
    if allowed >= most:
        return [split]
    many = [
        {"name": CHOICES, "string_match": {"safe_regex": {"regex": few(allowed)}}}
        | {"invert_match": True},
        {"name": CHOICES, "present_match": True},
    ]
    return [{"match": _ALL | {"headers": many}, **refusals.answer(400, refusals.CHOICES)}, split]


def few(allowed: int) -> str:
    """Return so many answers and less, as a regular expression."""
    return "|".join(map(str, range(1, allowed + 1)))


def _split(routing: Routing, route: Route) -> Json:
    """Return how the users of an alias are split over its versions.

    The newest version owns the buckets from 0 up, so that a growing share keeps its users. Most
    aliases have one version with all requests, and need no buckets.
    """
    taking = [each for each in route.shares if each.percent]
    held = {server for each in route.shares for server in routing.reachable(each.servers)}
    path = path_of(routing, sorted(held))
    action: Json = {
        "timeout": seconds(total_s(route)),
        "idle_timeout": seconds(idle_s(route)),
        "auto_host_rewrite": True,
    }
    made: Json = {
        "route": action,
        "metadata": {"filter_metadata": {NAMESPACE: {"alias": route.alias}}},
    }
    if len(taking) == 1:
        action["cluster"] = _cluster(routing, taking[0])
        made["typed_per_filter_config"] = _chosen(taking[0])
    else:
        action["weighted_clusters"] = {"clusters": [_weighted(routing, each) for each in taking]}
        policies = [_hashed(name, f"{route.alias}/{route.salt}/") for name in sticky(route)]
        if policies:
            action["weighted_clusters"]["use_hash_policy"] = True
            action["hash_policy"] = policies
    if counted := limited(route):
        action["rate_limits"] = counted
    if path:
        action["prefix_rewrite"] = f"{path}/"
    return made


def _hashed(name: str, salted: str) -> Json:
    """Return the assignment by a header, mixed with the rollout; the first that is there counts."""
    rewritten = {"pattern": {"regex": "^"}, "substitution": salted.replace("\\", "\\\\")}
    return {"header": {"header_name": name, "regex_rewrite": rewritten}, "terminal": True}


def _cluster(routing: Routing, share: Share) -> str:
    return cluster_name(routing.reachable(share.servers))


def _weighted(routing: Routing, share: Share) -> Json:
    return {
        "name": _cluster(routing, share),
        "weight": share.percent,
        "typed_per_filter_config": _chosen(share),
    }


def _chosen(share: Share) -> Json:
    """Return what remembers the version, for the body, the answer and the row."""
    named = state(VERSION_STATE, share.adapter)
    return {CHOOSING: typed(_STATE, on_request_headers=[named])}
