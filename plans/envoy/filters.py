"""Envoy's chain of filters: authenticate, read what is asked, rewrite, count."""

from typing import Any, Final

from plans.envoy.headers import others
from plans.envoy.logs import in_flight_log
from plans.envoy.wire import ASKED, CLIENT, CLIENT_STATE, NAMESPACE, Json, extension, header

AUTHENTICATION: Final = "fleetctl.authentication"
READING: Final = "fleetctl.reading"
LIMITING: Final = "fleetctl.limits"
REWRITING: Final = "fleetctl.rewriting"
LISTING_FILTER: Final = "fleetctl.listing"
LISTING: Final = "models:"
"""Before what is asked for, where a client asks for its models."""
STICKY: Final = (
    "x-fleetctl-session",
    "x-fleetctl-session-id",
    "x-fleetctl-user",
    "x-fleetctl-safety-identifier",
    "x-fleetctl-prompt-cache-key",
)
"""Headers that name a user, the first that is given counts."""
STREAMED: Final = "x-fleetctl-stream"
ECHOED: Final = "x-fleetctl-echo"
LOGPROBS: Final = "x-fleetctl-logprobs"
CHOICES: Final = "x-fleetctl-choices"

FORWARDING: Final[Json] = {"header": CLIENT, "hide_credentials": True}
"""What of a key goes on: the client that it belongs to, and not the key."""

_HTTP: Final = "envoy.extensions.filters.http"
_JSON: Final = {"key": "content-type", "value": "application/json"}
"""What a body is where its client does not say."""
_TRANSFORM: Final = f"{_HTTP}.transform.v3.TransformConfig"
_COUNTS: Final = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))


def filters() -> list[Json]:
    """Return the HTTP filters, first to last."""
    return [
        _authentication(),
        extension(
            LISTING_FILTER,
            f"{_HTTP}.header_mutation.v3.HeaderMutation",
            mutations={
                "request_mutations": [
                    {"append": header(ASKED, f"{LISTING}%REQ({CLIENT})%%PATH(NQ:PATH)%")}
                ]
            },
        )
        | {"disabled": True},
        _remembering(),
        _reading(),
        extension(
            LIMITING,
            f"{_HTTP}.local_ratelimit.v3.LocalRateLimit",
            stat_prefix="fleetctl_limits",
        ),
        extension(REWRITING, _TRANSFORM),
        extension(
            "fleetctl.counts",
            f"{_HTTP}.json_to_metadata.v3.JsonToMetadata",
            response_rules={"rules": [_count(*each) for each in _COUNTS]},
        ),
        extension(
            "fleetctl.stream_counts",
            f"{_HTTP}.sse_to_metadata.v3.SseToMetadata",
            response_rules={
                "max_event_size": 2**20,
                "content_parser": extension(
                    "json",
                    "envoy.extensions.content_parsers.json.v3.JsonContentParser",
                    rules=[{"rule": _count(*each)} for each in _COUNTS],
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


def early_mutations() -> list[Json]:
    """Return what is done to the headers of a request before anything looks at them."""
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


def _authentication() -> Json:
    return extension(
        AUTHENTICATION,
        f"{_HTTP}.api_key_auth.v3.ApiKeyAuth",
        key_sources=[{"header": "Authorization"}],
        forwarding=FORWARDING,
    )


def _remembering() -> Json:
    """Return the filter that keeps the client for the rows: its header is gone by then.

    It has the route looked up again, which is how a client's list of models is found.
    """
    client = {"text_format_source": {"inline_string": f"%REQ({CLIENT})%"}}
    return extension(
        "fleetctl.client",
        f"{_HTTP}.set_filter_state.v3.Config",
        on_request_headers=[
            {"object_key": CLIENT_STATE, "factory_key": "envoy.string", "format_string": client}
        ],
        clear_route_cache=True,
    )


def _reading() -> Json:
    """Return the filter that puts what a body asks for into headers, and looks up its route."""
    asked = {ASKED: f"%REQ({CLIENT})%/%REQUEST_BODY(model)%"}
    named = {
        STICKY[0]: "%REQ(x-session-id)%",
        STICKY[1]: "%REQUEST_BODY(session_id)%",
        STICKY[2]: "%REQUEST_BODY(user)%",
        STICKY[3]: "%REQUEST_BODY(safety_identifier)%",
        STICKY[4]: "%REQUEST_BODY(prompt_cache_key)%",
        STREAMED: "%REQUEST_BODY(stream)%",
        ECHOED: "%REQUEST_BODY(echo)%",
        LOGPROBS: "%REQUEST_BODY(logprobs)%",
        CHOICES: "%REQUEST_BODY(n)%",
    }
    mutations: list[dict[str, Any]] = [
        {"append": header(name, value)} for name, value in (asked | named).items()
    ]
    return extension(
        READING,
        _TRANSFORM,
        request_transformation={"headers_mutations": mutations},
        clear_route_cache=True,
    )


def _count(field: str, name: str) -> Json:
    return {
        "selectors": [{"key": "usage"}, {"key": field}],
        "on_present": {"metadata_namespace": NAMESPACE, "key": name, "type": "NUMBER"},
    }
