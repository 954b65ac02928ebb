"""Holds the clients, the wait for an answer and the refusals of all engines that start servers."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from fleet.environment import server_key
from fleet.errors import (
    EngineError,
    EngineRejectedError,
    EngineTimedOutError,
    EngineUnreachableError,
)
from fleet.hardware import HostSpec
from fleet.resources import Server, ServerFlags
from fleet.vllm import RELEASE
from runtime.engines.launch_records import LaunchRecord
from runtime.engines.recognition import FleetMark, url_of
from runtime.engines.vllm_api import list_models, refuses_key
from runtime.json_client import SERVER_KEYS, JsonClient

START_TIMEOUT_S: Final = 1800.0
"""Upper bound of the start of a server: a large base on a slow disk. Raise it for larger bases."""
LAUNCH_LENGTH: Final = 12
"""Hex digits of a launch's mark that a server is stamped with."""
LONGEST_POLL_S: Final = 0.5
"""Longest pause between two looks at a server that starts. Seconds."""
INSTALL: Final = "fleetctl vllm install"
_FIRST_POLL_S: Final = 0.02
_ANSWER_S: Final = 2.0
"""Upper bound of the wait for a list of models in a start. Seconds."""


@dataclass(eq=False)
class ServerClients:
    """Clients of a host's servers, by server."""

    host: HostSpec
    secret: str = field(default="", repr=False)
    """The secret of the keys of servers; empty: they have none."""
    keeps_urls: bool = False
    """Whether a server is at the URL of its record, not at the address that is declared now."""
    by_server: dict[str, JsonClient] = field(default_factory=dict, init=False)

    def here(self, record: LaunchRecord) -> LaunchRecord:
        """Return a record with the address at which its server is reached."""
        if self.keeps_urls:
            return record
        return record.model_copy(update={"url": url_of(self.host.reached_at, record.port)})

    def client(self, record: LaunchRecord) -> JsonClient:
        """Return the client of a server."""
        url, client = self.here(record).url, self.by_server.get(record.name)
        SERVER_KEYS[url] = server_key(self.secret, record.name, record.served_launch)
        if client is None or client.url != url:
            client = JsonClient(url, peer=f"server `{record.name}` at {url}")
            self.by_server[record.name] = client
        return client

    async def reach(self, record: LaunchRecord) -> JsonClient:
        """Return the client of a server; a subclass makes the way to the port first."""
        return self.client(record)

    async def answers(self, record: LaunchRecord) -> bool:
        """Return whether the server of a launch answers, not another server on its port.

        Raises:
            EngineError: FC4024, the server has another key; or as `reach`.
        """
        client = await self.reach(record)
        try:
            stamps = (await list_models(client, _ANSWER_S)).stamps
        except EngineError as error:
            if refuses_key(error):
                raise
            return False
        return (stamps.digest, stamps.launch) == (record.digest, record.served_launch)

    async def until_ready(
        self, record: LaunchRecord, timeout_s: float, require_start: Callable[[], Awaitable[None]]
    ) -> None:
        """Return once the server of a launch answers.

        Args:
            record: of the launch.
            timeout_s: upper bound of the wait.
            require_start: raises the error of a server that does not start any more; called
                between the looks.

        Raises:
            EngineTimedOutError: FC4019, no answer in time; the server is left running.
            EngineError: as `answers` and `require_start`.
        """
        clock = asyncio.get_running_loop().time
        began, pause = clock(), _FIRST_POLL_S
        while not await self.answers(record):
            await require_start()
            if (waited := clock() - began) > timeout_s:
                raise EngineTimedOutError.of(
                    "FC4019",
                    "A server does not become ready",
                    f"`{record.name}` runs and does not answer after {waited:.0f} s.",
                    hint="The log shows the reason; the server is left running.",
                    command=f"fleetctl server logs {record.name}",
                )
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_POLL_S)

    async def close(self, *servers: str) -> None:
        """Close the connections to these servers; without names, to all."""
        for name in servers or tuple(self.by_server):
            if (client := self.by_server.pop(name, None)) is not None:
                await client.close()


