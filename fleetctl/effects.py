"""The effects of a project, wired up for an execution."""

import asyncio
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.names import AdapterName
from fleet.plan import Plan
from fleet.steps import Emit
from fleetctl.session import Session

if TYPE_CHECKING:
    from runtime.engines.protocol import Engine
    from runtime.execute.context import ExecutionContext
    from runtime.execute.outcome import ApplyOutcome
    from runtime.gateway.protocol import Gateways


def world_of(
    session: Session, engines: "Mapping[str, Engine]", gateways: "Gateways"
) -> "ExecutionContext":
    """Return everything that an execution acts on."""
    from runtime.execute.context import ExecutionContext  # noqa: PLC0415
    from runtime.project.git import commit_of  # noqa: PLC0415 (keeps small commands fast)
    from runtime.secrets import read_secret  # noqa: PLC0415

    fleet = session.fleet()
    return ExecutionContext(
        engines=engines,
        gateways=gateways,
        ledger=session.ledger(),
        publish=partial(_publish, session),
        secret=partial(read_secret, session.root),
        holder=f"{session.by} (run {session.run})",
        hosts={server.name: name for name, host in fleet.hosts.items() for server in host.attached},
        commit=commit_of(session.root),
    )


def _publish(session: Session, adapter: str, digest: str) -> Path:
    from runtime.library.layout import version_folder  # noqa: PLC0415
    from runtime.library.served_copies import publish  # noqa: PLC0415

    folder = version_folder(session.library, AdapterName.parse(adapter))
    return publish(folder, digest, session.state_dir / "store")


async def carry_out(
    session: Session, plan: Plan, emit: Emit, *, stop: asyncio.Event, trigger: str
) -> "ApplyOutcome":
    """Execute a plan on the project's engines and gateways.

    Raises:
        asyncio.CancelledError: it was ended at once.
        LockHeldError: another run holds the lease.
    """
    from runtime.execute.run import execute  # noqa: PLC0415

    async with session.connected() as (engines, gateways):
        return await execute(
            plan,
            world_of(session, engines, gateways),
            emit,
            stop=stop,
            trigger=trigger,
            replan=lambda live: session.plan(live=live),
        )


@contextmanager
def stopping() -> Iterator[asyncio.Event]:
    """Give an event that the first SIGINT or SIGTERM sets; the second cancels this task."""
    loop, task, stop = asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event()

    def heed() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, heed)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
