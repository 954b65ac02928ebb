"""Fake servers on ports of one address: `python -m tests.bench.ray_servers ADDRESS MODEL`.

Reads a JSON line with the served names by port, prints a line once all listen, and serves until it
is killed.
"""

import asyncio
import json
import socket
import sys
from functools import partial

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from runtime.fake_vllm.app import fake_app
from runtime.fake_vllm.state import FakeConfig, FakeModelServer


async def serve(address: str, model: str, names: dict[str, list[str]]) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    for port, served in names.items():
        config = FakeConfig(
            model=model, served_model_names=tuple(served), enable_lora=True, max_loras=4,
            max_lora_rank=16, max_cpu_loras=8, max_model_len=512,
        )  # fmt: skip
        app = fake_app(config, FakeModelServer(config))
        its = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, ws="none",
                             http=HttpToolsProtocol)  # fmt: skip
        its.load()
        bound = socket.create_server((address, int(port)))
        await loop.create_server(partial(HttpToolsProtocol, its, ServerState(), {}), sock=bound)
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], json.loads(sys.stdin.readline())))
