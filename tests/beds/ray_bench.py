"""A host of engine `ray` on a bed of Ray, with the fake server in place of vLLM or with vLLM.

The node's interpreter is a script that runs another module, or that of vLLM. It waits where `hold`
lies beside it; the one of the fake server ends at once where `fail` does.
"""

import os
import signal
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from fleet.hardware import HostSpec
from fleet.resources import State
from runtime.engines.launch_records import LaunchRecord, LaunchRecords
from runtime.engines.ray.engine import RayEngine
from runtime.engines.ray.shared_folder import SharedFolder
from runtime.engines.recognition import FleetMark
from runtime.state_folder import STORE
from runtime.trust import Trust, dump_trust, trust_path, write_trust
from tests.beds.rays import HEAD, RayBed, running
from tests.certificates import Authority
from tests.runtime.engines.conftest import Bench, make_bench
from tests.runtime.sources.stand_ins import StandIn
from tests.runtime.sources.stand_ins import serving as serving_files

NODES = 2
TOKEN = "env:RAY_TOKEN_OF_THE_BED"
_FAKE = f"""\
#!/bin/sh
here=$(dirname "$0")
[ ! -e "$here/fail" ] || {{ echo 'ValueError: no room for the base'; exit 1; }}
while [ -e "$here/hold" ]; do sleep 0.05; done
shift 2
cd {Path(__file__).parents[2]} && exec {sys.executable} -m runtime.fake_vllm.server "$@"
"""
_DELAYED = """\
#!/bin/sh
while [ -e "$(dirname "$0")/hold" ]; do sleep 0.05; done
exec {python} "$@"
"""


def fake_python(folder: Path) -> Path:
    """Write an interpreter that serves answers made up, with the plug-in; return its path."""
    (folder / "lib/python3/site-packages/fleetctl_resolver-0.dist-info").mkdir(parents=True)
    program = folder / "bin" / "python"
    program.parent.mkdir()
    program.write_text(_FAKE, encoding="utf-8")
    program.chmod(0o755)
    return program


def delayed_python(folder: Path, python: Path) -> Path:
    """Write an interpreter that is another, once nothing holds it up; return its path."""
    program = folder / "bin" / "python"
    program.parent.mkdir(parents=True)
    (folder / "lib").symlink_to(python.absolute().parents[1] / "lib")
    program.write_text(_DELAYED.format(python=python.absolute()), encoding="utf-8")
    program.chmod(0o755)
    return program


def trust_nodes(nodes: int, ports: tuple[int, ...]) -> None:
    """Let the operator trust ports of the nodes."""
    trust_path().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    hosts = {f"10.93.0.{10 + node}:{port}": () for node in range(nodes + 1) for port in ports}
    write_trust(trust_path(), dump_trust(Trust(hosts=hosts)), Path("/nowhere"))


@dataclass(frozen=True, slots=True)
class RayBench(Bench):
    """A node of a cluster with a server, and adapters to load onto it."""

    bed: RayBed
    node: int = 1
    fleet: str = "bench"
    secret: str = "secret-of-the-nodes"

    def engine(self) -> RayEngine:
        memory = self.state_dir / "hosts" / f"{self.host.name}.json"
        return RayEngine(
            self.host, self.root, self.state_dir / STORE, memory, FleetMark(self.fleet),
            self.secret, ("tiny",),
        )  # fmt: skip

    @property
    def shared(self) -> SharedFolder:
        return SharedFolder(Path(self.host.store), f"fleetctl-{self.fleet}")

    @property
    def records(self) -> LaunchRecords:
        return self.shared.records

    def record(self) -> LaunchRecord:
        found = self.shared.record(self.server.name)
        assert found is not None
        return found

    def path_there(self, folder: str) -> str:
        return str(Path(self.host.store) / Path(folder).name)

    def seen_by_others(self) -> str:
        """Every command line on the node and the head, and what the cluster shows of it."""
        pids = [*self.bed.pids(0), *self.bed.pids(self.node)]
        lines = [Path(f"/proc/{pid}/cmdline") for pid in pids]
        shown = [line.read_text(errors="replace") for line in lines if line.exists()]
        return "\n".join([*shown, self.ask("/api/jobs/"), self.ask("/api/v0/actors?detail=1")])

    def ask(self, path: str) -> str:
        """Return what the head answers."""
        headers = {"Authorization": f"Bearer {self.bed.token}"}
        return httpx.get(self.bed.cluster + path, headers=headers, timeout=30).text

    def server_pids(self) -> list[int]:
        """Return the processes of the server with its workers, without its actor."""
        return [*self.bed.pids(self.node, self.server.digest or "none"), *self.workers()]

    def workers(self) -> list[int]:
        """Return the workers of vLLM on the node, which have titles of their own."""
        return self.bed.pids(self.node, "VLLM::")

    def kill(self) -> None:
        """Kill the server's process; return once the kernel has ended it."""
        (pid,) = (pid for pid in self.server_pids() if "--served-model-name" in _command(pid))
        os.kill(pid, signal.SIGKILL)
        while pid in self.server_pids():
            os.sched_yield()

    def observe(self) -> State:
        state = self.run(lambda engine: engine.observe())
        assert isinstance(state, State)
        return state

    @property
    def python(self) -> Path:
        return Path(self.host.python)

    def on(self, node: int) -> "RayBench":
        """The same on another node."""
        host = replace(self.host, name=f"node{node}", address=self.bed.address(node))
        name = f"tiny-{host.name}-cpu0"
        server = replace(self.server, name=name, host=host.name)
        return replace(self, host=host, server=server, node=node)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


@pytest.fixture(scope="module")
def ray_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayBed]:
    """A cluster of a head and two nodes, whose `curl` knows an authority, for a whole file."""
    authority = Authority(tmp_path_factory.mktemp("authority"), "sources")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURL_CA_BUNDLE", authority.ca)
        patch.setenv("SSL_CERT_FILE", authority.ca)
        with running(NODES) as bed:
            yield replace(bed, authority=authority)


@contextmanager
def ray_source(bed: RayBed, folder: Path) -> Iterator[StandIn]:
    """Serve a folder to the nodes and to the operator, over TLS, from beside the head."""
    assert bed.authority is not None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*bed.authority.issue("server", address=HEAD))
    with serving_files(StandIn(folder, host=HEAD, tls=context)) as running_source:
        yield running_source


@contextmanager
def serving(bed: RayBed, folder: Path, python: Path) -> Iterator[RayBench]:
    """Give the server of the first node, which an interpreter runs, while the block lasts."""
    made = make_bench("fake", folder / "project")
    (folder / "shared").mkdir()
    host = HostSpec(
        "node1", "ray", made.host.devices, address=bed.address(1), cluster=bed.cluster,
        token=TOKEN, python=str(python), store=str(folder / "shared"),
    )  # fmt: skip
    server = replace(made.server, name="tiny-node1-cpu0", host="node1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "home"))
        patch.setenv(TOKEN.removeprefix("env:"), bed.token)
        trust_nodes(NODES, (server.port,))
        yield RayBench(host, server, made.root, made.state_dir, bed)


@pytest.fixture(scope="module")
def ray_bench(ray_bed: RayBed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayBench]:
    """The server of a node, for a whole file."""
    folder = tmp_path_factory.mktemp("ray")
    with serving(ray_bed, folder, fake_python(folder / "fake")) as bench:
        yield bench
