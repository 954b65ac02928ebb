"""Build the route of an alias: its split over versions, and its traffic policy in Envoy's words."""

from collections.abc import Iterable, Iterator
from typing import Final

from fleet.resources import Route, Share
from fleet.traffic import Sticky, TrafficPolicy
from plans.compile.envoy import messages
from plans.compile.envoy.clusters import cluster_name, path_of
from plans.compile.envoy.endpoints import CHOICES
from plans.compile.envoy.filters import CHOOSING, STICKY
from plans.compile.envoy.messages import Json, Routing, seconds, state, typed

_TOTAL_S: Final = 3600.0
"""Upper bound of a whole answer where the policy declares none. Unit: seconds."""
_IDLE_S: Final = 600.0
"""Upper bound of the silence of a generating server, where the policy declares none. Unit:
seconds."""
_MINUTE_S: Final = 60.0
_NO_LIMIT: Final = 2**32 - 1
"""Tokens of the bucket for requests without a limit: the largest number that Envoy takes."""
_ALWAYS: Final[Json] = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
ANY_PATH: Final[Json] = {"prefix": "/"}
"""Match of a route that the lookup by client and alias has found already."""
_FILTER_STATE: Final = "envoy.extensions.filters.http.set_filter_state.v3.Config"


def routes_of_alias(routing: Routing, route: Route, most: int) -> list[Json]:
    """Return the routes of an alias.

    `most` is the upper bound of answers to a request over all aliases; larger requests were refused
    before.

    Raises:
        ConfigError: the alias's servers differ in scheme or path.
    """
    split = {"match": ANY_PATH, **_split(routing, route)}
    allowed = most_choices(route)
    if allowed >= most:
        return [split]
    above = [
        {"name": CHOICES, "string_match": {"safe_regex": {"regex": up_to(allowed)}}}
        | {"invert_match": True},
        {"name": CHOICES, "present_match": True},
    ]
    refusal = messages.answer(400, messages.CHOICES)
    return [{"match": ANY_PATH | {"headers": above}, **refusal}, split]


def most_choices(route: Route) -> int:
    """Return the upper bound of answers to a request for an alias."""
    return _policy(route).choices


def up_to(number: int) -> str:
    """Return a regular expression of the whole numbers from 1 to `number`."""
    return "|".join(map(str, range(1, number + 1)))


def _split(routing: Routing, route: Route) -> Json:
    """Return the action that splits the users of an alias over its versions.

    The newest version owns the buckets from 0 up, so that a growing share keeps its users. Most
    aliases have a single version with all requests, and need no buckets.
    """
    taking = [share for share in route.shares if share.percent]
    held = {server for share in route.shares for server in routing.reachable(share.servers)}
    path = path_of(routing, sorted(held))
    timeouts = _policy(route).timeouts
    action: Json = {
        "timeout": seconds(timeouts.total_s or _TOTAL_S),
        "idle_timeout": seconds(timeouts.idle_s or _IDLE_S),
        "auto_host_rewrite": True,
    }
    split: Json = {
        "route": action,
        "metadata": {"filter_metadata": {messages.NAMESPACE: {"alias": route.alias}}},
    }
    if len(taking) == 1:
        action["cluster"] = cluster_name(routing.reachable(taking[0].servers))
        split["typed_per_filter_config"] = _chosen(routing, taking[0])
    else:
        weighted = [
            {
                "name": cluster_name(routing.reachable(share.servers)),
                "weight": share.percent,
                "typed_per_filter_config": _chosen(routing, share),
            }
            for share in taking
        ]
        action["weighted_clusters"] = {"clusters": weighted}
        salt = f"{route.alias}/{route.salt}/".replace("\\", "\\\\")
        salted = {"pattern": {"regex": "^"}, "substitution": salt}
        policies = [  # the first header given counts
            {"header": {"header_name": name, "regex_rewrite": salted}, "terminal": True}
            for name in _sticky_headers(route)
        ]
        if policies:
            action["weighted_clusters"]["use_hash_policy"] = True
            action["hash_policy"] = policies
    if descriptors := [
        {"actions": [{"generic_key": {"descriptor_key": key, "descriptor_value": value}}]}
        for key, value, _ in _limits(route)
    ]:
        action["rate_limits"] = descriptors
    if path:
        action["prefix_rewrite"] = f"{path}/"
    return split


def _sticky_headers(route: Route) -> tuple[str, ...]:
    """Return the headers whose value keeps a user on a version; the first that is given counts."""
    match _policy(route).sticky:
        case Sticky.SESSION:
            return STICKY
        case Sticky.USER:
            return STICKY[2:]
        case Sticky.KEY:
            return (messages.CLIENT,)
        case Sticky.REQUEST:
            return ()


def _chosen(routing: Routing, share: Share) -> Json:
    """Return the filter states that keep the version for body, answer and row, and its bytes."""
    states = [state(messages.VERSION_STATE, share.adapter)]
    if digest := routing.digests.get(share.adapter):
        states.append(state(messages.DIGEST_STATE, digest))
    return {CHOOSING: typed(_FILTER_STATE, on_request_headers=states)}


def rate_limits(routes: Iterable[Route]) -> Json | None:
    """Return the requests a minute of aliases and clients; None where no policy has a limit."""
    limits = {(key, value): rate for route in routes for key, value, rate in _limits(route)}
    if not limits:
        return None
    return typed(
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="fleetctl_limits",
        token_bucket=_bucket(_NO_LIMIT),
        filter_enabled=_ALWAYS,
        filter_enforced=_ALWAYS,
        descriptors=[
            {"entries": [{"key": key, "value": value}], "token_bucket": _bucket(rate)}
            for (key, value), rate in sorted(limits.items())
        ],
    )


def _limits(route: Route) -> Iterator[tuple[str, str, int]]:
    policy = _policy(route)
    for key, value, limits in (
        ("alias", route.alias, policy.limits),
        ("client", route.client, policy.client_limits),
    ):
        if limits.requests_per_minute is not None:
            yield key, value, max(1, limits.requests_per_minute // policy.gateways)


def _bucket(rate: int) -> Json:
    return {"max_tokens": rate, "tokens_per_fill": rate, "fill_interval": seconds(_MINUTE_S)}


def _policy(route: Route) -> TrafficPolicy:
    return route.policy or TrafficPolicy()
