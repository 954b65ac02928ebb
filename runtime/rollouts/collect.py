"""Usage of gateways on other machines, copied here so that live gates count all requests.

Each file of a gateway's usage log has a copy in the gateway's folder, and the copy's size says
where to go on: a run that is killed at any point loses nothing and copies nothing twice.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from fleet.errors import EngineError, FleetError
from fleet.spec import GatewaySpec
from runtime.gateway import places
from runtime.gateway.operator import operator_secret
from runtime.gateway.usagesegments import segments_of
from runtime.gateway.usageserve import USAGE
from runtime.json_client import JsonClient
from runtime.rollouts.rows import COPY

SPENT_S: Final = 20.0
"""How long a tick copies from one gateway; the next tick goes on."""
SKEW: Final = timedelta(seconds=30)
"""Difference of clocks beyond which rows would be counted in the wrong windows."""
_MIB: Final = 2**20


async def collect(
    state_dir: Path,
    gateways: Mapping[str, GatewaySpec],
    since: datetime,
    clock: Callable[[], datetime],
    seconds: Callable[[], float] = time.monotonic,
) -> tuple[str, ...]:
    """Copy what gateways elsewhere have written; return why requests may be lacking.

    Args:
        state_dir: The fleet's state folder.
        gateways: As declared; empty: those that `state_dir` remembers.
        since: Files that were last written before are left out.
        clock: The time here.
        seconds: Clock for the time that is spent.

    Returns:
        A sentence for each gateway that could not be read whole. One that is reached over a
        socket is on this machine, and its log lies here already.
    """
    known = dict(gateways) or places.known(state_dir)
    away = [each for _, each in sorted(known.items()) if places.is_url(each.admin)]
    found = await asyncio.gather(*(_from(state_dir, each, since, clock, seconds) for each in away))
    return tuple(
        f"requests of gateway {each.name} are lacking: {why}"
        for each, why in zip(away, found, strict=True)
        if why
    )


async def _from(
    state_dir: Path,
    gateway: GatewaySpec,
    since: datetime,
    clock: Callable[[], datetime],
    seconds: Callable[[], float],
) -> str:
    """Copy from one gateway; return why something is lacking, empty: nothing is."""
    if gateway.kind == "envoy":
        return "it is an Envoy on another machine, which shows no usage"
    try:
        secret = operator_secret(state_dir, gateway)
        proof = {"Authorization": f"Bearer {secret}"}
        async with JsonClient(gateway.admin, peer="it", headers=proof) as client:
            shown, now = await client.get(USAGE), clock()
            skew = datetime.fromisoformat(shown["time"]) - now  # before copying takes its time
            left = await _copy(client, _folder(state_dir, gateway), shown, since, seconds)
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
        if abs(skew) > SKEW:
            why = f"its clock is {skew.total_seconds():+.0f} s off, so its times do not count"
    return why


def _folder(state_dir: Path, gateway: GatewaySpec) -> Path:
    places.remember(state_dir, {gateway.name: gateway})
    return places.folder(state_dir, gateway.name)


async def _copy(
    client: JsonClient,
    folder: Path,
    shown: Mapping[str, Any],
    since: datetime,
    seconds: Callable[[], float],
) -> int:
    """Copy what is new; return how many bytes are left to copy."""
    until, left = seconds() + SPENT_S, 0
    ours = {each.key for each in segments_of(folder)}
    for each in shown["files"]:
        key, size = str(each["key"]), int(each["size"])
        if key in ours or datetime.fromisoformat(each["written"]) < since:
            continue  # a gateway with a URL may run on this machine, too
        if not key.isalnum():
            raise ValueError(key)
        with _opened(folder / f"{COPY}{key}.jsonl") as (file, before):
            have = before
            while have < size and seconds() < until:
                rows = await client.get_bytes(f"{USAGE}/{key}?from={have}")
                if not rows:
                    break
                await asyncio.to_thread(_write, file, rows)
                have += len(rows)
            left += max(0, size - have)
    return left


def _write(file: int, rows: bytes) -> None:
    while rows:
        rows = rows[os.write(file, rows) :]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, int]]:
    """Give a copy and its size, with nobody else writing it and no broken row at its end."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        size = os.fstat(file).st_size
        tail = os.pread(file, _MIB, max(0, size - _MIB))
        if tail and not tail.endswith(b"\n"):
            size += tail.rfind(b"\n") + 1 - len(tail)
            os.ftruncate(file, size)
        yield file, size
    finally:
        os.close(file)
