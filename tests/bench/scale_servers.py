"""Many fake servers in a process: `python -m tests.bench.scale_servers COUNT MODEL LOAD_S`.

Prints the ports, one a server, once all listen, and serves until it is killed. Loading an adapter
takes `LOAD_S` seconds and no core.
"""

import asyncio
import resource
import socket
import sys
from functools import partial

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from runtime.fake_vllm.app import fake_app
from runtime.fake_vllm.state import FakeConfig, FakeModelServer

SLOTS = 12
"""Slots of a server."""
LENGTH = 512
"""Upper bound of a request, in tokens, as the fleet of the bench declares."""
SEED = "/seed"
"""POST: the server lists the adapters of the body from now on, paths by name, and no others."""
FORGET = "/forget"
"""POST: the server forgets an adapter."""
_LOAD = "/v1/load_lora_adapter"


def slow_app(config: FakeConfig, load_s: float) -> ASGIApp:
    """Return a fake server whose loads take time, and which forgets adapters when told to."""
    memory = FakeModelServer(config)
    app = fake_app(config, memory)

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == _LOAD and scope["method"] == "POST":
            await asyncio.sleep(load_s)
        if scope["path"] == FORGET:
            for name in sorted(memory.listed)[:1]:
                memory.unload(name)
        elif scope["path"] == SEED:
            memory.listed = await Request(scope, receive).json()
        else:
            await app(scope, receive, send)
            return
        await Response()(scope, receive, send)

    return served


async def serve(count: int, model: str, load_s: float) -> None:
    """Serve until killed; the ports are printed once all listen."""
    loop, ports = asyncio.get_running_loop(), []
    config = FakeConfig(
        model=model, served_model_names=("tiny",), enable_lora=True, max_loras=SLOTS,
        max_lora_rank=16, max_cpu_loras=SLOTS, max_model_len=LENGTH,
    )  # fmt: skip
    for _ in range(count):
        bound = socket.create_server(("127.0.0.1", 0))
        its = uvicorn.Config(slow_app(config, load_s), lifespan="off", log_config=None,
                             access_log=False, ws="none", http=HttpToolsProtocol)  # fmt: skip
        its.load()
        protocol = partial(HttpToolsProtocol, its, ServerState(), {})
        await loop.create_server(protocol, sock=bound)
        ports.append(bound.getsockname()[1])
    print(*ports, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    # A listening socket and two connections for each.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
