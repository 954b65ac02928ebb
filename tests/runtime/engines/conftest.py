"""Engines to test: the fake on every machine, the real vLLM where there is one.

Both serve the base of the quickstart example; adapters are made up here, with weights
large enough that each answers differently.
"""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from fleet.hardware import DeviceSpec, HostSpec
from fleet.resources import Server, ServerFlags
from runtime.engine_conformance import BASE, Use, write_version
from runtime.engine_registry import make_engine
from runtime.engines.launch_records import LaunchRecord, LaunchRecords
from runtime.engines.protocol import Engine, HostSetup
from runtime.json_client import JsonClient
from runtime.processes import arguments
from tests.ports import free_port

SLOTS, RANK = 3, 16
CPU_LORAS = 12

Kind = Literal["fake", "local"]


@dataclass(frozen=True, slots=True)
class Bench:
    """One host with one server, and adapters to load onto it."""

    host: HostSpec
    server: Server
    root: Path
    state_dir: Path
    servers_secret: str = field(default="", kw_only=True)

    def engine(self) -> Engine:
        """A new engine; what it knows comes from the state folder."""
        return make_engine(
            HostSetup(self.host, self.root, self.state_dir, "bench", self.servers_secret)
        )

    def run(self, use: Use) -> Any:
        """Run a coroutine with an engine of its own."""

        async def body() -> Any:
            engine = self.engine()
            try:
                return await use(engine)
            finally:
                await engine.close()

        return asyncio.run(body())

    @property
    def records(self) -> LaunchRecords:
        return LaunchRecords(self.state_dir / "servers")

    def record(self) -> LaunchRecord:
        found = self.records.read(self.server.name)
        assert found is not None
        return found

    def served_launch(self) -> str:
        """The launch that the server is stamped with."""
        return self.record().served_launch

    @property
    def url(self) -> str:
        return f"http://{self.host.reached_at}:{self.server.port}"

    def path_there(self, folder: str) -> str:
        """The path of an adapter's folder as the server sees it."""
        return folder

    def seen_by_others(self) -> str:
        """The command line, which every user of the machine sees."""
        return " ".join(arguments(self.record().pid))

    def until_gone(self, record: LaunchRecord, *, leader_only: bool = False) -> None:
        """Return once killed processes have ended; the kernel takes a moment."""
        while record.leader() is not None if leader_only else record.processes():
            os.sched_yield()

    def client(self) -> JsonClient:
        return JsonClient(self.url, timeout_s=60)

    def adapter(self, client: str, *, rank: int = 4, seed: int | None = None) -> tuple[str, str]:
        """Write an adapter; return its name and its folder, named by its digest."""
        return write_version(self.state_dir, client, rank=rank, seed=seed)


def make_bench(kind: Kind, root: Path, python: str = "") -> Bench:
    """Return a host with a server of the quickstart base; nothing is started."""
    (root / "models").mkdir(parents=True)
    (root / "models" / "tiny").symlink_to(BASE)
    port = free_port()
    device = DeviceSpec("cpu0", "cpu", 8 << 30, 0.0, port)
    host = HostSpec("laptop", kind, devices=(device,), python=python)
    flags = ServerFlags(
        model="models/tiny",
        served_name="tiny",
        max_loras=SLOTS,
        max_lora_rank=RANK,
        max_cpu_loras=CPU_LORAS,
        dtype="bfloat16",
        max_model_len=512,
        kv_cache_bytes=64 << 20,
    )
    server = Server(
        "tiny-laptop-cpu0", "tiny", host.name, ("cpu0",), port, digest=flags.digest, flags=flags
    )
    return Bench(host, server, root, root / ".fleetctl")


@pytest.fixture(
    scope="session", params=["fake", pytest.param("local", marks=pytest.mark.live, id="vllm")]
)
def shared_bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """One server, with a key, for the whole conformance suite; a test starts what another stops."""
    kind: Kind = request.param
    python = str(request.getfixturevalue("vllm_python")) if kind == "local" else ""
    made = make_bench(kind, tmp_path_factory.mktemp(kind), python)
    (made.root / "servers.secret").write_text("secret-of-the-bench", encoding="utf-8")
    bench = replace(made, servers_secret="file:servers.secret")
    yield bench
    bench.run(lambda engine: engine.stop(bench.server.name))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A fake server of one's own, not started."""
    made = make_bench("fake", tmp_path / "project")
    yield made
    made.run(lambda engine: engine.stop(made.server.name))
