"""What attacks by one valid key do to another client of the same gateway: `make bench-attack`.

    .venv/bin/python -m tests.bench.attack [--engine stub|vllm] [--seconds 14] [--only NAME ...]

A victim asks small questions steadily while an attacker with a key of its own plays one attack
after the other (`attacks.py`). Gateway, server, attacker and victim are processes of their own.
Printed for each attack: the victim's median and p99 and its errors; how much the gateway's peak
memory lies above its memory before; the longest that the gateway's event loop answered nothing,
without the time that the machine's other processes took.
"""

import argparse
import asyncio
import math
import os
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fleet.spec import GatewaySpec
from runtime.gateway.control import supervisor
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.table.table import RoutingTable
from tests.bench.attacks import ATTACKS, Target, exchange, posted
from tests.ports import free_port
from tests.runtime.gateway.live import CORVID, routes, running
from tests.runtime.gateway.stage import GLOBEX, chat, table

HERE: Final = Path(__file__).parents[2]
EVERY_S: Final = 0.02
"""Between the victim's answer and its next question."""
LOOK_S: Final = 0.004
"""Between two looks at the event loop."""
SETTLE_S: Final = 0.5
OK: Final = 200
P99_S: Final = 1.0
MIB: Final = 2**20
MEMORY: Final = 256
STALL_MS: Final = 50
FILES: Final = 1064


@dataclass
class Seen:
    """What the victim saw, and what was seen of the gateway."""

    times: list[float] = field(default_factory=list)
    errors: int = 0
    stall_s: float = 0.0
    grown: float = 0.0
    """MiB."""

    @property
    def p99(self) -> float:
        return sorted(self.times)[math.ceil(len(self.times) * 0.99) - 1]


def waited(pid: int) -> float:
    """Return the seconds that a process's threads have been ready and got no core."""
    total = 0.0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError, ProcessLookupError):  # the thread has ended meanwhile
            total += int(thread.read_text().split()[1]) / 1e9
    return total


def memory(pid: int, name: str) -> float:
    """Return `VmRSS` or `VmHWM` of a process, MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) / 1024


def forget_peak(pid: int) -> None:
    """Let the peak of a process's memory begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def ask(url: str, request: bytes, seen: Seen) -> None:
    """Be the victim: ask, and ask again."""
    while True:
        began, status = time.perf_counter(), 0
        try:
            async with asyncio.timeout(30):
                status = await exchange(url, [request])
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            seen.errors += 1
        else:
            seen.errors += status != OK
        finally:  # a question that nobody has answered at the end counts, too
            seen.times.append(time.perf_counter() - began)
        await asyncio.sleep(EVERY_S)


async def look(url: str, pid: int, seen: Seen) -> None:
    """Ask for the health of the gateway, which its event loop answers at once unless stopped."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    while True:
        others = waited(pid) + waited(os.getpid())
        began = time.perf_counter()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split()[0]))
        took = time.perf_counter() - began
        seen.stall_s = max(seen.stall_s, took - (waited(pid) + waited(os.getpid()) - others))
        await asyncio.sleep(LOOK_S)


async def started(command: list[str]) -> asyncio.subprocess.Process:
    """Start a process, and wait until it says that it is ready."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=HERE, stdout=pipe)
    assert process.stdout is not None
    await process.stdout.readline()
    return process


@asynccontextmanager
async def attacker(name: str, target: Target) -> AsyncIterator[None]:
    """Play an attack in a process of its own."""
    if not name:
        yield
        return
    command = [sys.executable, "-m", "tests.bench.attacks", name, target.url, target.model]
    process = await started(command)
    try:
        yield
        assert process.returncode is None, f"the attack `{name}` has ended by itself"
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def play(name: str, target: Target, victim: bytes, pid: int, seconds: float) -> Seen:
    """Play an attack beside the victim, and return what was seen."""
    seen = Seen()
    async with attacker(name, target):
        before = memory(pid, "VmRSS")
        forget_peak(pid)
        tasks = [
            asyncio.create_task(ask(target.url, victim, seen)),
            asyncio.create_task(look(target.url, pid, seen)),
        ]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        for end in await asyncio.gather(*tasks, return_exceptions=True):
            seen.errors += isinstance(end, Exception)
        seen.grown = memory(pid, "VmHWM") - before
    await asyncio.sleep(SETTLE_S)
    return seen


