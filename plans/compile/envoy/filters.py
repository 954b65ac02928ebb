"""Build Envoy's chain of filters: authenticate, read the body, rewrite the body, count tokens."""

from collections.abc import Iterator
from typing import Any, Final

from plans.compile.envoy import messages
from plans.compile.envoy.endpoints import ENDPOINTS, Endpoint, others
from plans.compile.envoy.logs import in_flight_log
from plans.compile.envoy.messages import Json, extension, header, is_like, no, state, typed

AUTHENTICATION: Final = "fleetctl.authentication"
LIMITING: Final = "fleetctl.limits"
CHOOSING: Final = "fleetctl.version"
LISTING_FILTER: Final = "fleetctl.listing"
LISTING: Final = "models:"
"""Prefix of the route key where a client lists its models."""
_USERS: Final = {
    "x-fleetctl-session": "%REQ(x-session-id)%",
    "x-fleetctl-session-id": "%REQUEST_BODY(session_id)%",
    "x-fleetctl-user": "%REQUEST_BODY(user)%",
    "x-fleetctl-safety-identifier": "%REQUEST_BODY(safety_identifier)%",
    "x-fleetctl-prompt-cache-key": "%REQUEST_BODY(prompt_cache_key)%",
    "x-fleetctl-user-id": "%REQUEST_BODY(metadata:user_id)%",
}
"""Headers that name a user, with their source; the first header that is given counts."""
STICKY: Final = tuple(_USERS)
STREAMED: Final = "x-fleetctl-stream"

_LISTED: Final = f"{LISTING}%REQ({messages.CLIENT})%%PATH(NQ:PATH)%"
FORWARDING: Final[Json] = {"header": messages.CLIENT, "hide_credentials": True}
"""Forwarding of a key: the client of the key goes on, the key is removed."""

_HTTP: Final = "envoy.extensions.filters.http"
_JSON: Final = {"key": "content-type", "value": "application/json"}
"""Content type of a body whose client names none."""
_TRANSFORM: Final = f"{_HTTP}.transform.v3.TransformConfig"
_STATE: Final = f"{_HTTP}.set_filter_state.v3.Config"
_MATCHING: Final = "envoy.extensions.common.matching.v3.ExtensionWithMatcher"
_ROUTES_OWN: Final = "envoy.config.route.v3.FilterConfig"
_READ: Final = _USERS | {STREAMED: "%REQUEST_BODY(stream)%"}
"""Values by header that are read of every body."""
_COUNTS: Final = (
    ("usage:prompt_tokens", "input_tokens"),
    ("usage:completion_tokens", "output_tokens"),
    ("usage:input_tokens", "input_tokens"),
    ("usage:output_tokens", "output_tokens"),
)
"""Paths of token counts: in completions and embeddings, then in responses and messages."""
_STREAM_COUNTS: Final = (
    *_COUNTS,
    ("message:usage:input_tokens", "input_tokens"),
    ("response:usage:input_tokens", "input_tokens"),
    ("response:usage:output_tokens", "output_tokens"),
)
"""Paths of token counts in the events of streams."""


