"""Ask a version through a gateway in an evaluation, so that the requests are counted."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from fleet.errors import EvalError, problem
from fleet.evals import EvalTarget
from fleet.spec import GatewaySpec
from runtime.gateway.state_dir import operator_secret

VERSION_HEADER = "X-Fleetctl-Version"


def through_gateway(
    gateways: Iterable[GatewaySpec], state_dir: Path
) -> Callable[[EvalTarget], EvalTarget]:
    """Return a function from a server's target to the same version behind a gateway.

    The operator's secret is read once and written into no file. A gateway drops the header that
    names a version from requests with a client's key.

    Raises:
        EvalError: FC4534, no gateway of our own is declared.
        FleetError: FC6015, the operator's secret cannot be read.
    """
    ours = [gateway for gateway in gateways if gateway.kind == "fleetctl"]
    if not ours:
        raise EvalError(
            problem(
                "FC4534",
                "No gateway to ask through",
                "Evaluations are to go through a gateway, and none of fleetctl's own is declared.",
                hint="Declare one under `gateways`, or ask the servers: `--through server`.",
            )
        )
    secret = operator_secret(state_dir, ours[0])
    host, _, port = ours[0].listen.rpartition(":")
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "[::1]", "": "127.0.0.1"}  # noqa: S104 (to be asked)
    url = f"http://{reachable.get(host, host)}:{port}"

    def way(target: EvalTarget) -> EvalTarget:
        headers = {"Authorization": f"Bearer {secret}", VERSION_HEADER: target.adapter}
        return replace(target, url=url, model=target.alias, headers=headers, server=target.url)

    return way
