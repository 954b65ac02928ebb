"""Starts and ends servers as processes that outlive the command; checks ports; reads logs."""

import asyncio
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from fleet.errors import EngineError, EngineTimedOutError
from fleet.resources import Server
from runtime.engines.launch_records import LaunchRecord, LaunchRecords
from runtime.engines.launching import INSTALL, port_taken
from runtime.engines.recognition import NO_FLEET, FleetMark, url_of
from runtime.engines.vllm_api import list_models
from runtime.files import make_private, open_plain, private_file
from runtime.json_client import JsonClient
from runtime.processes import command_line, environment, is_stopped, listening, send, start_mark
from runtime.trust import may_contact

_PORT_POLL_S = 0.02
_ANSWER_S = 2.0


async def refuse_taken_port(
    server: Server, address: str, grace_s: float, fleet: FleetMark = NO_FLEET
) -> None:
    """Refuse a port that is taken for longer than `grace_s` seconds.

    The main thread of a killed process is a zombie, and so counts as gone, a moment before
    its other threads release the port.

    Raises:
        EngineError: FC4011, with the processes that listen on the port; FC4103, of another fleet.
    """
    deadline = asyncio.get_running_loop().time() + grace_s
    while _listens(address, server.port):
        if asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_PORT_POLL_S)
            continue
        pids = listening(server.port)
        _refuse_others(server, pids, fleet)
        processes = "; ".join(f"process {pid}, `{command_line(pid):.120}`" for pid in pids)
        raise port_taken(
            server.name,
            f"{address}:{server.port}",
            processes=processes,
            serves=await _answering(url_of(address, server.port)),
            command="" if pids else f"lsof -i :{server.port}",
        )


def _refuse_others(server: Server, pids: Iterable[int], fleet: FleetMark) -> None:
    """Refuse the place of a server of another fleet; raises FC4103."""
    for pid in pids:
        other = FleetMark.among(environment(pid), fleet.name)
        if not fleet.owns(other):
            raise EngineError.of(
                "FC4103",
                "A server of another fleet",
                f"Process {pid} serves {other} on port {server.port}, where `{server.name}` of "
                f"{fleet} would. It was left as it is.",
                hint="Declare another `port` for the host in one of the two. If both are one, they "
                "have two ledgers: keep the one that its servers name.",
            )


async def _answering(url: str) -> str:
    """Return the models of the server at an address, quoted; empty: no model server answers."""
    async with JsonClient(url) as http:
        with suppress(EngineError):
            listing = await list_models(http, _ANSWER_S)
            return ", ".join(f"`{name}`" for name in (*listing.names, *listing.adapters))
    return ""


def _listens(address: str, port: int) -> bool:
    if not may_contact(url_of(address, port)):  # no server of ours binds to it, either
        return False
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


STOP_TIMEOUT_S = 40.0
"""Seconds after SIGTERM until SIGKILL; above the servers' own shutdown timeout."""

_UNREADY_TIMEOUT_S = 5.0
"""The same for a server that never answered, and so has no requests to finish."""

_KILL_TIMEOUT_S = 10.0
_POLL_S = 0.05
_TAIL_LINES = 12
_TAIL_BYTES = 65536
_ERROR_LINE = re.compile(r"(?:\w(?:Error|Exception)|error): \S")


def spawn(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, with its output in `log`.

    The log of the launch before is kept as `log.1`.
    """
    make_private(log.parent)
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
    with open(log, "wb", opener=private_file) as output:
        return subprocess.Popen(
            arguments,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def cannot_start(server: str, program: str, why: str) -> EngineError:
    """Return the error of a program that cannot be run."""
    detail = f"`{program}` for `{server}`: {why}."
    hint = "Set `python` of the host to an interpreter that has vLLM."
    return EngineError.of(
        "FC4018", "A server cannot be started", detail, hint=hint, command=INSTALL
    )


async def end(
    record: LaunchRecord, records: LaunchRecords, timeout_s: float = STOP_TIMEOUT_S
) -> None:
    """End a launched server and all its processes, and delete its record.

    The main process gets SIGTERM first and lets its requests finish, unless the process is stopped
    (SIGSTOP); processes left after `timeout_s` get SIGKILL, workers included. A server without
    processes is fine.

    Raises:
        EngineError: FC6082, the process of the record is another one, or on another machine; no
            signal was sent.
        EngineTimedOutError: a process survives SIGKILL, as in uninterruptible sleep.
    """
    leader = record.leader()
    if record.is_elsewhere:
        detail = f"`{record.name}`: {records.elsewhere(record)}."
        raise EngineError.of("FC6082", "Process of a record is another one", detail)
    if leader is None and record.pid and start_mark(record.pid) == record.process_start:
        raise _not_its_own(record, records)
    if leader is not None and not is_stopped(leader):
        send(leader, signal.SIGTERM)
        await _gone([leader], timeout_s if record.ready else min(timeout_s, _UNREADY_TIMEOUT_S))
    left = record.processes()
    if left:
        for pid in left:
            send(pid, signal.SIGKILL)
        if not await _gone(left, _KILL_TIMEOUT_S):
            detail = (
                f"Processes {', '.join(map(str, left))} of server `{record.name}` survive "
                "SIGKILL, so its memory and port are not free."
            )
            hint = "Look for a hung driver or disk on this machine (`dmesg`)."
            raise EngineTimedOutError.of("FC4013", "A server does not end", detail, hint=hint)
    records.forget(record.name)


def _not_its_own(record: LaunchRecord, records: LaunchRecords) -> EngineError:
    detail = (
        f"The record of `{record.name}` names process {record.pid}, "
        f"`{command_line(record.pid):.120}`, which bears no mark of this launch. Nothing was "
        "stopped."
    )
    hint = f"If the record is not yours, remove `{records.folder / record.name}`."
    return EngineError.of("FC6082", "Process of a record is another one", detail, hint=hint)


async def _gone(pids: Sequence[int], timeout_s: float) -> bool:
    marks = {pid: start_mark(pid) for pid in pids}
    deadline = asyncio.get_running_loop().time() + timeout_s
    while any(mark and start_mark(pid) == mark for pid, mark in marks.items()):
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(_POLL_S)
    return True


def last_log_lines(log: Path) -> str:
    """Return the end of a log, headed by the last line that names an error; may be empty."""
    try:
        with open_plain(log) as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - _TAIL_BYTES))
            text = stream.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR_LINE.search(line)]
    tail = lines[-_TAIL_LINES:]
    if errors and errors[-1] not in tail:
        tail = [errors[-1], "…", *tail]
    return "\n".join(tail)