def filters() -> list[Json]:
    """Return the HTTP filters, first to last."""
    return [
        extension(
            AUTHENTICATION,
            f"{_HTTP}.api_key_auth.v3.ApiKeyAuth",
            key_sources=[{"header": "Authorization"}, {"header": "x-api-key"}],
            forwarding=FORWARDING,
        ),
        _off(
            extension(
                LISTING_FILTER,
                f"{_HTTP}.header_mutation.v3.HeaderMutation",
                mutations={"request_mutations": [{"append": header(messages.ASKED, _LISTED)}]},
            )
        ),
        # The route is looked up again, so that a client's list of models is found.
        extension(
            "fleetctl.client",
            _STATE,
            on_request_headers=[state(messages.CLIENT_STATE, f"%REQ({messages.CLIENT})%")],
            clear_route_cache=True,
        ),
        *(_off(_reading(endpoint)) for endpoint in ENDPOINTS),
        extension(
            "fleetctl.stream",
            _STATE,
            on_request_headers=[state(messages.STREAM_STATE, f"%REQ({STREAMED})%")],
        ),
        extension(CHOOSING, _STATE),
        extension(
            LIMITING, f"{_HTTP}.local_ratelimit.v3.LocalRateLimit", stat_prefix="fleetctl_limits"
        ),
        *(_off(filter_) for endpoint in ENDPOINTS for filter_ in _rewriting(endpoint)),
        extension(
            "fleetctl.counts",
            f"{_HTTP}.json_to_metadata.v3.JsonToMetadata",
            response_rules={"rules": [_count(*count) for count in _COUNTS]},
        ),
        extension(
            "fleetctl.stream_counts",
            f"{_HTTP}.sse_to_metadata.v3.SseToMetadata",
            response_rules={
                "max_event_size": 2**20,
                "content_parser": extension(
                    "json",
                    "envoy.extensions.content_parsers.json.v3.JsonContentParser",
                    rules=[{"rule": _count(*count)} for count in _STREAM_COUNTS],
                ),
            },
        ),
        extension(
            "envoy.filters.http.router",
            f"{_HTTP}.router.v3.Router",
            suppress_envoy_headers=True,
            upstream_log=[in_flight_log()],
            upstream_log_options={"flush_upstream_log_on_upstream_stream": True},
        ),
    ]


def engaged(endpoint: Endpoint) -> Json:
    """Return the configuration by which a route switches on the filters of an endpoint."""
    reading = _reading(endpoint)
    configurations = {reading["name"]: reading["typed_config"]}
    for filter_ in _rewriting(endpoint):
        config = filter_["typed_config"]
        if matcher := config.get("xds_matcher"):
            config = typed(f"{_MATCHING}PerRoute", xds_matcher=matcher)
        configurations[filter_["name"]] = config
    return {name: typed(_ROUTES_OWN, config=config) for name, config in configurations.items()}


def early_mutations() -> list[Json]:
    """Return the mutations of a request's headers, made before any filter reads them."""
    return [
        extension(
            "fleetctl.headers",
            "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            mutations=[
                {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": others()}}}},
                {"append": {"header": _JSON, "append_action": "ADD_IF_ABSENT"}},
            ],
        )
    ]


def _off(filter_: Json) -> Json:
    """Return a filter that is off unless the first route of a request switches the filter on."""
    return filter_ | {"disabled": True}


def _reading(endpoint: Endpoint) -> Json:
    """Return the filter that copies fields of a body into headers and looks up the route again."""
    fields = {name: f"%REQUEST_BODY({field})%" for name, field in endpoint.read.items()}
    asked = {messages.ASKED: f"%REQ({messages.CLIENT})%/%REQUEST_BODY(model)%"}
    mutations: list[dict[str, Any]] = [
        {"append": header(name, value)} for name, value in (asked | _READ | fields).items()
    ]
    return extension(
        endpoint.reading,
        _TRANSFORM,
        request_transformation={"headers_mutations": mutations},
        clear_route_cache=True,
    )


def _rewriting(endpoint: Endpoint) -> Iterator[Json]:
    """Yield the filters that write the version's name and more into a body."""
    for name, (body, streams) in endpoint.variants.items():
        written = {"body_format": {"json_format": body}, "action": "MERGE"}
        transform = extension(
            name, _TRANSFORM, request_transformation={"body_transformation": written}
        )
        yield transform if streams is None else _only(transform, streams=streams)


def _only(filter_: Json, *, streams: bool) -> Json:
    """Return a filter for requests for streams alone, or for all but those."""
    action = "envoy.extensions.filters.common.matcher.action.v3.SkipFilter"
    skip = {"action": extension("skip", action)}
    is_stream = is_like(STREAMED, "true")
    skipped = no(is_stream) if streams else is_stream
    return extension(
        filter_["name"],
        _MATCHING,
        extension_config=filter_,
        xds_matcher={"matcher_list": {"matchers": [{"predicate": skipped, "on_match": skip}]}},
    )


def _count(path: str, name: str) -> Json:
    return {
        "selectors": [{"key": key} for key in path.split(":")],
        "on_present": {"metadata_namespace": messages.NAMESPACE, "key": name, "type": "NUMBER"},
    }
