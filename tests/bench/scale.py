"""What `make bench-scale` prints: what a command takes with 10, 100 and 1,000 servers.

    .venv/bin/python -m tests.bench.scale [--servers 10 100 1000] [--load 1.0] [--shards 10]

Servers are fake ones that speak HTTP, in processes beside; each holds 10 adapters of 10 clients.
`observe` is a look at all servers; `plan`, `drift` and `apply` are whole processes. The apply loads
half an adapter a server again, which servers have lost, and every load takes `--load` seconds at
the server: the ideal is that time, with as many servers at work at a time as fleetctl allows.
The exponent is that of CPU seconds over servers, between neighbouring sizes. CPU of the fake
servers, which share the cores, is printed beside that of the command. Modules are compiled before,
as after an installation.

With `--shards`, servers have an adapter each, and every size is looked at and planned for as a
single fleet, and as so many fleets of equal parts, one process after another; nothing is applied.
"""

import argparse
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench.scale_servers import LENGTH, SEED

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PYTHON: Final = (sys.executable, "-m")
BASE: Final = REPOSITORY / "examples/quickstart/models/base/tiny"
PER_SERVER: Final = 10
"""Adapters a server, unless there are shards."""
PER_HOST: Final = 8
PER_FILE: Final = 100
"""Hosts in a file."""
PER_PROCESS: Final = 2500
"""Fake servers in a process, which has three open files for each."""
LANES: Final = 8
"""Servers that an apply works on at the same time (`Timings.lanes`)."""


class Figures(NamedTuple):
    """What a process took."""

    wall_s: float
    cpu_s: float
    memory_mb: float
    output: str


