"""How long a look at many hosts of engine `ssh` and a plan take: `make bench-boxes`.

Hosts have a connection of their own, and share the sshd and the systemd of the few boxes that are
up. Prints the first look, which connects, and later ones; open files and memory of this process;
then the same of `fleetctl plan` for a fleet of these hosts, with 8 GPUs and 5 adapters each.
"""

import argparse
import asyncio
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from fleet.hardware import HostSpec
from runtime.engines.recognition import FleetMark
from runtime.engines.remote.connection import SshConnection
from runtime.engines.remote.engine import SshEngine
from runtime.trust import Trust, dump_trust, trust_path, write_trust

ROUNDS = 10
CONFIG = Path("/etc/ssh/ssh_config.d/many.conf")
"""In the bed alone, which has a folder of its own there."""


def name_hosts(bed: Path, count: int) -> list[str]:
    """Write a configuration of ssh with many names for the boxes that are up; return the names."""
    if not os.path.ismount(CONFIG.parent):
        raise SystemExit("This runs in a bed: tests/beds/boxes.sh exec ...")
    boxes = sorted(path.name for path in (bed / "boxes").iterdir())
    lines = []
    for number in range(count):
        box = boxes[number % len(boxes)]
        lines += [
            f"Host node{number + 1:03}",
            f"  HostName 10.77.0.{10 + int(box.removeprefix('box'))}",
        ]
    common = "".join(
        f"  {line}\n"
        for line in (
            "User fleetctl",
            f"IdentityFile {bed}/key",
            f"UserKnownHostsFile {bed}/known_hosts",
            "ControlPersist 60",
        )
    )
    CONFIG.write_text("\n".join([*lines, "Host node*", common]), encoding="utf-8")
    return [f"node{number + 1:03}" for number in range(count)]


async def look(engines: list[SshEngine]) -> float:
    """Look at all hosts at the same time; return the seconds."""
    began = time.monotonic()
    states = await asyncio.gather(*(engine.observe() for engine in engines))
    seconds = time.monotonic() - began
    silent = [note for state in states for note in state.notes if "not reached" in note]
    if silent:
        raise SystemExit(f"{len(silent)} hosts were not reached: {silent[0]}")
    return seconds


async def measure(names: list[str], folder: Path) -> None:
    """Print the figures."""
    count, sockets = len(names), folder / "fleetctl-ssh"
    sockets.mkdir(mode=0o700)
    engines = [
        SshEngine(
            HostSpec(name, "ssh", address=name),
            SshConnection(name, (), sockets),
            folder,
            folder / "store",
            folder / "hosts" / f"{name}.json",
            FleetMark("bench"),
        )
        for name in names
    ]
    most, ended = 0, threading.Event()

    def count_files() -> None:
        nonlocal most
        while not ended.wait(0.01):
            most = max(most, sum(1 for _ in Path("/proc/self/fd").iterdir()))

    counter = threading.Thread(target=count_files)
    counter.start()
    try:
        # An sshd takes 10 strangers at a time; in earnest each host has its own.
        began = time.monotonic()
        for first in range(0, count, 8):
            await look(engines[first : first + 8])
        connecting = time.monotonic() - began
        used = time.process_time()
        rounds = [await look(engines) for _ in range(ROUNDS)]
        used = (time.process_time() - used) / ROUNDS
        ended.set()
        planned = plan(names, folder)  # through the same connections
    finally:
        ended.set()
        counter.join()
        for engine in engines:
            await engine.ssh.close(end_shared=True)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count} hosts: connected in {connecting:.1f} s, 8 at a time")
    print(f"a look at all: median {statistics.median(rounds):.2f} s, longest {max(rounds):.2f} s, "
          f"{used:.2f} s of CPU of this process")  # fmt: skip
    print(f"open files: {most} of {limit}; memory {memory:.0f} MiB")
    print(planned)


def plan(names: list[str], folder: Path) -> str:
    """Plan a fleet of the hosts; return what it took."""
    root, command = folder / "fleet", (sys.executable, "-m", "fleetctl")
    sizes = {"clients": len(names), "adapters": 5 * len(names), "gpus": 8 * len(names)}
    given = [text for name, number in sizes.items() for text in (f"--{name}", str(number))]
    subprocess.run(
        [*command, "scaffold", "synthetic", *given, str(root)], check=True, capture_output=True
    )
    file = root / "fleet.yaml"
    lines, host = [], ""
    for line in file.read_text(encoding="utf-8").splitlines():
        host = line.strip(" :") if line.startswith("  node") else host
        lines.append(
            "    engine: ssh\n    address: " + host if line == "    engine: fake" else line
        )
    file.write_text("\n".join(lines), encoding="utf-8")
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*command, "-C", str(root), "plan"],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in {0, 2} or "Not known here" in done.stdout:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (
        f"`fleetctl plan`, {sizes['adapters']} adapters, {sizes['gpus']} GPUs: {wall:.1f} s, "
        f"{used:.1f} s of CPU with ssh, memory {after.ru_maxrss / 1024:.0f} MiB"
    )


def main() -> None:
    """Trust the hosts in a home of their own, connect, look, plan, and disconnect."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[50, 200])
    given = parser.parse_args()
    bed = Path(os.environ["BED"])
    for count in given.hosts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
            trust_path().parent.mkdir(mode=0o700, parents=True)
            names = name_hosts(bed, count)
            hosts = {f"{name}:22": () for name in names}
            write_trust(trust_path(), dump_trust(Trust(hosts=hosts)), folder / "project")
            asyncio.run(measure(names, folder))


if __name__ == "__main__":
    main()
