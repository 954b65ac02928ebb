"""Rolling restart: a gateway starts anew, once balancers send its clients to the others."""

import asyncio
from contextlib import suppress
from typing import Final

from fleet.errors import EngineError, EngineRejectedError, FleetError
from runtime.gateway.client import AdminClient
from runtime.gateway.control import LocalGateways
from runtime.gateway.http.timeouts import GRACE_S
from runtime.gateway.supervisor import START_S

_POLL_S: Final = 0.1


async def require_others(gateways: LocalGateways, restarted: str) -> None:
    """Refuse to take a gateway out while another does not answer by the newest table.

    Raises:
        EngineRejectedError: FC6017.
    """
    newest, _ = await gateways.read_table()
    for status in await gateways.statuses():
        if status.name == restarted or status.digest == newest.digest:
            continue
        lag = f"serves revision {status.revision}, the newest is {newest.revision}"
        silent = status.revision is None
        why = (status.problem or "does not run") if silent else lag
        raise EngineRejectedError.of(
            "FC6017",
            "Another gateway would not take over",
            f"Gateway `{status.name}`: {why.rstrip('.')}. While `{restarted}` starts anew, "
            f"clients would have no gateway, or older routes. `{restarted}` was left as it is.",
            hint="Start the other gateway first, or bring its routes up to date.",
            command="fleetctl gateway status" if silent else "fleetctl reconcile --once",
        )


async def restart(name: str, gateways: LocalGateways, client: AdminClient, wait_s: float) -> None:
    """Start a gateway anew; return once it is ready with the newest table.

    The gateway first says for `wait_s` seconds that it is not ready: it goes on answering,
    balancers take it out, and running requests end. Its program, certificate and the files of its
    secrets are read anew; its settings and variables stay those of its start.

    Raises:
        EngineError: the gateway cannot be asked.
        FleetError: FC6018, the gateway is not back in time.
    """
    clock = asyncio.get_running_loop().time
    boot = await client.restart(wait_s)
    longest_s = wait_s + GRACE_S + START_S
    deadline = clock() + longest_s
    while True:
        with suppress(EngineError):
            if await client.boot() != boot:
                newest, _ = await gateways.read_table()
                if (await client.config()).digest != newest.digest:
                    await client.serve(newest)
                if await client.is_ready():
                    return
        if clock() > deadline:
            raise FleetError.of(
                "FC6018",
                "A gateway is not back",
                f"Gateway `{name}` was told to start anew and is not ready after "
                f"{longest_s:.0f} s. Clients are answered by the others; none of these was "
                "restarted after it.",
                hint="Look at its log where it runs, start it there, then say the same again.",
                command="fleetctl gateway status",
            )
        await asyncio.sleep(_POLL_S)
