"""Brings the usage of all gateways into the store, for commands and in rounds of reconcile."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from fleet.errors import ConfigError, FleetError
from runtime.gateway.client import usage_sources
from runtime.gateway.state_dir import known_gateways
from runtime.messages import FailureMessage
from runtime.operations.status import require_client
from runtime.usage.captured import delete_expired
from runtime.usage.ingest import Ingested, ingest
from runtime.usage.parquet import KEEP_PARTS
from runtime.usage.retention import remove_oldest
from runtime.usage.segments import LOG_BYTES
from runtime.usage.sync import sync_usage
from runtime.usage.writing import BUSY
from runtime.workspace import Workspace

WAIT_S: Final = 60.0
"""Upper bound of a command's wait for another process that ingests, in seconds."""


def require_known(workspace: Workspace, client: str | None, found: Collection[object]) -> None:
    """Refuse a client of which nothing was found and that is not declared (FC5122)."""
    if not found:
        with suppress(ConfigError):  # without declarations no name is wrong
            require_client(workspace, client)


async def gather_usage_rows(
    state_dir: Path, clock: Callable[[], datetime], wait_s: float = 0.0
) -> tuple[Ingested, tuple[str, ...]]:
    """Copy rows of gateways on other machines here, and ingest all; return why rows are lacking.

    Captured text whose time is over is deleted before.

    `wait_s`: as `ingest`; raises as `ingest`.
    """
    sources = usage_sources(state_dir, {})
    lacking = await sync_usage(sources, clock() - KEEP_PARTS, clock)
    delete_expired(state_dir, clock().date())
    done = await asyncio.to_thread(ingest, state_dir, clock(), wait_s=wait_s)
    cut = (
        f"log {path} was cut or changed after it was ingested: each of its rows counts once, and "
        "requests that the log lacks now may be lacking"
        for path in done.cut
    )
    damaged = (
        f"lines of log {path} cannot be read and are left out: {lines}"
        for path, lines in done.damaged.items()
    )
    return done, (*lacking, *cut, *damaged)


def remove_old_logs(state_dir: Path) -> list[str]:
    """Remove the oldest ingested files of usage logs above their size; return what was removed."""
    return [
        text
        for name, gateway in known_gateways(state_dir).items()
        for text in remove_oldest(state_dir, name, gateway.usage_log or LOG_BYTES)
    ]


async def keep_usage(workspace: Workspace) -> None:
    """Gather rows in a round of a loop: a fault is told, and does not end the round."""
    try:
        await gather_usage_rows(workspace.state_dir, workspace.now)
        for text in remove_old_logs(workspace.state_dir):
            workspace.warn(f"The {text}.")
    except FleetError as error:
        if error.diagnostics[0].code != BUSY:
            workspace.emit(FailureMessage(error.diagnostics))
    except OSError as error:
        workspace.warn(f"Usage is not ingested: {error}")
