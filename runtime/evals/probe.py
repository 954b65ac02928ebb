"""One short question that tells which engine answers under a name, before and after a run."""

from dataclasses import dataclass

from fleet.errors import EngineError, EvalError, problem
from fleet.evals import EvalTarget
from runtime.json_client import JsonClient

PROBE_S = 30.0
PURPOSE_HEADER = "X-Fleetctl-Purpose"
"""Marks requests through a gateway, so that no live gate counts them."""


@dataclass(frozen=True, slots=True)
class EngineProbe:
    """The engine that answered."""

    model: str
    fingerprint: str


def client_for(target: EvalTarget, timeout_s: float) -> JsonClient:
    """Return a client whose requests are marked as an evaluation's."""
    marked = {PURPOSE_HEADER: "eval", **target.headers}
    return JsonClient(target.url, timeout_s=timeout_s, headers=marked)


async def probe(target: EvalTarget) -> EngineProbe:
    """Request one token and return the engine that answered.

    Raises:
        EvalError: FC4501, no server answers under that name.
    """
    body = {
        "model": target.model,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 1,
        "temperature": 0,
    }
    try:
        async with client_for(target, PROBE_S) as client:
            reply = await client.post("/v1/chat/completions", body)
    except EngineError as error:
        raise EvalError(
            problem(
                "FC4501",
                "No model answers under this name",
                f"`{target.model}` cannot be evaluated: {error.diagnostics[0].detail}",
                hint="An evaluation asks a version that is loaded and ready.",
                command="fleetctl status",
            )
        ) from None
    if not isinstance(reply, dict):
        reply = {}
    return EngineProbe(str(reply.get("model", "")), str(reply.get("system_fingerprint") or ""))
