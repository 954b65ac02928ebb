"""How long a table of 4,000 aliases keeps the event loop from its other work, and its memory.

    .venv/bin/python -m tests.bench.gateway_stall     # one line of JSON

A gateway's loop runs here with a timer of 1 ms beside it; tables come from a process of their
own through the admin socket. The longest pause of the timer is measured without a reload and
during each, once as it is and once without the time that the machine's other processes took:
the kernel says how long this process waited for a core.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import uvloop

from fleet.spec import GatewaySpec
from runtime.gateway.admin import admin_socket
from runtime.gateway.process import serving, tune
from runtime.gateway.table.table import AliasEntry, RoutingTable, ShareEntry

ALIASES: Final = 4000
RELOADS: Final = 7
EVERY_S: Final = 0.001
_MAIN: Final = GatewaySpec("main", "127.0.0.1:0", "")
_PUT: Final = """
import socket, sys
body = open(sys.argv[2], "rb").read()
sock = socket.socket(socket.AF_UNIX)
sys.stdin.read(1)
sock.connect(sys.argv[1])
sock.sendall(b"PUT /-/config HTTP/1.1\\r\\nHost: x\\r\\n")
sock.sendall(b"Content-Length: %d\\r\\n\\r\\n" % len(body) + body)
sys.exit(not sock.recv(99).startswith(b"HTTP/1.1 200"))
"""


def large(revision: int) -> str:
    """Return a table in which each alias has another split than in the one before."""
    aliases = {}
    for number in range(ALIASES):
        client, task = f"c{number // 8}", f"a{number % 8}"
        shares = tuple(
            ShareEntry(
                adapter=f"{client}-{task}-tiny-v1.{minor}.0", percent=share, servers=("s1", "s2")
            )
            for minor, share in ((1, 30), (0, 70))
        )
        aliases[f"{client}-{task}"] = AliasEntry(client=client, salt=f"s{revision}", shares=shares)
    servers = {"s1": "http://127.0.0.1:9", "s2": "http://127.0.0.1:9"}
    return RoutingTable(revision=revision, servers=servers, aliases=aliases).canonical()


def waited() -> float:
    """Return the seconds that this process's threads have been ready and got no core."""
    threads = Path("/proc/self/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[1]) for each in threads) / 1e9


class Ticker:
    """A timer that notes its longest pause."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.longest = self.longest_own = 0.0
        self._loop = loop
        self._last, self._waited = time.perf_counter(), waited()
        self._tick()

    def _tick(self) -> None:
        now, others = time.perf_counter(), waited()
        pause = now - self._last - EVERY_S
        self.longest = max(self.longest, pause)
        self.longest_own = max(self.longest_own, pause - (others - self._waited))
        self._last, self._waited = now, others
        self._loop.call_later(EVERY_S, self._tick)

    def taken(self) -> tuple[float, float]:
        """Return the longest pauses since the last call, seconds: as it was, and our own."""
        longest = self.longest, self.longest_own
        self.longest = self.longest_own = 0.0
        return longest


def resident() -> float:
    """Return this process's memory, MiB."""
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


async def measured(folder: Path, documents: list[Path]) -> dict[str, list[float]]:
    """Return the longest pauses without a reload and during each, seconds, and the memory."""
    quiet: list[float] = []
    loaded: list[float] = []
    own: list[float] = []
    used: list[float] = []
    state = folder / ".fleetctl"
    async with serving(state, _MAIN):
        tune()  # as in a gateway's process
        ticker = Ticker(asyncio.get_running_loop())
        socket = str(admin_socket.short_path(admin_socket.socket_path(state, _MAIN)))
        for document in documents:
            command = [sys.executable, "-S", "-c", _PUT, socket, str(document)]
            put = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE)
            await asyncio.sleep(0.3)
            ticker.taken()  # to start a process stops this one for some time: no gateway does
            await asyncio.sleep(0.3)
            quiet.append(ticker.taken()[0])
            await put.communicate(b"!")
            assert put.returncode == 0
            await asyncio.sleep(0.2)  # what it leaves is freed
            for kept, pause in zip((loaded, own), ticker.taken(), strict=True):
                kept.append(pause)
            used.append(resident())
        return {"quiet": quiet, "loaded": loaded, "own": own, "mebibytes": used}


def run() -> dict[str, list[float]]:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.gateway_stall"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        documents = []
        for revision in range(1, RELOADS + 1):
            document = Path(name, f"{revision}.json")
            write = f"from tests.bench.gateway_stall import large; print(large({revision}))"
            made = subprocess.run([sys.executable, "-c", write], capture_output=True, check=True)
            document.write_bytes(made.stdout)
            documents.append(document)
        print(json.dumps(uvloop.run(measured(Path(name), documents))))


if __name__ == "__main__":
    main()