def compiled(folder: Path) -> None:
    """Let the commands of this bench keep compiled modules in a folder."""
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(*command: str, codes: tuple[int, ...] = (0,)) -> Figures:
    """Run a command; it ends with one of `codes`."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=out, stderr=out)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    if process.returncode not in codes:
        raise SystemExit(f"{' '.join(command)}: {process.returncode}\n{text[-3000:]}")
    return Figures(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000, text)


def write_adapter(folder: Path, number: int) -> None:
    """Write an adapter of rank 1 that has bytes of its own."""
    names = [
        f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{side}.weight"
        for layer in range(4)
        for side in "AB"
    ]
    header, end = {}, 0
    for name in names:
        shape = [1, 128] if ".lora_A." in name else [128, 1]
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + 256]}
        end += 256
    text = json.dumps(header).encode()
    values = struct.pack("<e", 0.001) * (end // 2 - 4) + struct.pack("<Q", number)
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + values)
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"],
              "base_model_name_or_path": "tiny", "bias": "none"}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def write_fleet(root: Path, ports: list[str], per_server: int = PER_SERVER) -> None:
    """Write a fleet of the servers at these ports, with a library and its lock."""
    fleet = {
        "fleet": "scale", "library": "models",
        "bases": {"tiny": {"model": "models/base/tiny", "dtype": "bfloat16",
                           "max_model_len": LENGTH, "kv_cache": "64MiB"}},
        "tiers": {"standard": {}}, "defaults": {"tier": "standard"},
    }  # fmt: skip
    hosts = {
        f"rack{first // PER_HOST:04}": {
            "engine": "attach",
            "servers": {
                f"s{first + place:05}": {"url": f"http://127.0.0.1:{port}", "base": "tiny",
                                         "max_loras": 12, "max_lora_rank": 16}
                for place, port in enumerate(ports[first : first + PER_HOST])
            },
        }
        for first in range(0, len(ports), PER_HOST)
    }  # fmt: skip
    shutil.copytree(BASE, root / "models/base/tiny")
    (root / "clients").mkdir()
    (root / "hosts").mkdir()
    (root / "fleet.yaml").write_text(json.dumps(fleet, indent=1), encoding="utf-8")
    for first in range(0, len(hosts), PER_FILE):
        some = dict([*hosts.items()][first : first + PER_FILE])
        text = json.dumps({"hosts": some}, indent=1)
        (root / f"hosts/{first:04}.yaml").write_text(text, encoding="utf-8")
    for number in range(len(ports)):
        client = f"c{number:04}"
        adapters = {f"t{task}": {"base": "tiny", "version": "1.0.0"} for task in range(per_server)}
        text = json.dumps({"clients": {client: {"adapters": adapters}}}, indent=1)
        (root / f"clients/{client}.yaml").write_text(text, encoding="utf-8")
        for task in range(per_server):
            folder = root / f"models/adapters/{client}/t{task}-v1.0.0"
            write_adapter(folder, number * per_server + task)
    measured(*PYTHON, "tests.bench.scale_parts", "lock", str(root))


@contextmanager
def fakes(servers: int, load_s: float) -> Iterator[tuple[list[int], list[str]]]:
    """Serve fake servers while the block runs; give their processes and their ports."""
    command = *PYTHON, "tests.bench.scale_servers"
    with ExitStack() as stack:
        processes, ports = [], []
        for first in range(0, servers, PER_PROCESS):
            count = min(PER_PROCESS, servers - first)
            process = subprocess.Popen(
                [*command, str(count), str(BASE), str(load_s)],
                cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            stack.enter_context(process)
            stack.callback(process.kill)
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            ports += process.stdout.readline().split()
        if len(ports) < servers:
            raise SystemExit(f"{len(ports)} of {servers} fake servers have begun")
        yield [process.pid for process in processes], ports


def run_seconds(events: str) -> tuple[float, float]:
    """Return the seconds of an apply's run, and of its steps alone.

    The run begins with the lease and has the look at all servers and the checks before the first
    step in it; it ends with the last step.
    """
    found = [json.loads(line) for line in events.splitlines() if '"run"' in line]
    (done,) = (event for event in found if event["type"] == "run_complete")
    times = [datetime.fromisoformat(e["ts"]) for e in found if e["type"].startswith("step_")]
    return float(done["seconds"]), (max(times) - min(times)).total_seconds()


def report(work: Path, servers: int, load_s: float) -> dict[str, Figures]:
    """Measure a fleet of a size."""
    root = work / f"fleet{servers}"
    root.mkdir()
    beside: dict[str, float] = {}
    found: dict[str, Figures] = {}
    with fakes(servers, load_s) as (pids, ports):
        write_fleet(root, ports)
        own = *PYTHON, "fleetctl", "-C", str(root)
        parts = *PYTHON, "tests.bench.scale_parts"

        def measure(name: str, *command: str) -> None:
            before = sum(map(cpu_of, pids))
            found[name] = measured(*command)
            beside[name] = sum(map(cpu_of, pids)) - before

        lost = measured(*parts, "seed", str(root)).output.split()[: servers // 2]
        measured(*own, "adopt")
        measure("all routes", *own, "apply", "--auto", "--yes")
        measure("observe", *parts, "look", str(root))
        measure("plan", *own, "plan")
        measure("drift", *own, "drift")
        for port in lost:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/forget", b"", timeout=60).close()
        measure("apply", *own, "apply", "--auto", "--yes", "--format", "json")
    print(f"\n{servers:,} servers, {servers * PER_SERVER:,} adapters")
    for name, done in found.items():
        more = ""
        if name == "apply":
            changes, (run_s, steps_s) = len(lost), run_seconds(done.output)
            ideal = math.ceil(changes / LANES) * load_s
            more = f"{changes} loads in {run_s:.1f} s, {ideal / run_s:.0%} of the ideal; "
            more += f"the steps alone {steps_s:.1f} s, {ideal / steps_s:.0%}"
        if name == "observe":
            more = f"the look alone {done.output.strip()} s"
        used = f"{done.cpu_s:8.2f} s CPU (fakes {beside[name]:6.2f}) {done.memory_mb:5.0f} MB"
        print(f"  {name:12} {done.wall_s:8.2f} s {used}  {more}", flush=True)
    return found


def sharded(work: Path, servers: int, load_s: float, shards: int) -> None:
    """Measure servers as a single fleet, and as fleets of equal parts; print both."""
    part = -(-servers // shards)
    with fakes(servers, load_s) as (_, ports):
        parts = [(f"{shards} fleets", part)] if shards > 1 else []
        for name, size in (("1 fleet", servers), *parts):
            sums: dict[str, list[Figures]] = {}
            for first in range(0, servers, size):
                root = work / f"{size}from{first}"
                root.mkdir()
                write_fleet(root, ports[first : first + size], 1)
                for port in ports[first : first + size]:  # of the fleet before this one
                    urllib.request.urlopen(
                        f"http://127.0.0.1:{port}{SEED}", b"{}", timeout=60
                    ).close()
                measured(*PYTHON, "tests.bench.scale_parts", "seed", str(root))
                for title, command in (
                    ("observe", ("tests.bench.scale_parts", "look", str(root))),
                    ("first plan", ("fleetctl", "-C", str(root), "plan")),
                ):
                    sums.setdefault(title, []).append(measured(*PYTHON, *command))
                shutil.rmtree(root)
            print(f"\n{servers:,} servers with an adapter each, as {name}")
            for title, done in sums.items():
                print(
                    f"  {title:12} {sum(each.wall_s for each in done):8.2f} s in all, "
                    f"{sum(each.cpu_s for each in done):8.2f} s CPU; the longest "
                    f"{max(each.wall_s for each in done):.2f} s, at most "
                    f"{max(each.memory_mb for each in done):.0f} MB",
                    flush=True,
                )


def main() -> None:
    """Measure all sizes and print the exponents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--servers", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--load", type=float, default=1.0)
    parser.add_argument("--shards", type=int, default=0)
    given = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        compiled(Path(folder) / "compiled")
        measured(*PYTHON, "fleetctl", "plan", "--help")
        if given.shards:
            for servers in given.servers:
                sharded(Path(folder), servers, given.load, given.shards)
            return
        found = [report(Path(folder), servers, given.load) for servers in given.servers]
    for before, after, small, large in zip(
        found, found[1:], given.servers, given.servers[1:], strict=False
    ):
        grown = {
            name: math.log(after[name].cpu_s / before[name].cpu_s) / math.log(large / small)
            for name in after
        }
        print(f"Exponents of CPU, {small:,} to {large:,} servers: "
              + ", ".join(f"{name} {power:.2f}" for name, power in grown.items()))  # fmt: skip


if __name__ == "__main__":
    main()
