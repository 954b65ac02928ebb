"""A real vLLM with the quickstart fleet's adapters, for tests of a gateway in front of vLLM."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fleet.hardware import DeviceSpec, HostSpec
from fleet.names import AdapterName
from fleet.resources import Server, ServerFlags
from runtime.engine_registry import make_engine
from runtime.engines.protocol import HostSetup
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.process import serving
from runtime.gateway.table.table import RoutingTable
from runtime.library.layout import folder_digest, version_folder
from runtime.library.served_copies import publish
from tests.ports import free_port
from tests.runtime.gateway.stage import ACME, MAIN, NEW, OLD, Stage, alias, key

MODELS = Path(__file__).parents[3] / "examples" / "quickstart" / "models"
DATES = "corvid-dates-tiny-v1.0.0"
CORVID = "corvid-secret"
NAME = "tiny-laptop-cpu0"
AT_ONCE = 16
"""Requests that the vLLM of all tests runs at a time."""
TEXTS = ("I was charged twice for May.", "my parcel to Lyon has not arrived.")


@dataclass(frozen=True)
class Served:
    url: str
    root: Path


@pytest.fixture(scope="session")
def vllm(vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A vLLM with three adapters of two clients, for all tests here."""
    root, few = tmp_path_factory.mktemp("vllm"), (("max-num-seqs", str(AT_ONCE)),)
    with running(vllm_python, root, kv_cache_bytes=64 << 20, extra=few) as served:
        yield served


@contextmanager
def running(
    vllm_python: Path,
    root: Path,
    *,
    kv_cache_bytes: int,
    slots: int = 4,
    extra: tuple[tuple[str, str], ...] = (),
) -> Iterator[Served]:
    """Run a vLLM with three adapters of two clients; 512 bytes of KV cache are one token."""
    port = free_port()
    host = HostSpec(
        "laptop", "local", devices=(DeviceSpec("cpu0", "cpu", 8 << 30, 0.0, port),),
        python=str(vllm_python),
    )  # fmt: skip
    flags = ServerFlags(
        model=str(MODELS / "base" / "tiny"),
        served_name="tiny",
        max_loras=slots,
        max_lora_rank=16,
        max_cpu_loras=8,
        dtype="bfloat16",
        max_model_len=512,
        kv_cache_bytes=kv_cache_bytes,
        extra=extra,
    )
    server = Server(NAME, "tiny", "laptop", ("cpu0",), port, flags.digest, flags)

    async def start() -> None:
        engine = make_engine(HostSetup(host, root, root / ".fleetctl", "test"))
        try:
            await engine.start(server)
            for name in (OLD, NEW, DATES):
                folder = version_folder(MODELS, AdapterName.parse(name))
                source = publish(folder, folder_digest(folder), root / ".fleetctl" / "store")
                await engine.load(NAME, name, str(source))
        finally:
            await engine.close()

    async def stop() -> None:
        engine = make_engine(HostSetup(host, root, root / ".fleetctl", "test"))
        await engine.stop(NAME)
        await engine.close()

    try:
        asyncio.run(start())
        yield Served(f"http://127.0.0.1:{port}", root)
    finally:
        asyncio.run(stop())


def routes(url: str, *, new: int, revision: int = 1) -> RoutingTable:
    servers = (NAME,)
    return RoutingTable(
        revision=revision,
        servers={NAME: url},
        aliases={
            "acme-support": alias("acme", (NEW, new, servers), (OLD, 100 - new, servers)),
            "corvid-dates": alias("corvid", (DATES, 100, servers)),
        },
        keys=key("acme", ACME) | key("corvid", CORVID),
    )


def in_front(vllm: Served, state: Path, scenario: Any, new: int = 0) -> None:
    """Run a scenario with a gateway before the server."""

    async def play() -> None:
        many = aiohttp.TCPConnector(limit=0)
        async with (
            serving(state, MAIN) as url,
            aiohttp.ClientSession(connector=many) as http,
        ):
            gateways = LocalGateways(state, {"main": MAIN})
            await gateways.publish(routes(vllm.url, new=new))
            await scenario(Stage(state, url, {}, gateways, http))
            await gateways.close()

    asyncio.run(play())
