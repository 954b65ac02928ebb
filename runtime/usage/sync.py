"""Copies the usage logs of gateways on other machines here, so that live gates count all requests.

Each segment of a gateway's usage log has a copy in the gateway's folder, and the copy's size says
where to go on: a run that is killed at any point loses nothing and copies nothing twice.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from fleet.errors import EngineError, FleetError
from runtime.files import locked_file
from runtime.json_client import JsonClient
from runtime.usage.log import COPY_PREFIX, USAGE_PATH, cut_incomplete_line, gateway_segments

MAX_SECONDS: Final = 20.0
"""Upper bound of the seconds that a run copies from a gateway; the next run goes on."""
MAX_SKEW: Final = timedelta(seconds=30)
"""Upper bound of the difference of clocks; beyond it rows would count in the wrong windows."""
_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class UsageSource:
    """A gateway on another machine."""

    name: str
    connect: Callable[[], JsonClient]
    """Opens its admin side; raises `FleetError` where the operator's secret cannot be read."""
    prepare_folder: Callable[[], Path]
    """Makes the gateway's folder in the state folder here."""
    unavailable: str = ""
    """Why the gateway shows no usage; empty: the gateway does."""


async def sync_usage(
    sources: Iterable[UsageSource],
    since: datetime,
    clock: Callable[[], datetime],
    seconds: Callable[[], float] = time.monotonic,
) -> tuple[str, ...]:
    """Copy the usage logs of gateways on other machines; return why requests may be lacking.

    Segments that were last written before `since` are left out. `clock` is the time here,
    `seconds` the clock that bounds copying.
    """
    gateways = [*sources]
    reasons = await asyncio.gather(
        *(_sync_gateway(source, since, clock, seconds) for source in gateways)
    )
    return tuple(
        f"requests of gateway {source.name} are lacking: {why}"
        for source, why in zip(gateways, reasons, strict=True)
        if why
    )


async def _sync_gateway(
    source: UsageSource,
    since: datetime,
    clock: Callable[[], datetime],
    seconds: Callable[[], float],
) -> str:
    """Copy the usage log of a gateway; return why requests are lacking, empty: none are."""
    if source.unavailable:
        return source.unavailable
    try:
        async with source.connect() as client:
            listing, now = await client.get(USAGE_PATH), clock()
            skew = datetime.fromisoformat(listing["time"]) - now  # before copying takes its time
            folder = source.prepare_folder()
            left = await _copy_segments(client, folder, listing, since, seconds)
    except (EngineError, FleetError) as error:
        why = error.diagnostics[0].detail.rstrip(".")
    except BlockingIOError:
        why = "another run is copying its usage"
    except OSError as error:
        why = error.strerror or str(error)
    except (ValueError, KeyError, TypeError):
        why = "it shows something else than its usage"
    else:
        why = f"{left / _MIB:.1f} MiB of its usage are still to be copied" if left else ""
        if abs(skew) > MAX_SKEW:
            why = f"its clock is {skew.total_seconds():+.0f} s off, so its times do not count"
    return why


async def _copy_segments(
    client: JsonClient,
    folder: Path,
    listing: Mapping[str, Any],
    since: datetime,
    seconds: Callable[[], float],
) -> int:
    """Copy the new rows; return the number of bytes that are left to copy."""
    deadline, left = seconds() + MAX_SECONDS, 0
    keys_here = {segment.key for segment in gateway_segments(folder)}
    for file in listing["files"]:
        key, size = str(file["key"]), int(file["size"])
        if key in keys_here or datetime.fromisoformat(file["written"]) < since:
            continue  # a gateway with a URL may run on this machine, too
        if not key.isalnum():
            raise ValueError(key)
        path = folder / f"{COPY_PREFIX}{key}.jsonl"
        with locked_file(path, timeout_s=0, flags=os.O_RDWR | os.O_CREAT | os.O_APPEND) as copy:
            copied = cut_incomplete_line(copy)
            while copied < size and seconds() < deadline:
                rows = await client.get_bytes(f"{USAGE_PATH}/{key}?from={copied}")
                if not rows:
                    break
                await asyncio.to_thread(_write_all, copy, rows)
                copied += len(rows)
            left += max(0, size - copied)
    return left


def _write_all(file: int, rows: bytes) -> None:
    while rows:
        rows = rows[os.write(file, rows) :]