def told(name: str, seen: Seen, quiet: Seen) -> str:
    """Return a line of the table; what misses an aim is marked."""
    missed = [
        said
        for said, is_missed in (
            ("p99", seen.p99 > max(P99_S, 3 * quiet.p99)),
            ("errors", seen.errors > 0),
            ("memory", seen.grown > MEMORY),
            ("stall", seen.stall_s * 1000 > STALL_MS),
        )
        if is_missed
    ]
    median = statistics.median(seen.times)
    errors = f"{seen.errors} of {len(seen.times)}"
    return (
        f"| {name or 'nobody attacks'} | {median * 1000:.0f} | {seen.p99 * 1000:.0f} | {errors} "
        f"| {max(0.0, seen.grown):.0f} | {seen.stall_s * 1000:.0f} | {', '.join(missed) or '-'} |"
    )


async def measure(
    state: Path, routed: RoutingTable, victim: bytes, names: list[str], seconds: float
) -> None:
    """Start a gateway, play the attacks, and print a line for each."""
    # The gateway's room for connections: (1064 - 64) / 2 = 500.
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    spec = GatewaySpec("main", f"127.0.0.1:{free_port()}", "")
    gateways = LocalGateways(state, {"main": spec})
    await gateways.publish(routed)
    process = await asyncio.to_thread(supervisor.start, state, spec)
    target = Target(f"http://{spec.listen}", "acme-support")
    try:
        print("| attack | p50, ms | p99, ms | errors | memory, MiB | stall, ms | misses |")
        print("|---|---|---|---|---|---|---|", flush=True)
        await play("", target, victim, process.pid, 1.0)  # connections and caches are warm
        quiet = await play("", target, victim, process.pid, seconds)
        print(told("", quiet, quiet), flush=True)
        for name in names:
            seen = await play(name, target, victim, process.pid, seconds)
            print(told(name, seen, quiet), flush=True)
    finally:
        await asyncio.to_thread(supervisor.stop, state, "main")
        await gateways.close()


@asynccontextmanager
async def stub() -> AsyncIterator[str]:
    """Run the server that answers at once, in a process of its own; return its URL."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.attack_server", str(port)]
    process = await started(command)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


async def on_stub(state: Path, names: list[str], seconds: float) -> None:
    async with stub() as url:
        victim = posted(chat("globex-dates", "hello", max_tokens=8), GLOBEX)
        await measure(state, table({"s1": url}), victim, names, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--engine", choices=("stub", "vllm"), default="stub")
    parser.add_argument("--seconds", type=float, default=14.0, help="for each attack")
    parser.add_argument("--only", nargs="*", default=[], help="names of attacks")
    given = parser.parse_args()
    names = [
        name
        for name, attack in ATTACKS.items()
        if (given.engine == "stub" or attack.is_for_engines)
        and (not given.only or name in given.only)
    ]
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder, "gateway", ".fleetctl")
        if given.engine == "stub":
            asyncio.run(on_stub(state, names, given.seconds))
            return
        python = Path(os.environ.get("FLEETCTL_VLLM_PYTHON") or HERE / ".venv-vllm/bin/python")
        with running(python, Path(folder), kv_cache_bytes=64 * MIB) as vllm:
            victim = posted(chat("corvid-dates", "hello", max_tokens=4), CORVID)
            asyncio.run(measure(state, routes(vllm.url, new=0), victim, names, given.seconds))


if __name__ == "__main__":
    main()
