"""How the requests for an alias are split over its versions, and what its server is sent."""

from typing import Final

from fleet.resources import Route, Share
from plans.envoy import refusals
from plans.envoy.clusters import cluster_name, path_of
from plans.envoy.filters import CHOICES, ECHOED, LOGPROBS, REWRITING, STREAMED
from plans.envoy.policies import idle_s, limited, most_choices, sticky, total_s
from plans.envoy.routing import Routing
from plans.envoy.wire import NAMESPACE, VERSION, Json, header, seconds, typed

_TRANSFORM: Final = "envoy.extensions.filters.http.transform.v3.TransformConfig"
_NULL: Final = (
    "kv_transfer_params",
    "ec_transfer_params",
    "vllm_xargs",
    "prompt_logprobs",
    "prompt_embeds",
    "session_id",
    "chat_template",
    "mm_processor_kwargs",
    "media_io_kwargs",
    "return_mm_kwargs",
    "enable_response_messages",
    "stream_interval",
)
_USUAL: Final[Json] = {
    "priority": 0,
    "mm_payload": "tensors",
    "routed_experts_prompt_start": 0,
    **dict.fromkeys(_NULL),
}
"""Fields that cross tenants or cost others, as vLLM has them where they are not given."""


def answered(routing: Routing, route: Route) -> list[Json]:
    """Return the routes of an alias: streams are asked for their token counts.

    Raises:
        ConfigError: its servers differ in scheme or path.
    """
    echo = [
        {"name": ECHOED, "string_match": {"exact": "false"}, "invert_match": True},
        {"name": ECHOED, "present_match": True},
        {"name": LOGPROBS, "present_match": True},
    ]
    refused = {"match": {"prefix": "/", "headers": echo}, **refusals.answer(400, refusals.ECHO)}
    few = "|".join(map(str, range(1, most_choices(route) + 1)))
    many = [
        {"name": CHOICES, "string_match": {"safe_regex": {"regex": few}}, "invert_match": True},
        {"name": CHOICES, "present_match": True},
    ]
    streams = [{"name": STREAMED, "string_match": {"exact": "true"}}]
    return [
        refused,
        {"match": {"prefix": "/", "headers": many}, **refusals.answer(400, refusals.CHOICES)},
        {"match": {"prefix": "/", "headers": streams}, **_split(routing, route, stream=True)},
        {"match": {"prefix": "/"}, **_split(routing, route, stream=False)},
    ]


def _split(routing: Routing, route: Route, *, stream: bool) -> Json:
    """Return how the users of an alias are split over its versions.

    The newest version owns the buckets from 0 up, so that a growing share keeps its users. Most
    aliases have one version with all requests, and need no buckets.
    """
    taking = [each for each in route.shares if each.percent]
    shares = [_share(routing, route, each, stream=stream) for each in taking]
    held = {server for each in route.shares for server in routing.reachable(each.servers)}
    path = path_of(routing, sorted(held))
    keeping = sticky(route) if len(taking) > 1 else ()
    policies = [_hashed(name, f"{route.alias}/{route.salt}/") for name in keeping]
    action: Json = {
        "weighted_clusters": {"clusters": shares},
        "timeout": seconds(total_s(route)),
        "idle_timeout": seconds(idle_s(route)),
        "auto_host_rewrite": True,
        "rate_limits": limited(route),
    }
    if policies:
        action["weighted_clusters"]["use_hash_policy"] = True
        action["hash_policy"] = policies
    if path:
        action["prefix_rewrite"] = f"{path}/"
    noted = {"client": route.client, "alias": route.alias, "stream": stream}
    return {"route": action, "metadata": {"filter_metadata": {NAMESPACE: noted}}}


def _hashed(name: str, salted: str) -> Json:
    """Return the assignment by a header, mixed with the rollout; the first that is there counts."""
    rewritten = {"pattern": {"regex": "^"}, "substitution": salted.replace("\\", "\\\\")}
    return {"header": {"header_name": name, "regex_rewrite": rewritten}, "terminal": True}


def _share(routing: Routing, route: Route, share: Share, *, stream: bool) -> Json:
    servers = routing.reachable(share.servers)
    body: Json = {
        "model": share.adapter,
        "cache_salt": route.client,
        "request_id": "%REQ(x-request-id)%",
        **_USUAL,
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
