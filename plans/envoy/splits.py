"""How the requests for an alias are split over its versions."""

from typing import Final

from fleet.resources import Route, Share
from plans.envoy import refusals
from plans.envoy.clusters import cluster_name, path_of
from plans.envoy.endpoints import CHOICES
from plans.envoy.filters import CHOOSING
from plans.envoy.policies import idle_s, limited, most_choices, sticky, total_s
from plans.envoy.routing import Routing
from plans.envoy.wire import NAMESPACE, VERSION_STATE, Json, seconds, state, typed

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
