"""How long one look at many servers takes: `python tests/bench/refresh.py [SERVERS]`.

Fake servers, each listing 50 adapters, in a process of their own, over real connections.
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from fleet.hardware import AttachedServerSpec, HostSpec
from runtime.engines.attach import AttachEngine
from runtime.fake_vllm.app import fake_app
from runtime.fake_vllm.state import FakeConfig, FakeModelServer

ADAPTERS = 50
CONFIG = FakeConfig(model="/m", served_model_names=("tiny",), enable_lora=True, max_loras=ADAPTERS)


class OneOfMany(uvicorn.Server):
    """Leaves signals alone: 200 servers in one process cannot all have them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


def memory() -> FakeModelServer:
    """Return a server's memory with its adapters listed."""
    server = FakeModelServer(CONFIG)
    server.listed = {f"c{index}-t-tiny-v1.0.0": f"/store/{'ab' * 32}" for index in range(ADAPTERS)}
    return server


async def serve(count: int) -> None:
    """Serve until killed; the ports are printed once all listen."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    running = []
    for each in sockets:
        config = uvicorn.Config(
            fake_app(CONFIG, memory()), log_level="warning", lifespan="off", access_log=False
        )
        running.append(asyncio.create_task(OneOfMany(config).serve(sockets=[each])))
    print(*(each.getsockname()[1] for each in sockets), flush=True)
    await asyncio.gather(*running)


def refresh_seconds(count: int = 200, repeats: int = 3) -> float:
    """Return the seconds of the fastest of some looks at `count` servers."""
    command = [sys.executable, __file__, "serve", str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ports = process.stdout.readline().split()
            return min(asyncio.run(look(ports)) for _ in range(repeats))
        finally:
            process.kill()


async def look(ports: list[str]) -> float:
    """Return the seconds of one look, connections made anew."""
    attached = tuple(
        AttachedServerSpec(f"s{port}", f"http://127.0.0.1:{port}", "tiny", 1, 1, 0)
        for port in ports
    )
    engine = AttachEngine(HostSpec("rack", "attach", attached=attached), Path("/store"))
    began = time.perf_counter()
    state = await engine.observe()
    took = time.perf_counter() - began
    await engine.close()
    if len(state.resources) != len(ports) * (ADAPTERS + 1):
        raise SystemExit(f"not all answered: {dict(state.unknown_servers)}")
    return took


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(int(sys.argv[2])))
    else:
        servers = int(sys.argv[1]) if sys.argv[1:] else 200
        print(f"{servers} servers: {refresh_seconds(servers):.2f} s")
