"""Build Envoy's routes: the lookup by client and alias, the lists of models, the refusals."""

from collections.abc import Sequence
from typing import Final

from plans.compile.envoy import endpoints, filters, messages
from plans.compile.envoy.messages import (
    Json,
    Routing,
    every,
    extension,
    header,
    header_input,
    is_like,
    is_other,
    typed,
)
from plans.compile.envoy.splits import ANY_PATH, most_choices, rate_limits, routes_of_alias, up_to

MODELS: Final = "/v1/models"
_OFF: Final = typed("envoy.config.route.v3.FilterConfig", disabled=True)
_ON: Final = typed(
    "envoy.config.route.v3.FilterConfig",
    config=typed("envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute"),
)
_LARGEST_LIST: Final = 2**24


def route_configuration(routing: Routing) -> Json:
    """Return everything that changes with a revision, save for the servers' addresses."""
    most = max(map(most_choices, routing.routes.values()), default=0)
    answers = {
        f"{route.client}/{alias}": routes_of_alias(routing, route, most)
        for alias, route in routing.routes.items()
    }
    own: dict[str, list[str]] = {credential.client: [] for credential in routing.credentials}
    for alias, route in sorted(routing.routes.items()):
        own.setdefault(route.client, []).append(alias)
    for alias, route in sorted(routing.routes.items()):
        name = route.policy.alias_for if route.policy else ""
        if name and f"{route.client}/{name}" not in answers:
            answers[f"{route.client}/{name}"] = answers[f"{route.client}/{alias}"]
            own[route.client].append(name)
    for client, names in own.items():
        answers |= _listing(client, names)
    revision = {messages.NAMESPACE: {"revision": routing.revision}}
    version = header(messages.VERSION, f"%FILTER_STATE({messages.VERSION_STATE}:PLAIN)%")
    return typed(
        "envoy.config.route.v3.RouteConfiguration",
        name="fleetctl",
        max_direct_response_body_size_bytes=_LARGEST_LIST,
        request_headers_to_remove=[
            "authorization",
            "x-session-id",
            "x-forwarded-proto",
            "x-envoy-external-address",
            messages.CLIENT,
            messages.ASKED,
            *filters.STICKY,
            filters.STREAMED,
            *endpoints.READ,
        ],
        request_headers_to_add=[version],
        response_headers_to_add=[version],
        virtual_hosts=[
            {
                "name": "fleetctl",
                "domains": ["*"],
                "metadata": {"filter_metadata": revision},
                "matcher": _matcher(answers, most),
                "retry_policy": _RETRIES,
                "typed_per_filter_config": _for_all(routing),
            }
        ],
    )


def _for_all(routing: Routing) -> Json:
    """Return the keys and limits, which change with the routes."""
    found: Json = {}
    if routing.credentials:
        keys = [
            {"key": credential.secret, "client": credential.client}
            for credential in routing.credentials
        ]
        kind = "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute"
        found[filters.AUTHENTICATION] = typed(kind, credentials=keys, forwarding=filters.FORWARDING)
    allowed = rate_limits(routing.routes.values())
    if allowed is not None:
        found[filters.LIMITING] = allowed
    return found


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
"""Retries only where no server has worked on the request: not reached, or without the version."""


_FALSE: Final = "false"


def _matcher(answers: dict[str, list[Json]], most: int) -> Json:
    """Return the lookup by client and alias: a single step for any number of aliases.

    Refusals for all clients come before, in the same words whether the alias exists or not.
    """
    tree: Json = {"on_no_match": _routes(_elsewhere())}
    if answers:
        found = {name: _routes(routes) for name, routes in sorted(answers.items())}
        named = header_input(messages.ASKED)
        tree["matcher_tree"] = {"input": named, "exact_match_map": {"map": found}}
    refused = [
        (every(is_other(endpoints.ECHOED, _FALSE), is_like(endpoints.LOGPROBS)), messages.ECHO),
        *([(is_other(endpoints.CHOICES, up_to(most)), messages.CHOICES)] if most else []),
        *(
            (is_other(name, _FALSE), messages.stored(field))
            for field, name in endpoints.STORED.items()
        ),
        (is_like(endpoints.TOOLS, endpoints.FOREIGN_TOOLS), messages.TOOLS),
    ]
    matchers = [
        {
            "predicate": predicate,
            "on_match": _routes([{"match": ANY_PATH, **messages.answer(400, refusal)}]),
        }
        for predicate, refusal in refused
    ]
    return {"matcher_list": {"matchers": matchers}, "on_no_match": {"matcher": tree}}


def _routes(routes: list[Json]) -> Json:
    if len(routes) == 1:
        return {"action": extension("route", "envoy.config.route.v3.Route", **routes[0])}
    return {"action": extension("routes", "envoy.config.route.v3.RouteList", routes=routes)}


def _elsewhere() -> list[Json]:
    """Return the routes of requests that name no alias of the client.

    A request for a completion takes them twice: before its body is read, and for good where the
    body names no alias of the client.
    """
    post = [{"name": ":method", "string_match": {"exact": "POST"}}]
    get = [{"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}]
    models: Json = {"safe_regex": {"regex": f"{MODELS}(/[^/]*)?"}}
    missing = messages.answer(404, messages.NO_SUCH_MODEL)
    wrong = messages.answer(405, messages.WRONG_METHOD)
    healthy = messages.answer(200, {"status": "ok"})
    asked = [
        [
            {
                "match": {"safe_regex": {"regex": endpoint.path}, "headers": post},
                **missing,
                "typed_per_filter_config": filters.engaged(endpoint),
            },
            {"match": {"safe_regex": {"regex": endpoint.path}}, **wrong},
        ]
        for endpoint in endpoints.ENDPOINTS
    ]
    return [
        *(route for routes in asked for route in routes),
        {
            "match": models | {"headers": get},
            **missing,
            "typed_per_filter_config": {filters.LISTING_FILTER: _ON},
        },
        {"match": models, **wrong},
        {
            "match": {"path": "/healthz", "headers": get},
            **healthy,
            "typed_per_filter_config": {filters.AUTHENTICATION: _OFF},
        },
        {"match": ANY_PATH, **messages.answer(404, messages.NO_SUCH_PATH)},
    ]


def _listing(client: str, own: Sequence[str]) -> dict[str, list[Json]]:
    cards = {
        alias: {"id": alias, "object": "model", "created": 0, "owned_by": client} for alias in own
    }
    pages: dict[str, Json] = {f"{MODELS}/{alias}": card for alias, card in cards.items()}
    pages[MODELS] = {"object": "list", "data": list(cards.values())}
    return {
        f"{filters.LISTING}{client}{path}": [{"match": ANY_PATH, **messages.answer(200, page)}]
        for path, page in pages.items()
    }
