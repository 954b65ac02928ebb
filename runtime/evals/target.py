"""Send requests to the target of an evaluation: the server itself, or a gateway."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from fleet.errors import EngineError, EvalError, problem
from fleet.evals import EvalTarget
from fleet.spec import GatewaySpec
from runtime.engines.vllm_api import ask
from runtime.gateway.admin.state_dir import operator_secret
from runtime.json_client import JsonClient
from runtime.trust import OPERATOR, authorization, require_bound

PROBE_S = 30.0
"""Upper bound of the time of a probe, in seconds."""
PURPOSE_HEADER = "X-Fleetctl-Purpose"
"""Marks requests through a gateway, so that no live gate counts them."""
VERSION_HEADER = "X-Fleetctl-Version"


@dataclass(frozen=True, slots=True)
class EngineProbe:
    """The engine that answered."""

    model: str
    fingerprint: str


def client_for(target: EvalTarget, timeout_s: float) -> JsonClient:
    """Return a client whose requests are marked as requests of an evaluation."""
    marked = {PURPOSE_HEADER: "eval", **target.headers}
    return JsonClient(target.url, timeout_s=timeout_s, headers=marked)


async def probe(target: EvalTarget) -> EngineProbe:
    """Request a single token and return the engine that answered.

    Raises:
        EvalError: FC4501, no server answers under that name.
    """
    try:
        async with client_for(target, PROBE_S) as client:
            reply = await ask(client, target.model, "Hello", 1)
    except EngineError as error:
        detail = f"`{target.model}` cannot be evaluated: {error.diagnostics[0].detail}"
        hint = "An evaluation asks a version that is loaded and ready."
        fault = problem("FC4501", "No server answers under this name", detail, hint=hint)
        raise EvalError(replace(fault, command="fleetctl status")) from None
    if not isinstance(reply, dict):
        reply = {}
    return EngineProbe(str(reply.get("model", "")), str(reply.get("system_fingerprint") or ""))


def through_gateway(
    gateways: Iterable[GatewaySpec], state_dir: Path
) -> Callable[[EvalTarget], EvalTarget]:
    """Return a function from a server's target to the same version behind a gateway.

    The operator's secret is read once and written into no file. A gateway drops the header that
    names a version from requests with a client's key.

    Raises:
        EvalError: FC4534, no gateway of our own is declared.
        FleetError: FC6015, the operator's secret cannot be read.
        UntrustedError: the gateway's host may not get the operator's secret.
    """
    ours = [gateway for gateway in gateways if gateway.kind == "fleetctl"]
    if not ours:
        detail = "Evaluations are to go through a gateway, and none of fleetctl's own is declared."
        hint = "Declare one under `gateways`, or ask the servers: `--through server`."
        raise EvalError.of("FC4534", "No gateway to ask through", detail, hint=hint)
    host, _, port = ours[0].listen.rpartition(":")
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "[::1]", "": "127.0.0.1"}  # noqa: S104 (to be asked)
    url = f"http://{reachable.get(host, host)}:{port}"
    reference = ours[0].secret or OPERATOR
    require_bound(url, reference)  # before the secret is read
    shown = authorization(url, reference, operator_secret(state_dir, ours[0]))

    def resolve(target: EvalTarget) -> EvalTarget:
        headers = {**shown, VERSION_HEADER: target.adapter}
        return replace(target, url=url, model=target.alias, headers=headers, server=target.url)

    return resolve
