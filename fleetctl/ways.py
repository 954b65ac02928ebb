"""How a version is asked in an evaluation: its server itself, or a gateway that counts."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from fleet.errors import EvalError, problem
from fleetctl.session import Session

if TYPE_CHECKING:
    from fleet.evals import EvalTarget

VERSION_HEADER = "X-Fleetctl-Version"


def through_gateway(session: Session) -> "Callable[[EvalTarget], EvalTarget]":
    """Return what turns a server's target into the same version behind a gateway.

    The operator's secret is read once and goes into no file. Clients' keys open nothing of it:
    a gateway drops the header that names a version from whoever is not the operator.

    Raises:
        EvalError: FC4534, no gateway of our own is declared.
        FleetError: FC6015, the operator's secret cannot be read.
    """
    from runtime.gateway.operator_secret import (  # noqa: PLC0415 (keeps `--help` fast)
        operator_secret,
    )

    ours = [each for each in session.fleet().gateways.values() if each.kind == "fleetctl"]
    if not ours:
        raise EvalError(
            problem(
                "FC4534",
                "No gateway to ask through",
                "Evaluations are to go through a gateway, and none of fleetctl's own is declared.",
                hint="Declare one under `gateways`, or ask the servers: `--through server`.",
            )
        )
    secret = operator_secret(session.state_dir, ours[0])
    host, _, port = ours[0].listen.rpartition(":")
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "[::1]", "": "127.0.0.1"}  # noqa: S104 (to be asked)
    url = f"http://{reachable.get(host, host)}:{port}"

    def way(target: "EvalTarget") -> "EvalTarget":
        headers = {"Authorization": f"Bearer {secret}", VERSION_HEADER: target.adapter}
        return replace(target, url=url, model=target.alias, headers=headers, server=target.url)

    return way
