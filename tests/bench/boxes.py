"""How long a look at many hosts of engine `ssh` takes: `make bench-boxes`.

Hosts have a connection of their own, and share the sshd and the systemd of the few boxes that are
up. Prints the first look, which connects, and later ones; open files and memory of this process.
"""

import argparse
import asyncio
import os
import resource
import statistics
import tempfile
import threading
import time
from pathlib import Path

from fleet.hardware import HostSpec
from runtime.engines.ssh.connection import SshConnection
from runtime.engines.ssh.engine import SshEngine
from runtime.trust import Trust, dump_trust
from runtime.trust_file import trust_path, write_trust

ROUNDS = 10


def many(bed: Path, count: int, folder: Path) -> Path:
    """Write a configuration of ssh with many names for the boxes that are up; return its path."""
    boxes = sorted(path.name for path in (bed / "boxes").iterdir())
    lines = []
    for number in range(count):
        box = boxes[number % len(boxes)]
        lines += [f"Host host{number}", f"  HostName 10.77.0.{10 + int(box.removeprefix('box'))}"]
    common = "".join(
        f"  {line}\n"
        for line in (
            "User fleetctl",
            f"IdentityFile {bed}/key",
            f"UserKnownHostsFile {bed}/known_hosts",
            "ControlPersist 60",
        )
    )
    path = folder / "ssh_config"
    path.write_text("\n".join([*lines, "Host host*", common]), encoding="utf-8")
    return path


async def look(engines: list[SshEngine]) -> float:
    """Look at all hosts at the same time; return the seconds."""
    began = time.monotonic()
    states = await asyncio.gather(*(engine.observe() for engine in engines))
    seconds = time.monotonic() - began
    silent = [note for state in states for note in state.notes if "not reached" in note]
    if silent:
        raise SystemExit(f"{len(silent)} hosts were not reached: {silent[0]}")
    return seconds


async def measure(config: Path, count: int, folder: Path) -> None:
    """Print the figures."""
    sockets = folder / "s"
    sockets.mkdir(mode=0o700)
    engines = [
        SshEngine(
            HostSpec(f"host{number}", "ssh", address=f"host{number}"),
            SshConnection(f"host{number}", ("-F", str(config)), sockets),
            folder,
            folder / "store",
            folder / "hosts" / f"host{number}.json",
            "bench",
        )
        for number in range(count)
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


def main() -> None:
    """Trust the hosts in a home of their own, connect, look, and disconnect."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[50, 200])
    given = parser.parse_args()
    bed = Path(os.environ["BED"])
    for count in given.hosts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
            trust_path().parent.mkdir(mode=0o700, parents=True)
            hosts = {f"host{number}:22": () for number in range(count)}
            write_trust(trust_path(), dump_trust(Trust(hosts=hosts)), folder / "project")
            asyncio.run(measure(many(bed, count, folder), count, folder))


if __name__ == "__main__":
    main()
