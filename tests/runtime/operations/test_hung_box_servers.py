"""A server on a box that hangs is replaced after a time, if the box is reached."""

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleet.hardware import HostSpec
from fleet.names import server_address
from fleet.resources import Fault
from runtime.engines.launch_records import LaunchRecord
from runtime.engines.remote.box import MEMORIES, BoxMemory
from runtime.operations.machines.outages import OutageMemory, Silence, find_silent
from tests.fleet.planning.builders import fleet, state
from tests.runtime.engines.remote.units import RECORD

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)
LATER = BEGAN + timedelta(minutes=3)
SILENT = Silence(BEGAN, f"{RECORD.launch} a1")
"""Of the launch that systemd calls `a1`, in earlier rounds."""


async def seen(
    folder: Path, record: LaunchRecord, before: Silence | None, now: datetime, **box: bool
) -> tuple[Fault, Silence | None]:
    """What a round finds that did not get an answer from the server."""
    name = record.name
    BoxMemory("/store", {name: record}, **box).write(folder / MEMORIES / "box1.json")
    boxes = fleet(hosts=(HostSpec("box1", "ssh", address="box1"),))
    memory = OutageMemory(silent={name: before} if before else {})
    live = state(unknown_servers={name: "timeout"})
    after, silences = await find_silent(boxes, live, folder, memory, now)
    return after.faults[server_address(name)], silences.get(name)


def test_a_silent_server_heals_after_a_time_if_its_host_is_reached(tmp_path: Path) -> None:
    async def all_rounds() -> list[tuple[Fault, Silence | None]]:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, answers nothing
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            up = RECORD.model_copy(update={"url": url, "ready": True, "process_start": "a1"})
            restarted = up.model_copy(update={"process_start": "a2"})
            starting = up.model_copy(update={"ready": False})
            rounds = await asyncio.gather(
                seen(tmp_path / "1", up, None, BEGAN),
                seen(tmp_path / "2", up, SILENT, LATER),
                seen(tmp_path / "3", restarted, SILENT, LATER),
                seen(tmp_path / "4", up, SILENT, LATER, is_reached=False),
                seen(tmp_path / "5", starting, SILENT, LATER),
            )
        return [*rounds]

    faults, silences = zip(*asyncio.run(all_rounds()), strict=True)
    assert [fault.heals for fault in faults] == [False, True, False, False, False]
    assert "after 120 s of silence" in faults[0].what
    assert silences == (SILENT, SILENT, Silence(LATER, f"{RECORD.launch} a2"), None, None)
