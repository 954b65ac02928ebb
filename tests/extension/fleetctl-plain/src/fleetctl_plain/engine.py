"""The engine: servers as processes of this machine, each with a record on disk."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from fleet.codec import decode, plain
from fleet.errors import EngineError, EngineRejectedError, EngineUnreachableError
from fleet.names import Address
from fleet.resources import LoadedAdapter, Resource, Server, State
from runtime.engines.protocol import Completion, HostSetup

START_TIMEOUT_S = 30.0


class PlainEngine:
    """Starts and stops servers of `fleetctl_plain.server`, and loads adapters onto them."""

    def __init__(self, setup: HostSetup) -> None:
        """Prepare; nothing is started and nothing is asked."""
        self._folder = setup.folder
        self._http = httpx.AsyncClient(timeout=10, trust_env=False)

    async def observe(self, only: str = "") -> State:
        """Return the servers of the records; a silent process is unknown, an ended one absent."""
        resources: dict[Address, Resource] = {}
        unknown, boots, urls = {}, {}, {}
        for name, record in self._records().items():
            if only not in {"", name} or not _runs(record["pid"]):
                continue
            server = decode(Server, record["server"], name)
            url = _url(server.port)
            try:
                told = await self._ask("GET", f"{url}/adapters")
            except EngineUnreachableError as error:
                unknown[name] = error.diagnostics[0].detail
                continue
            boots[name], urls[name], resources[server.address] = told["boot"], url, server
            for adapter, path in told["adapters"].items():
                loaded = LoadedAdapter(adapter, name, Path(path).name, path).as_known()
                resources[loaded.address] = loaded
        return State(resources=resources, unknown_servers=unknown, boots=boots, urls=urls)

    async def check_start(self, server: Server) -> None:
        """Refuse a server without flags."""
        if server.flags is None:
            raise _error(EngineRejectedError, f"`{server.name}` has no flags")

    async def start(self, server: Server) -> None:
        """Start a process unless it runs, and wait until it answers."""
        await self.check_start(server)
        assert server.flags is not None
        record = self._records().get(server.name)
        if record is None or not _runs(record["pid"]):
            folder = self._folder / server.name
            folder.mkdir(parents=True, exist_ok=True)
            words = [str(server.port), server.flags.served_name, str(server.flags.max_lora_rank)]
            with (folder / "log").open("ab") as log:
                process = subprocess.Popen(  # noqa: ASYNC220 (a moment)
                    [sys.executable, "-m", "fleetctl_plain.server", *words],
                    stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                )  # fmt: skip
            text = json.dumps({"pid": process.pid, "server": plain(server)})
            (folder / "record.json").write_text(text, encoding="utf-8")
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                with suppress(EngineUnreachableError):
                    await self._ask("GET", f"{_url(server.port)}/health")
                    return
                await asyncio.sleep(0.05)

    async def stop(self, server: str) -> None:
        """End the process of a server, and wait for its end."""
        record = self._records().get(server)
        if record is not None and _runs(record["pid"]):
            os.kill(record["pid"], signal.SIGTERM)
            async with asyncio.timeout(START_TIMEOUT_S):
                while _runs(record["pid"]):  # noqa: ASYNC110 (no signal tells)
                    await asyncio.sleep(0.02)
        (self._folder / server / "record.json").unlink(missing_ok=True)

    async def load(self, server: str, adapter: str, source: str) -> None:
        """Load an adapter from a folder."""
        await self._ask("PUT", f"{self._address(server)}/adapters/{adapter}", {"path": source})

    async def unload(self, server: str, adapter: str) -> None:
        """Unload an adapter; a server that is gone holds none."""
        record = self._records().get(server)
        if record is not None and _runs(record["pid"]):
            await self._ask("DELETE", f"{self._address(server)}/adapters/{adapter}")

    async def keep_for_restart(self, live: State, kept: Collection[Address]) -> None:
        """Do nothing: a server that was restarted holds no adapter."""

    async def complete(
        self, server: str, model: str, prompt: str, max_tokens: int = 64
    ) -> Completion:
        """Ask for a completion."""
        body = {"model": model, "prompt": prompt, "max_tokens": max_tokens}
        told = await self._ask("POST", f"{self._address(server)}/v1/completions", body)
        tokens = told["usage"]["completion_tokens"]
        return Completion(told["choices"][0]["text"], told["model"], "", tokens)

    async def close(self) -> None:
        """Close connections; servers run on."""
        await self._http.aclose()

    def _records(self) -> dict[str, Any]:
        found = sorted(self._folder.glob("*/record.json"))
        return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in found}

    def _address(self, server: str) -> str:
        record = self._records().get(server)
        if record is None:
            raise _error(EngineUnreachableError, f"`{server}` was never started")
        return _url(record["server"]["port"])

    async def _ask(self, method: str, url: str, body: Any = None) -> Any:
        try:
            answer = await self._http.request(method, url, json=body)
        except httpx.HTTPError as error:
            raise _error(EngineUnreachableError, f"{url}: {type(error).__name__}") from error
        if answer.is_error:
            raise _error(EngineRejectedError, f"{url}: {answer.text}")
        return answer.json()


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _runs(pid: int) -> bool:
    """Say whether a process runs; a child that has ended is waited for."""
    with suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _error(kind: type[EngineError], detail: str) -> EngineError:
    return kind.of("PLAIN1", "The plain engine failed", f"{detail}.")
