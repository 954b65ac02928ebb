"""What `make bench-scale` prints of Ray: a look at 200 servers on the three raylets of a cluster.

    .venv/bin/python -m tests.bench.ray_scale [--servers 200]

Head and nodes are network namespaces of this machine. Every server is a detached actor with a
record, started by fleetctl's own job, whose process sleeps; at its address answers a fake server,
in one process a node. Requests to the head are counted on their way.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from fleet.hardware import DeviceSpec, HostSpec
from fleet.resources import Server, ServerFlags, State
from fleet.vllm import launch_of
from runtime.engines.launch_records import COPY, LaunchRecord
from runtime.engines.observation import merge
from runtime.engines.protocol import HostSetup
from runtime.engines.ray.cluster import RayCluster
from runtime.engines.ray.engine import RayEngine
from runtime.engines.ray.programs import start_task
from runtime.engines.recognition import FleetMark, url_of
from tests.beds.counted_requests import counted
from tests.beds.ray_bench import trust_nodes
from tests.beds.rays import HEAD, RayBed, missing, running

REPOSITORY: Final = Path(__file__).resolve().parents[2]
BASE: Final = REPOSITORY / "examples/quickstart/models/base/tiny"
FLEET: Final = FleetMark("scale")
TOKEN: Final = "RAY_TOKEN_OF_THE_BENCH"
NODES: Final = 3
FIRST_PORT: Final = 21000
"""Of the servers; beyond the ports that Ray takes."""
A_JOB: Final = 10
"""Servers that a job starts."""
LOOKS: Final = 5
FLAGS: Final = ServerFlags(
    model="models/tiny", served_name="tiny", max_loras=4, max_lora_rank=16, max_cpu_loras=8,
    dtype="bfloat16", max_model_len=512, kv_cache_bytes=64 << 20,
)  # fmt: skip


def hosts_of(bed: RayBed, url: str, store: Path, servers: int) -> list[HostSpec]:
    """Return the three nodes, with a device for each server."""
    return [
        HostSpec(
            f"node{node}", "ray", address=bed.address(node), cluster=url, token=f"env:{TOKEN}",
            python="/opt/vllm/bin/python", store=str(store),
            devices=tuple(
                DeviceSpec(f"cpu{number}", "cpu", 1 << 30, 0.0, FIRST_PORT + number)
                for number in range(node, servers, NODES)
            ),
        )
        for node in range(NODES)
    ]  # fmt: skip


def servers_of(host: HostSpec) -> list[tuple[Server, LaunchRecord]]:
    """Return the servers of a node with the records of their launches."""
    found = []
    for device in host.devices:
        name = f"tiny-{host.name}-{device.name}"
        server = Server(name, "tiny", host.name, (device.name,), device.port,
                        digest=FLAGS.digest, flags=FLAGS)  # fmt: skip
        mark = f"{device.port:032x}"[::-1]
        launch = launch_of(server, host, python=host.python, launch=mark[:12])
        assert launch is not None
        record = LaunchRecord.of(server, FLAGS, url_of(host.address, device.port), mark)
        found.append((server, record.model_copy(update={"arguments": launch.arguments})))
    return found


def task_of(host: HostSpec, record: LaunchRecord) -> dict[str, Any]:
    """Return the task of an actor whose process sleeps."""
    variables = {COPY: record.model_dump_json(), **FLEET.variables}
    log = f"{host.store}/{record.name}.log"
    sleep = ("/bin/sleep", "infinity")
    sleeping = record.model_copy(update={"arguments": sleep})
    return start_task(sleeping, host.address, 0, {}, variables, log, "")


@contextmanager
def answering(bed: RayBed, node: int, records: list[LaunchRecord]) -> Iterator[None]:
    """Let fake servers answer at a node's address as these launches while the block runs."""
    names = {}
    for record in records:
        words = record.arguments[record.arguments.index("--served-model-name") + 1 :]
        names[record.port] = words[: next(i for i, w in enumerate(words) if w.startswith("--"))]
    command = ("ip", "netns", "exec", bed.namespace(node), sys.executable, "-m",
               "tests.bench.ray_servers", bed.address(node), str(BASE))  # fmt: skip
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(names) + "\n")
            process.stdin.flush()
            if not process.stdout.readline():
                raise SystemExit("the fake servers did not start")
            yield
        finally:
            process.kill()


async def start(hosts: list[HostSpec]) -> None:
    """Start an actor for every server, some in a job."""
    cluster = RayCluster(hosts[0].cluster, f"fleetctl-{FLEET.name}", hosts[0].token, Path())
    tasks = [task_of(host, record) for host in hosts for _, record in servers_of(host)]
    for first in range(0, len(tasks), A_JOB):
        for result in await cluster.run("start", tasks[first : first + A_JOB]):
            if "launch" not in result:
                raise SystemExit(str(result))
    await cluster.close()


async def look(bed: RayBed, store: Path, servers: int) -> tuple[State, list[str], float, float]:
    """Look at all hosts; return what is seen, the requests to the head, wall and CPU seconds."""
    async with counted(HEAD, 8265) as requests:
        hosts = hosts_of(bed, requests.url, store, servers)
        engines = [
            RayEngine.of(HostSetup(host, store, store / "state", FLEET.name)) for host in hosts
        ]
        wall, cpu = time.monotonic(), time.process_time()
        states = await asyncio.gather(*(engine.observe() for engine in engines))
        took = time.monotonic() - wall, time.process_time() - cpu
        for engine in engines:
            await engine.close()
    return merge(*states), requests.seen, *took


def main() -> None:
    """Start the cluster and its actors, look, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--servers", type=int, default=200)
    servers = parser.parse_args().servers
    if why := missing():
        raise SystemExit(f"{why}: make ray, as root")
    with tempfile.TemporaryDirectory() as folder, running(NODES - 1) as bed, ExitStack() as stack:
        store = Path(folder, "shared")
        store.mkdir()
        os.environ |= {"XDG_CONFIG_HOME": f"{folder}/config", TOKEN: bed.token}
        trust_nodes(NODES, tuple(range(FIRST_PORT, FIRST_PORT + servers)))
        hosts = hosts_of(bed, bed.cluster, store, servers)
        for node, host in enumerate(hosts):
            records = [record for _, record in servers_of(host)]
            stack.enter_context(answering(bed, node, records))
        began = time.monotonic()
        asyncio.run(start(hosts))
        print(f"{servers} actors on {NODES} raylets, started by jobs of {A_JOB} in "
              f"{time.monotonic() - began:.0f} s")  # fmt: skip
        for _ in range(LOOKS):
            state, seen, wall_s, cpu_s = asyncio.run(look(bed, store, servers))
            print(f"  look {wall_s:6.2f} s, {cpu_s:5.2f} s CPU: {len(state.servers())} servers, "
                  f"{len(state.unknown_servers)} unknown, {len(seen)} requests to the head: "
                  f"{', '.join(sorted(seen))}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
