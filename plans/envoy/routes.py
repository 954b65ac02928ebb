"""Envoy's routes: who may call what, which version answers, and what its server is sent."""

import re
from typing import Final

from fleet.resources import Route, Share
from plans.envoy import refusals
from plans.envoy.clusters import cluster_name, path_of
from plans.envoy.filters import (
    AUTHENTICATION,
    ECHOED,
    FORWARDING,
    LISTING,
    LISTING_FILTER,
    LOGPROBS,
    READING,
    REWRITING,
    STICKY,
    STREAMED,
)
from plans.envoy.routing import Routing
from plans.envoy.wire import (
    ASKED,
    CLIENT,
    COMPLETIONS,
    NAMESPACE,
    VERSION,
    Json,
    extension,
    header,
    seconds,
    typed,
)

MODELS: Final = "/v1/models"
TOTAL_S: Final = 3600.0
IDLE_S: Final = 600.0
"""Longest silence of a server while it generates."""
_OFF: Final = typed("envoy.config.route.v3.FilterConfig", disabled=True)
_ON: Final = typed(
    "envoy.config.route.v3.FilterConfig",
    config=typed("envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute"),
)
_TRANSFORM: Final = "envoy.extensions.filters.http.transform.v3.TransformConfig"
_LARGEST_LIST: Final = 2**24


def route_configuration(routing: Routing) -> Json:
    """Return everything that changes with a revision, save for the servers' addresses."""
    answers = {
        f"{each.client}/{alias}": _model(routing, each) for alias, each in routing.routes.items()
    }
    for client in sorted({each.client for each in routing.credentials}):
        answers |= _listing(routing, client)
    keys = [{"key": each.secret, "client": each.client} for each in routing.credentials]
    kind = "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute"
    return typed(
        "envoy.config.route.v3.RouteConfiguration",
        name="fleetctl",
        max_direct_response_body_size_bytes=_LARGEST_LIST,
        request_headers_to_remove=[
            "authorization",
            "x-session-id",
            "x-forwarded-proto",
            "x-envoy-external-address",
            *_INTERNAL,
        ],
        virtual_hosts=[
            {
                "name": "fleetctl",
                "domains": ["*"],
                "metadata": _metadata(revision=routing.revision),
                "matcher": _matcher(answers),
                "typed_per_filter_config": {
                    AUTHENTICATION: typed(kind, credentials=keys, forwarding=FORWARDING)
                }
                if keys
                else {},
            }
        ],
    )


_INTERNAL: Final = (CLIENT, ASKED, *STICKY, STREAMED, ECHOED, LOGPROBS)


def _matcher(answers: dict[str, list[Json]]) -> Json:
    """Return the lookup by what a request asks for: one step, however many aliases."""
    source = "envoy.type.matcher.v3.HttpRequestHeaderMatchInput"
    tree: Json = {"input": extension("asked", source, header_name=ASKED)}
    if answers:
        found = {name: _routes(each) for name, each in sorted(answers.items())}
        tree["exact_match_map"] = {"map": found}
        return {"matcher_tree": tree, "on_no_match": _routes(_elsewhere())}
    return {"on_no_match": _routes(_elsewhere())}


def _routes(routes: list[Json]) -> Json:
    return {"action": extension("routes", "envoy.config.route.v3.RouteList", routes=routes)}


