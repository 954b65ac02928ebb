"""Play a fleet on two nodes of a Ray cluster, each with a real vLLM, while clients ask.

    make proof-ray

Head and nodes are network namespaces of this machine; fleetctl and its gateway run beside the head.
A new version comes and goes back, vLLM, its actor, Ray's daemon on a node and the head are killed,
and a node is cut off. A step ends when a plan finds nothing to do and every alias answers; its
seconds are printed. No request is answered by another version than it should be, and none by a
server that the newest table does not name.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "boxes"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from demo import BOLD, GREEN, REPOSITORY, RESET, STORIES, Demo, copy_example
from play import LAPTOP, QUESTIONS, VERSIONS, Witness
from playing import play_to_the_end

from tests.beds.rays import RayBed, running

HOST = """  {name}:
    engine: ray
    cluster: {bed.cluster}
    token: env:RAY_TOKEN
    node: {address}
    python: {python}
    store: {store}
    devices:
      cpu0: {{kind: cpu, memory: 6GiB, price_per_hour: 0}}
"""
GATEWAY = "http://127.0.0.1:8080"
WAIT_S = 300.0


@dataclass
class RayPlay(Demo):
    """The demo's way of running commands, with a cluster that faults happen to."""

    bed: RayBed = field(kw_only=True)
    python: str = field(kw_only=True)
    store: str = field(kw_only=True)
    gaps: list[tuple[str, float, dict[str, float]]] = field(default_factory=list)
    stale: int = 0
    """Answers by a server that the newest table did not name."""

    def declared(self, node: int) -> str:
        """Return the declaration of a node."""
        return HOST.format(name=f"node{node}", bed=self.bed, address=self.bed.address(node),
                           python=self.python, store=self.store)  # fmt: skip

    def shown(self, what: str) -> None:
        """Print what happens to the cluster."""
        print(f"{GREEN}#{RESET} {BOLD}{what}{RESET}", flush=True)

    def quietly(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command; print nothing."""
        return subprocess.run(
            [sys.executable, "-m", "fleetctl", *arguments],
            cwd=self.project, check=False, capture_output=True, text=True,
        )  # fmt: skip

    @contextmanager
    def fault(self, title: str, witness: Witness) -> Iterator[None]:
        """A step that ends when plan and drift find nothing, and all aliases answer."""
        with self.step(title):
            began = time.monotonic()
            yield
            self.until_converged()
            for alias in QUESTIONS:
                witness.answers_again(alias, WAIT_S)
            took = time.monotonic() - began
            self.gaps.append((title, took, {a: witness.longest_gap(a, began) for a in QUESTIONS}))

    def until_converged(self) -> None:
        """Run rounds of `reconcile` until plan and drift find nothing to do."""
        ends = time.monotonic() + WAIT_S
        while True:
            done = self.quietly("plan", "--detailed-exitcode")
            drift = self.quietly("drift")
            if done.returncode == drift.returncode == 0:
                return
            if time.monotonic() > ends:
                raise SystemExit(f"play failed: {done.stdout}{done.stderr}{drift.stdout}")
            self.quietly("reconcile", "--once")

    def until_node(self, node: int, state: str) -> None:
        """Return once Ray calls a node dead, or alive."""
        ends, name = time.monotonic() + WAIT_S, f"node {self.bed.address(node)}"
        while (f"{name} of host node{node} is DEAD" in self.notes()) is (state == "ALIVE"):
            if time.monotonic() > ends:
                raise SystemExit(f"play failed: {name} does not become {state}")
        self.shown(f"Ray calls {name} {state}")

    def notes(self) -> str:
        """Return what a plan says, in lower case where a sentence begins."""
        done = self.quietly("plan")
        return (done.stdout + done.stderr).replace("Node ", "node ").replace("\n", " ")

    def answered_by(self, since: datetime) -> dict[str, int]:
        """Return how many requests a server answered since a time."""
        done = self.quietly("usage", "show", "--last", "100000", "--format", "json")
        found: dict[str, int] = {}
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        for row in rows:
            begun = datetime.fromisoformat(row["time"])
            if begun > since and row["status"] == 200:
                found[row["server"]] = found.get(row["server"], 0) + 1
        return found

    def kill_process(self, node: int, what: str) -> None:
        """Kill the process of vLLM, or its actor."""
        words = {"vLLM": "--served-model-name", "actor": "ray::Server"}
        found = self.bed.pids(node, words[what])
        self.shown(f"kill -9 {what} on node{node}")
        os.kill(found[0], signal.SIGKILL)

    def play(self) -> None:
        """The story."""
        with self.step("Two nodes are declared, trusted, and served"):
            nodes = [f"http://{self.bed.address(node)}:8100" for node in (1, 2)]
            self.fleetctl("trust", "add", *nodes, self.store)
            self.fleetctl("validate")
            self.fleetctl("key", "create", "--all")
            self.fleetctl("gateway", "start")
            self.fleetctl("plan", "--out", "first.plan.json")
            self.fleetctl("apply", "first.plan.json", "--yes")
            self.fleetctl("plan", "--detailed-exitcode")
            self.fleetctl("server", "list")
        keys = {alias: self.key(f"{alias.partition('-')[0]}-prod") for alias in QUESTIONS}
        witness = Witness(self.gateway, keys)
        with witness.asking():
            for alias in QUESTIONS:
                witness.answers_again(alias)
            self.faults(witness)
        self.tell(witness)

    def faults(self, witness: Witness) -> None:
        """What happens to the cluster."""
        with self.fault("A new version", witness):
            self.edit_one_line()
            self.fleetctl("apply", "--auto", "--yes")
        with self.fault("vLLM of node1 is killed: Ray starts it again", witness):
            self.kill_process(1, "vLLM")
        with self.fault("The actor of node1 is killed, and its vLLM with it", witness):
            self.kill_process(1, "actor")
        with self.fault("Ray's daemon of node2 is killed: its versions move to node1", witness):
            self.shown("kill -9 raylet on node2")
            self.bed.kill(2, "raylet/raylet")
            self.until_node(2, "DEAD")
            self.fleetctl("plan")
            self.fleetctl("apply", "--auto", "--yes")
        with self.fault("node2 starts Ray again: second replicas come back", witness):
            self.start_again(2)
        with self.fault("node2 is cut off: its versions move to node1", witness):
            self.shown("ip link set node2 down")
            self.bed.cut(2)
            self.until_node(2, "DEAD")
            self.fleetctl("apply", "--auto", "--yes")
            acknowledged = datetime.now(UTC)
            self.shown("ip link set node2 up")
            self.bed.mend(2)
            time.sleep(20)
            found = self.answered_by(acknowledged)
            self.stale += found.pop("tiny-node2-cpu0", 0)
            print(f"  answered since the table without node2: {found}", flush=True)
        with self.fault("node2 starts Ray again after the cut", witness):
            self.start_again(2)
        with self.step("The head is killed: servers go on, and a rollback is a matter of routes"):
            self.shown("kill -9 everything of Ray on the head")
            for program in (".venv-ray/", "ray-dashboard", "ray::"):
                self.bed.kill(0, program)
            self.fleetctl("plan")
            self.fleetctl("rollback", "acme-support", "--reason", "the head is away")
            for alias in QUESTIONS:
                witness.answers_again(alias)
        with self.fault("Head and nodes start Ray again, without a memory", witness):
            for node in (1, 2):  # `ray start` refuses a head beside daemons of a former one
                self.bed.kill(node)
            for node in (0, 1, 2):
                self.bed.start(node)

    def start_again(self, node: int) -> None:
        """Start Ray on a node again, and apply once Ray hears of the node."""
        self.bed.kill(node)
        self.bed.start(node)
        self.until_node(node, "ALIVE")
        self.fleetctl("apply", "--auto", "--yes")

    def tell(self, witness: Witness) -> None:
        """Print what the clients saw; fail where a version's answers differ."""
        print(f"\n{BOLD}Seconds until all is as planned, and most seconds between answers{RESET}")
        print(f"  {'':66}{'':>8}  {'  '.join(f'{alias:>14}' for alias in QUESTIONS)}")
        for title, took, gaps in self.gaps:
            seconds = "  ".join(f"{gaps[alias]:>14.1f}" for alias in QUESTIONS)
            print(f"  {title:66}{took:>8.1f}  {seconds}")
        print(f"\n{BOLD}Requests{RESET}")
        for alias in QUESTIONS:
            print(f"  {alias:14} {len(witness.answered[alias])} answered, "
                  f"{witness.failed[alias]} without an answer")  # fmt: skip
        print(f"\n{BOLD}Versions, and their different answers to the same question{RESET}")
        for (_, version), texts in sorted(witness.texts.items()):
            print(f"  {version:28} {len(texts)}", flush=True)
        versions = {version for _, version in witness.texts}
        wrong = sum(len(texts) - 1 for texts in witness.texts.values())
        wrong += len(versions - VERSIONS)
        print(f"\n{wrong} wrong answers, {self.stale} by a server that the table did not name")
        if wrong or self.stale:
            raise SystemExit(f"play failed: {dict(witness.texts)}")

    def stop_everything(self) -> None:
        """Stop gateway and servers; the bed ends what is left."""
        self.quietly("gateway", "stop")


def prepare(play: RayPlay) -> None:
    """Put the two nodes in place of the laptop."""
    path = play.project / "fleet.yaml"
    text = path.read_text(encoding="utf-8")
    begin, end = text.index(LAPTOP), text.index("\ngateways:")
    text = text[:begin] + play.declared(2) + play.declared(1) + text[end:]
    text = text.replace("retrain_every: 30d", "retrain_every: 30d, replicas: 2")
    path.write_text(text, encoding="utf-8")


def main() -> None:
    """Play the story and clean up."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("play stopped"))
    given = os.environ.get("FLEETCTL_VLLM_PYTHON")
    python = Path(given) if given else REPOSITORY / ".venv-vllm" / "bin" / "python"
    with tempfile.TemporaryDirectory() as folder, running(2) as bed:
        os.environ |= {"XDG_CONFIG_HOME": f"{folder}/config", "RAY_TOKEN": bed.token}
        shared = Path(folder, "shared")
        shared.mkdir()
        play = RayPlay(copy_example("quickstart"), STORIES["quickstart"], GATEWAY, bed=bed,
                       python=str(python.absolute()), store=str(shared))  # fmt: skip
        prepare(play)
        play_to_the_end(play)


if __name__ == "__main__":
    main()
