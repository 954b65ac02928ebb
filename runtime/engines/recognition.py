"""Recognises servers of this fleet that run here without a launch record.

Such a server was started by hand from `fleetctl compile`, or its record was lost. The command line
of the process says the same as a record would; the stamped digest proves the flags that are read.
"""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from uuid import uuid4

from pydantic import ValidationError

from fleet.hardware import PORT_STRIDE, DeviceSpec, HostSpec, is_cpu
from fleet.names import launch_stamp, server_name
from fleet.resources import Server
from fleet.vllm import SERVERS_PER_DEVICE, compiled_launch, read_back
from runtime.engines.launch_records import (
    COPY,
    HOME,
    MARK,
    RECORD,
    LaunchRecord,
    LaunchRecords,
    parse_record,
)
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
FLEET_ID = "FLEETCTL_FLEET_ID"
"""Environment variable with the id of that fleet."""
UNIT = "FLEETCTL_UNIT"
"""Environment variable with the unit that `apply` wrote for a process."""
_TRIES, _PAUSE_S = 11, 0.5
"""Looks for a server, and seconds between them: longer than a supervisor pauses before a start."""


@dataclass(frozen=True, slots=True)
class FleetMark:
    """The fleet that a server serves, as its environment says."""

    name: str = ""
    id: str = ""
    """Drawn by the first apply; empty: none was yet, or an earlier release started the server."""

    @property
    def variables(self) -> dict[str, str]:
        """Environment of a server of the fleet."""
        return {FLEET: self.name} | ({FLEET_ID: self.id} if self.id else {})

    @classmethod
    def among(cls, variables: Mapping[str, str], unsaid: str = "") -> Self:
        """Return the mark in an environment; `unsaid`: the name where it says none."""
        return cls(variables.get(FLEET, unsaid), variables.get(FLEET_ID, ""))

    def owns(self, other: Self) -> bool:
        """Say whether a server is of this fleet; where an id is missing, the names decide."""
        return self.name == other.name and ("" in (self.id, other.id) or self.id == other.id)

    def others(self, other: Self, what: str) -> list[str]:
        """Return a note about a server of a fleet of the same name; empty: it has another name."""
        return [f"{what} serves {other}, not {self}; it is left alone."] * (self.name == other.name)

    def __str__(self) -> str:
        return f"fleet `{self.name}`" + (f" (id {self.id})" if self.id else "")


NO_FLEET: Final = FleetMark()


def url_of(address: str, port: int) -> str:
    """Return the base URL of a server."""
    return f"http://{f'[{address}]' if ':' in address else address}:{port}"


def unrecorded(
    host: HostSpec,
    records: LaunchRecords,
    folder: Path,
    fleet: FleetMark,
    recorded: Collection[int] = (),
) -> Iterator[tuple[LaunchRecord, str]]:
    """Yield a record of every server of this fleet that listens on a port of a host and has none.

    `folder` is the project; `recorded` are the ports of servers whose record is there. With the
    record comes the state folder that keeps it, of another checkout; empty: none does. A server of
    another fleet or of another user is left out.
    """
    is_open = open_ports()
    seen = {*recorded}
    for device in host.devices:
        for number in range(SERVERS_PER_DEVICE[-1]):
            port = device.port + number * PORT_STRIDE
            if port in is_open and port not in seen:
                seen.add(port)
                for pid in listening(port):
                    record = _record_of(pid, host, device, port, folder) or _carried(pid)
                    if record and _is_ours(pid, fleet):
                        home = _kept_elsewhere(record, records)
                        if home or record.ready:  # a carried record counts where it is kept
                            yield record, home


async def started_by_others(
    server: Server, host: HostSpec, records: LaunchRecords, folder: Path, fleet: FleetMark
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
            is_this = record and record.name == server.name and _is_ours(pid, fleet)
            if record and is_this and not _kept_elsewhere(record, records):
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


def _is_ours(pid: int, fleet: FleetMark) -> bool:
    variables = environment(pid)
    if UNIT in variables:  # the engine of units knows it
        return False
    return not fleet.name or fleet.owns(FleetMark.among(variables, fleet.name))


def _carried(pid: int) -> LaunchRecord | None:
    """Return the record in the environment of a process, of another project's folder."""
    with suppress(ValidationError):
        record = parse_record(environment(pid).get(COPY, ""), f"{COPY} of process {pid}")
        return record.model_copy(update={"pid": pid, "ready": False})
    return None


def _kept_elsewhere(record: LaunchRecord, records: LaunchRecords) -> str:
    """Return the state folder of another checkout that keeps a record; empty: none does."""
    home = Path(environment(record.pid).get(HOME, "") or records.folder)
    is_elsewhere = home.resolve() != records.folder.resolve()
    return str(home.parent) if is_elsewhere and (home / record.name / RECORD).is_file() else ""