def _elsewhere() -> list[Json]:
    """Return the routes of requests that ask for nothing a client owns, or not yet.

    A request for a completion is here before its body was read, and for good where the body
    names no alias of the client.
    """
    post = [{"name": ":method", "string_match": {"exact": "POST"}}]
    get = [{"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}]
    completions: Json = {"safe_regex": {"regex": COMPLETIONS}}
    models: Json = {"safe_regex": {"regex": f"{MODELS}(/[^/]*)?"}}
    silent = {READING: _OFF}
    listed = {LISTING_FILTER: _ON}
    missing, wrong = (
        refusals.answer(404, refusals.NO_SUCH_MODEL),
        refusals.answer(405, refusals.WRONG_METHOD),
    )
    healthy = refusals.answer(200, {"status": "ok"})
    return [
        {"match": completions | {"headers": post}, **missing},
        {"match": completions, **wrong, "typed_per_filter_config": silent},
        {"match": models | {"headers": get}, **missing, "typed_per_filter_config": silent | listed},
        {"match": models, **wrong, "typed_per_filter_config": silent},
        {
            "match": {"path": "/healthz", "headers": get},
            **healthy,
            "typed_per_filter_config": silent | {AUTHENTICATION: _OFF},
        },
        {
            "match": {"prefix": "/"},
            **refusals.answer(404, refusals.NO_SUCH_PATH),
            "typed_per_filter_config": silent,
        },
    ]


def _model(routing: Routing, route: Route) -> list[Json]:
    """Return the routes of an alias: streams are asked for their token counts."""
    echo = [
        {"name": ECHOED, "string_match": {"exact": "false"}, "invert_match": True},
        {"name": ECHOED, "present_match": True},
        {"name": LOGPROBS, "present_match": True},
    ]
    refused = {"match": {"prefix": "/", "headers": echo}, **refusals.answer(400, refusals.ECHO)}
    streams = [{"name": STREAMED, "string_match": {"exact": "true"}}]
    return [
        refused,
        {"match": {"prefix": "/", "headers": streams}, **_split(routing, route, stream=True)},
        {"match": {"prefix": "/"}, **_split(routing, route, stream=False)},
    ]


def _split(routing: Routing, route: Route, *, stream: bool) -> Json:
    """Return how the users of an alias are split over its versions.

    The newest version owns the buckets from 0 up, so that a growing share keeps its users.
    """
    salted = f"{route.alias}/{route.salt}/"
    policies = [
        {
            "header": {
                "header_name": name,
                "regex_rewrite": {
                    "pattern": {"regex": "^"},
                    "substitution": re.sub(r"\\", r"\\\\", salted),
                },
            },
            "terminal": True,
        }
        for name in STICKY
    ]
    shares = [_share(routing, route, each, stream=stream) for each in route.shares]
    held = {server for each in route.shares for server in routing.reachable(each.servers)}
    path = path_of(routing, sorted(held))
    action: Json = {
        "weighted_clusters": {"clusters": shares, "use_hash_policy": True},
        "hash_policy": policies,
        "timeout": seconds(TOTAL_S),
        "idle_timeout": seconds(IDLE_S),
        "retry_policy": _RETRIES,
        "auto_host_rewrite": True,
    }
    if path:
        action["prefix_rewrite"] = f"{path}/"
    noted = _metadata(client=route.client, alias=route.alias, stream=stream)
    return {"route": action, "metadata": noted}


def _metadata(**values: str | int | bool) -> Json:
    return {"filter_metadata": {NAMESPACE: values}}


_RETRIES: Final[Json] = {
    "retry_on": "connect-failure,refused-stream,retriable-status-codes",
    "retriable_status_codes": [404],
    "num_retries": 2,
    "retry_host_predicate": [
        extension(
            "previous", "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
        )
    ],
    "host_selection_retry_max_attempts": 5,
}
"""Only where no server has worked on it: not reached, or it does not hold the version."""


def _share(routing: Routing, route: Route, share: Share, *, stream: bool) -> Json:
    servers = routing.reachable(share.servers)
    body: Json = {
        "model": share.adapter,
        "cache_salt": route.client,
        "request_id": "%REQ(x-request-id)%",
        "priority": 0,
        **dict.fromkeys(_WITHOUT),
    }
    if stream:
        body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    rewriting = {"body_transformation": {"body_format": {"json_format": body}, "action": "MERGE"}}
    return {
        "name": cluster_name(servers),
        "weight": share.percent,
        "request_headers_to_add": [header(VERSION, share.adapter)],
        "response_headers_to_add": [header(VERSION, share.adapter)],
        "typed_per_filter_config": {REWRITING: typed(_TRANSFORM, request_transformation=rewriting)},
    }


_WITHOUT: Final = ("kv_transfer_params", "ec_transfer_params", "vllm_xargs", "prompt_logprobs")
"""Fields that cross tenants or cost others: null, as if they were not given."""


def _listing(routing: Routing, client: str) -> dict[str, list[Json]]:
    """Return the answers to a client that asks which models it has."""
    own = [alias for alias, each in sorted(routing.routes.items()) if each.client == client]
    cards = {
        each: {"id": each, "object": "model", "created": 0, "owned_by": client} for each in own
    }
    pages: dict[str, Json] = {f"{MODELS}/{alias}": card for alias, card in cards.items()}
    pages[MODELS] = {"object": "list", "data": list(cards.values())}
    return {
        f"{LISTING}{client}{path}": [
            {
                "match": {"prefix": "/"},
                **refusals.answer(200, page),
                "typed_per_filter_config": {READING: _OFF},
            }
        ]
        for path, page in pages.items()
    }
