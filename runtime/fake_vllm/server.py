"""The fake server as a process: `python -m runtime.fake_vllm.server --model … --port …`."""

import asyncio
import os
import signal
import sys
from hmac import compare_digest
from http import HTTPStatus
from types import FrameType

import uvicorn
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.fake_vllm.app import fake_app
from runtime.fake_vllm.state import FakeConfig, FakeModelServer, parse_flags

_ENGINE_DEAD = 1
_POLL_S = 0.02


class _DrainingServer(uvicorn.Server):
    """Lets running requests finish on SIGTERM while the port stays open, like vLLM.

    New requests get 500 and `/health` stays 200 until the process ends.
    """

    def __init__(self, config: uvicorn.Config, memory: FakeModelServer) -> None:
        super().__init__(config)
        self.memory = memory
        self.draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain at the first signal; exit at the second signal."""
        if self.draining is not None or sig == signal.SIGINT:
            super().handle_exit(sig, frame)
            return
        self.memory.draining = True
        loop = asyncio.get_running_loop()
        self.draining = loop.create_task(self._drain())

    async def _drain(self) -> None:
        deadline = asyncio.get_running_loop().time() + self.memory.config.shutdown_timeout
        while any(self.memory.running.values()):
            if asyncio.get_running_loop().time() >= deadline:
                self.force_exit = True
                break
            await asyncio.sleep(_POLL_S)
        self.should_exit = True


def _guarded(app: ASGIApp, key: str) -> ASGIApp:
    """Ask for a key on all paths under `/v1`, and on no other, as vLLM does."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get("Authorization", "") if key else ""
        scheme, _, shown = given.partition(" ")
        is_guarded = key and scope["path"].startswith("/v1") and scope["method"] != "OPTIONS"
        is_right = scheme.lower() == "bearer" and compare_digest(shown.encode(), key.encode())
        refusal = JSONResponse({"error": "Unauthorized"}, status_code=HTTPStatus.UNAUTHORIZED)
        await (refusal if is_guarded and not is_right else app)(scope, receive, send)

    return guarded


def serve(config: FakeConfig) -> int:
    """Serve until a signal arrives or the engine dies; return the exit status."""
    memory = FakeModelServer(config)
    server = _DrainingServer(
        uvicorn.Config(
            _guarded(fake_app(config, memory), os.environ.get("VLLM_API_KEY", "")),
            host=config.host,
            port=config.port,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
            ssl_certfile=config.ssl_certfile,
            ssl_keyfile=config.ssl_keyfile,
            ssl_ca_certs=config.ssl_ca_certs,
            ssl_cert_reqs=config.ssl_cert_reqs,
        ),
        memory,
    )

    def die() -> None:
        server.force_exit = True
        server.should_exit = True

    memory.on_death = die
    try:
        server.run()
    except KeyboardInterrupt:  # uvicorn raises the signal again once it has shut down
        return 0
    return _ENGINE_DEAD if memory.dead or not server.started else 0


if __name__ == "__main__":
    allowed = os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") == "1"
    plugged = "fleetctl_resolver" in os.environ.get("VLLM_PLUGINS", "").split(",")
    file = os.environ.get("FLEETCTL_ADAPTERS", "") if plugged else ""
    sys.exit(serve(parse_flags(sys.argv[1:], runtime_updates=allowed, adapters_file=file)))
