"""The engine passes the suite that all engines of fleetctl pass."""

import socket
from collections.abc import Iterator

import pytest
from fleetctl_plain.engine import PlainEngine

from fleet.hardware import DeviceSpec, HostSpec
from fleet.resources import Server, ServerFlags
from runtime.engine_conformance import EngineConformance, EngineUnderTest, prepare
from runtime.engines.protocol import HostSetup


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineUnderTest]:
    root, port = tmp_path_factory.mktemp("project"), free_port()
    device = DeviceSpec("cpu0", "cpu", 8 << 30, 0.0, port)
    host = HostSpec("rack", "plain", (device,), package="fleetctl-plain")
    flags = ServerFlags(
        "models/tiny", "tiny", max_loras=3, max_lora_rank=16, max_cpu_loras=12, max_model_len=512
    )
    server = Server(
        "tiny-rack-cpu0", "tiny", host.name, ("cpu0",), port, digest=flags.digest, flags=flags
    )
    setup = HostSetup(host, root, root / ".fleetctl")
    bench = EngineUnderTest(server, lambda: PlainEngine(setup), setup.state_dir)
    yield bench
    bench.run(lambda engine: engine.stop(server.name))


@pytest.fixture
def ready(bench: EngineUnderTest) -> EngineUnderTest:
    prepare(bench)
    return bench


class TestPlainEngine(EngineConformance):
    """The suite."""
