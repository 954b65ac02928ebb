"""A server that a supervisor restarts with the same command line; the fake, and the real vLLM."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.errors import EngineRejectedError
from runtime.engines.adapters_file import has_resolver
from tests.runtime.engines.conftest import Bench, Kind, make_bench
from tests.supervisor import kill_and_restart

PROMPT = "I was charged twice for May."


class SupervisedServer:
    """A server with the plug-in, started by fleetctl once and by a supervisor from then on."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.name = bench, bench.server.name
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def file(self) -> Path:
        return self.bench.records.adapters(self.name).path

    def load(self, client: str) -> tuple[str, Path]:
        """Load an adapter of a client's; return its name and its folder."""
        name, folder = self.bench.adapter(client)
        self.bench.run(lambda engine: engine.load(self.name, name, folder))
        return name, Path(folder)

    def unload(self, name: str) -> None:
        self.bench.run(lambda engine: engine.unload(self.name, name))

    def kill_and_restart(self) -> None:
        """Kill all processes; start the same command line in the same environment, and wait."""
        before, log = self._child, self.bench.records.log(self.name)
        self._child = kill_and_restart(self.bench.record(), self.bench.root, log)
        if before is not None:
            before.wait()
        asyncio.run(self._until_ready(self._child))

    async def _until_ready(self, child: subprocess.Popen[bytes]) -> None:
        async with self.bench.client() as http:
            while True:
                try:
                    await http.get("/v1/models", timeout_s=2)
                except Exception:  # noqa: BLE001 (whatever a server says that still starts)
                    assert child.poll() is None, self.log()[-3000:]
                    await asyncio.sleep(0.05)
                else:
                    return

    def status(self, model: str) -> int:
        """Return the status of an answer to a request for a model; 200 for an answer."""
        try:
            self.answer(model)
        except EngineRejectedError as error:
            return error.status
        return 200

    def answer(self, model: str) -> str:
        (text,) = self.answers(model, 1)
        return text

    def answers(self, model: str, number: int) -> list[str]:
        """Return the answers to as many requests at the same time."""

        async def ask() -> list[str]:
            body = {"model": model, "prompt": PROMPT, "max_tokens": 12, "temperature": 0}
            async with self.bench.client() as http:
                documents = await asyncio.gather(
                    *(http.post("/v1/completions", body) for _ in range(number))
                )
            assert {document["model"] for document in documents} == {model or "tiny"}
            return [document["choices"][0]["text"] for document in documents]

        return asyncio.run(ask())

    def listed(self) -> dict[str, str]:
        """Return the path of the listed adapters by name."""

        async def ask() -> dict[str, str]:
            async with self.bench.client() as http:
                cards = (await http.get("/v1/models"))["data"]
            return {card["id"]: card["root"] for card in cards if card["parent"]}

        return asyncio.run(ask())

    def log(self) -> str:
        return self.bench.records.log(self.name).read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        self.bench.run(lambda engine: engine.stop(self.name))
        if self._child is not None:
            self._child.wait()


@pytest.fixture(
    scope="module",
    params=["fake", pytest.param("local", marks=[pytest.mark.live, pytest.mark.long], id="vllm")],
)
def supervised(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SupervisedServer]:
    """A running server with the plug-in and without adapters."""
    kind: Kind = request.param
    python = str(request.getfixturevalue("vllm_python")) if kind == "local" else ""
    assert kind == "fake" or has_resolver(python), f"{python} lacks the plug-in; run `make vllm`"
    bench = make_bench(kind, tmp_path_factory.mktemp(kind), python)
    bench.run(lambda engine: engine.start(bench.server))
    server = SupervisedServer(bench)
    yield server
    server.close()
