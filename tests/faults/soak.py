"""Works a fleet for long under a steady client; no request fails, and memory stays flat.

Two kinds of failures are counted apart, for no fleet can do without: requests in flight on a server
at the moment when it is killed, one an alias at most; and requests to an alias of which the plan
said before that it would have no server for a while, as its only server is replaced.

    python -m tests.faults.soak [--minutes 30] [--engine vllm|fake]

A cycle rolls a new version out, adds a replica on the other server, replaces the servers by such
with other flags, and kills a server; then all of it backwards. `reconcile --interval` runs beside.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from statistics import median

from tests.faults.actions import ACME, APPLY
from tests.faults.play import is_whole
from tests.faults.stage import BETTER, DATES, Stage, wait
from tests.fleetctl.in_process import Done
from tests.fleetctl.project_on_disk import REPOSITORY

FLEET, CORVID = "fleet.yaml", "clients/corvid.yaml"
COUNTS = ("sent", "failed", "wrong", "killed", "announced")
GROWTH = 1.15
"""Upper bound of the memory at the end, by that after the first quarter."""


@dataclass
class Soak:
    """A fleet at work, with the memory of the two processes that run for long."""

    stage: Stage
    watcher: "subprocess.Popen[bytes]"
    """`reconcile --interval`."""
    memory: dict[str, list[float]] = field(default_factory=lambda: {"gateway": [], "reconcile": []})
    """Resident MiB, once an act."""

    def sample(self) -> str:
        """Note the memory now; return it as text."""
        pids = {"gateway": self.stage.gateway_pid(), "reconcile": self.watcher.pid}
        for name, pid in pids.items():
            self.memory[name].append(resident_mib(pid))
        return ", ".join(f"{name} {values[-1]:.0f} MiB" for name, values in self.memory.items())

    def flat(self) -> dict[str, tuple[float, float]]:
        """Return the memory after the first quarter and at the end, by process."""
        found = {}
        for name, values in self.memory.items():
            quarter = max(1, len(values) // 4)
            found[name] = median(values[quarter : 2 * quarter] or values), median(values[-quarter:])
        return found

    def apply(self) -> None:
        """Apply what is declared, however long `reconcile` has the lease."""
        plan = json.loads(self.stage.must("plan", "--format", "json").stdout)
        impacts = plan["decisions"]["impacts"]
        client = self.stage.client
        client.announced = {impact["alias"] for impact in impacts if impact["interrupted"]}
        wait(lambda: self._approved().returncode == 0 and is_whole(self.stage))
        client.announced = set()

    def _approved(self) -> Done:
        """Apply what is declared, approved as its plan asks for."""
        plan = json.loads(self.stage.must("plan", "--format", "json").stdout)
        if due := plan.get("needs_decision"):
            self.stage.must(*due["command"].split()[1:])
        return self.stage.run(*APPLY)

    def roll_out(self) -> None:
        self.stage.client.allowed["acme-support"].add(BETTER)
        self.stage.edit(ACME, ('version: "2.1.0"', 'version: "2.2.0"'))
        self.apply()

    def roll_back(self) -> None:
        self.stage.run("rollback", "acme-support", "--reason", "soak")
        self.stage.edit(ACME, ('version: "2.2.0"', 'version: "2.1.0"'))
        self.stage.run("release", "acme-support", "--reason", "soak")
        self.apply()

    def widen(self) -> None:
        self.stage.edit(CORVID, ("replicas: 1", "replicas: 2"))
        self.apply()

    def narrow(self) -> None:
        self.stage.edit(CORVID, ("replicas: 2", "replicas: 1"))
        self.apply()

    def replace_servers(self) -> None:
        self.stage.edit(FLEET, ("kv_cache: 64MiB", "kv_cache: 48MiB"))
        self.apply()

    def replace_servers_again(self) -> None:
        self.stage.edit(FLEET, ("kv_cache: 48MiB", "kv_cache: 64MiB"))
        self.apply()

    def kill(self) -> None:
        """Kill the server of which every version has a replica."""
        alone = self.stage.url_of(DATES)
        record = next(each for each in self.stage.servers().values() if each["url"] != alone)
        with self.stage.client.killing():
            self.stage.kill_server(record)
        self.apply()


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in text.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


ACTS: tuple[Callable[[Soak], None], ...] = (
    Soak.roll_out, Soak.widen, Soak.replace_servers, Soak.kill,
    Soak.roll_back, Soak.narrow, Soak.replace_servers_again, Soak.kill,
)  # fmt: skip


def told_counts(counts: Mapping[str, int]) -> str:
    """Return what became of requests, in words."""
    return (
        f"{counts['failed']} failed, {counts['wrong']} wrong "
        f"({counts['killed']} in flight at a kill, {counts['announced']} announced by the plan)"
    )


@contextmanager
def watched(stage: Stage) -> Iterator[Soak]:
    """Run `reconcile --interval` beside a fleet whose rollouts take seconds."""
    with (stage.state / "reconcile.log").open("wb") as log:
        watcher = subprocess.Popen(
            stage.project.command("reconcile", "--interval", "2s"), cwd=REPOSITORY,
            stdout=log, stderr=log,
        )  # fmt: skip
        try:
            yield Soak(stage, watcher)
        finally:
            watcher.send_signal(signal.SIGINT)
            watcher.wait()


def soak(
    stage: Stage,
    acts: Sequence[Callable[[Soak], None]],
    until: float,
    told: Callable[[str], object],
) -> tuple[dict[str, int], dict[str, tuple[float, float]]]:
    """Let acts happen, each at least once; return the requests' counts and the memory."""
    began, counts = time.monotonic(), dict.fromkeys(COUNTS, 0)
    with watched(stage) as work, stage.client.running():
        for number, act in enumerate(cycle(acts)):
            if number >= len(acts) and time.monotonic() > until:
                break
            act(work)
            taken = stage.client.taken()
            counts = {name: count + taken[name] for name, count in counts.items()}
            told(
                f"{time.monotonic() - began:7.1f} s  {act.__name__:22} {taken['sent']:5} requests, "
                f"{told_counts(taken)}; {work.sample()}"
            )
            for examples in stage.client.examples.values():
                for example in examples[:3]:
                    told(f"            {example}")
                examples.clear()
        taken = stage.client.taken()
    counts = {name: count + taken[name] for name, count in counts.items()}
    return counts, work.flat()


def main() -> int:
    """Soak a fleet and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--engine", choices=["vllm", "fake"], default="vllm")
    given = parser.parse_args()
    python = REPOSITORY / ".venv-vllm/bin/python" if given.engine == "vllm" else None
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        stage = Stage.raise_up(Path(folder) / "fleet", python, soaks=True)
        try:
            until = time.monotonic() + given.minutes * 60
            counts, memory = soak(stage, ACTS, until, lambda line: print(line, flush=True))
        finally:
            stage.clean_up()
    print(f"\n{counts['sent']:,} requests, {told_counts(counts)}.")
    for name, (early, late) in memory.items():
        print(f"Memory of {name}: {early:.1f} MiB after a quarter, {late:.1f} MiB at the end.")
    flat = all(late <= early * GROWTH for early, late in memory.values())
    return 0 if flat and not counts["failed"] and not counts["wrong"] else 1


if __name__ == "__main__":
    sys.exit(main())