def flags_of(server: Server) -> ServerFlags:
    """Return the flags of a server that is to be started.

    Raises:
        EngineError: FC4015, there are none.
    """
    if server.flags is None:
        detail = f"The plan starts `{server.name}` and gives no flags for it."
        command = "fleetctl plan --out plan.json"
        raise EngineError.of("FC4015", "A server without flags", detail, command=command)
    return server.flags


def require_own(what: str, other: FleetMark, fleet: FleetMark) -> None:
    """Refuse a unit or an actor of another fleet or program; raises FC4101."""
    if not fleet.owns(other):
        writer = f"serves {other}" if other.name else "is not fleetctl's"
        raise EngineRejectedError.of(
            "FC4101",
            "Unit belongs to others",
            f"{what} {writer}, and this is {fleet}. It was left as it is.",
            hint="Give the host another name in one of the fleets, or log in to a box as another "
            "user. Disable and delete a unit that `fleetctl compile` printed.",
        )


def require_digest(server: Server, runs: str) -> None:
    """Refuse to start a server that runs with other flags, by their digest; raises FC4016."""
    wanted = server.digest or flags_of(server).digest
    if runs != wanted:
        raise EngineError.of(
            "FC4016",
            "A server runs with other flags",
            f"`{server.name}` runs with flags {runs}, wanted are {wanted}. vLLM changes no flag "
            "while it runs.",
            hint="Plan again: the plan stops it first.",
            command="fleetctl plan",
        )


def port_taken(
    server: str, place: str, *, processes: str = "", serves: str = "", command: str = ""
) -> EngineError:
    """Return the error FC4011 of a server's port that others have.

    Args:
        server: name of the server.
        place: the port, in the words of an operator.
        processes: those that listen; empty: not known.
        serves: the models that the port serves, quoted; empty: no model server answers, or it was
            not asked.
        command: that shows the processes.
    """
    found = f": {processes}" if processes else ""
    hint = "See what it serves before you end it, or declare another `port` for the host."
    if serves:
        hint = (
            f"It serves {serves}, so leave it. Declare another `port` for the host. A server of "
            "this fleet is adopted from the project and by the user that started it."
        )
    return EngineError.of(
        "FC4011",
        "A port is taken",
        f"Something else listens on {place}, where `{server}` would{found}. It may be a server of "
        "another project.",
        hint=hint,
        command=command,
    )


def ended_early(
    server: str, lines: str, log: str, place: str = "", install: str = INSTALL
) -> EngineError:
    """Return the error FC4012 of a server that ended during its start.

    Args:
        server: name of the server.
        lines: last lines of its log; empty: there are none.
        log: where the whole log is.
        place: the machine; empty: this machine.
        install: command that installs vLLM there.
    """
    lines = lines.strip() or "It wrote nothing."
    why, hint, command = "", f"The whole log is {log}.", f"fleetctl server logs {server}"
    if "No module named 'vllm'" in lines:
        why, command = ": its interpreter has no vLLM", install
        hint = "Set `python` of the host to an interpreter that has vLLM."
    elif "unrecognized arguments" in lines:
        release = ".".join(map(str, RELEASE))
        why = f": its vLLM lacks flags of vLLM {release}, for which fleetctl is made"
    where = f" on `{place}`" if place else ""
    detail = f"`{server}`{where} ended{why}. The end of its log:\n\n{lines.rstrip('.')}."
    return EngineError.of(
        "FC4012", "A server ended while it started", detail, hint=hint, command=command
    )


def started_elsewhere(
    server: str, place: str, why: str, command: str = "fleetctl plan"
) -> EngineRejectedError:
    """Return the error FC4102 of a start for which another run has left no place."""
    return EngineRejectedError.of(
        "FC4102",
        "Another run started a server",
        f"`{server}` was not started on `{place}`: {why}. That one was left as it is.",
        hint="Another checkout or a person started it. Plan again once it answers, or end it if "
        "nobody needs it.",
        command=command,
    )


def not_running(server: str, why: str) -> EngineUnreachableError:
    """Return the error FC4017 of a server that is asked and does not run."""
    return EngineUnreachableError.of(
        "FC4017",
        "The server does not run",
        f"`{server}` {why}.",
        hint="Apply starts it; its log says why it ended.",
        command=f"fleetctl server logs {server}",
    )
