"""Recognises servers of this fleet that run here without a launch record.

Such a server was started by hand from `fleetctl compile`, or its record was lost. The command line
of the process says the same as a record would; the stamped digest proves the flags that are read.
"""

import asyncio
from collections.abc import Collection, Iterator
from pathlib import Path
from uuid import uuid4

from fleet.hardware import PORT_STRIDE, DeviceSpec, HostSpec, is_cpu
from fleet.names import launch_stamp, server_name
from fleet.resources import Server
from fleet.vllm import SERVERS_PER_DEVICE, compiled_launch, read_back
from runtime.engines.launch_records import HOME, MARK, RECORD, LaunchRecord, LaunchRecords
from runtime.processes import (
    arguments,
    environment,
    listening,
    machine_id,
    open_ports,
    start_mark,
    started_with,
)

FLEET = "FLEETCTL_FLEET"
"""Environment variable with the name of the fleet that a process serves."""
UNIT = "FLEETCTL_UNIT"
"""Environment variable with the unit that `apply` wrote for a process."""
_TRIES, _PAUSE_S = 11, 0.5
"""Looks for a server, and seconds between them: longer than a supervisor pauses before a start."""


def url_of(address: str, port: int) -> str:
    """Return the base URL of a server."""
    return f"http://{f'[{address}]' if ':' in address else address}:{port}"


def unrecorded(
    host: HostSpec,
    records: LaunchRecords,
    folder: Path,
    fleet: str = "",
    recorded: Collection[int] = (),
) -> Iterator[LaunchRecord]:
    """Yield a record of every server of this fleet that listens on a port of a host and has none.

    `folder` is the project; `recorded` are the ports of servers whose record is there. A server of
    another fleet, of another project that keeps its record, or of another user is left out.
    """
    is_open = open_ports()
    seen = {*recorded}
    for device in host.devices:
        for number in range(SERVERS_PER_DEVICE[-1]):
            port = device.port + number * PORT_STRIDE
            if port in is_open and port not in seen:
                seen.add(port)
                found = (_record_of(pid, host, device, port, folder) for pid in listening(port))
                yield from (
                    record for record in found if record and _is_ours(record, records, fleet)
                )


async def started_by_others(
    server: Server, host: HostSpec, records: LaunchRecords, folder: Path, fleet: str
) -> LaunchRecord | None:
    """Return the record, written, of a server that a supervisor starts; None: none does.

    The command is that of `compile`, and the server may not listen yet. A supervisor that had
    started the server before gets a moment to do so again.
    """
    launch, ended = compiled_launch(server), records.read(server.name)
    (device,) = (device for device in host.devices if device.name == server.devices[0])
    for left in reversed(range(_TRIES if ended and ended.served_launch == launch else 1)):
        for pid in started_with(launch_stamp(launch)):
            record = _record_of(pid, host, device, server.port, folder)
            if record and record.name == server.name and _is_ours(record, records, fleet):
                record = record.model_copy(update={"ready": False})
                records.write(record)
                return record
        if left:
            await asyncio.sleep(_PAUSE_S)
    return None


def _record_of(
    pid: int, host: HostSpec, device: DeviceSpec, port: int, folder: Path
) -> LaunchRecord | None:
    words, mark = arguments(pid), start_mark(pid)
    read = read_back(words, str(folder))
    variables = environment(pid)
    devices = _devices(host, device, variables.get("CUDA_VISIBLE_DEVICES", ""))
    if read is None or read.port != port or mark is None:
        return None
    if len(devices) != read.flags.tensor_parallel or not read.stamps.digest:
        return None
    return LaunchRecord(
        name=server_name(read.base, host.name, devices[0]),
        base=read.base,
        host=host.name,
        devices=devices,
        port=port,
        digest=read.stamps.digest,
        url=url_of(host.address, port),
        launch=variables.get(MARK) or uuid4().hex,
        flags=read.flags,
        arguments=words,
        pid=pid,
        process_start=mark,
        ready=True,
        machine=machine_id(),
    )


def _devices(host: HostSpec, device: DeviceSpec, visible: str) -> tuple[str, ...]:
    """Return the devices of a server: those that the process sees, else the port's."""
    gpus = [other.name for other in host.devices if not is_cpu(other.kind)]
    indices = [int(text) for text in visible.split(",") if text.isdecimal()]
    seen = tuple(gpus[index] for index in indices if index < len(gpus))
    return seen if seen and not is_cpu(device.kind) else (device.name,)


def _is_ours(record: LaunchRecord, records: LaunchRecords, fleet: str) -> bool:
    variables = environment(record.pid)
    if UNIT in variables:  # the engine of units knows it
        return False
    if fleet and variables.get(FLEET, fleet) != fleet:
        return False
    home = variables.get(HOME, "")
    is_elsewhere = home and Path(home) != records.folder.resolve()
    return not (is_elsewhere and (Path(home) / record.name / RECORD).is_file())
