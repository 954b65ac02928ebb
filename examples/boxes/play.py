"""Play a fleet on three boxes, reached by ssh and kept by systemd, each with a real vLLM.

    make boxes

The boxes boot on this machine, each with its own systemd, sshd and address. A fourth, box4, has
no vLLM: fleetctl runs there, with its gateway and reconciler as units. Clients ask all the while.
A server is killed and another hangs, boxes reboot, a box is cut off, a box is added and removed; a
step ends when `drift` finds nothing. At the end no request was answered by another version than it
should be, and the seconds are printed in which an alias had no answer.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ask import ask
from demo import BOLD, GREEN, REPOSITORY, RESET, STORIES, Demo, copy_example
from playing import edit, play_to_the_end

BED = Path(os.environ.get("BED", ""))
SCRIPT = REPOSITORY / "tests" / "beds" / "boxes.sh"
QUESTIONS = {
    "acme-support": "I was charged twice for May. This is urgent.",
    "corvid-dates": "Invoice dated March 14, 2031",
    "fjord-reviews": "After a month: the battery is great.",
}
"""Asked of each alias again and again; the first alias has a replica on every box."""
VERSIONS = {
    "acme-support-tiny-v2.1.0",
    "acme-support-tiny-v2.2.0",
    "corvid-dates-tiny-v1.0.0",
    "fjord-reviews-tiny-v1.0.0",
}
PAUSE_S = 0.25
HOST = """  {name}:
    engine: ssh
    address: {name}
    python: {python}
    restart_after: 20s
    devices:
      cpu0: {{kind: cpu, memory: 6GiB, price_per_hour: 0}}
"""
DRAINING = "    state: draining\n"
LAPTOP = "  laptop:"
OFFICE = "box4"
HOME = BED / "boxes" / OFFICE / "root" / "home" / "fleetctl"
"""Home folder of the operator on box4, as this process sees it."""
PROJECT = HOME / "fleet"
GATEWAY = "10.77.0.14:8080"
FLEETCTL = f"{sys.executable} -m fleetctl"
KILL = ("systemctl", "--user", "kill", "-s")
SSH_CONFIG = """Host box*
  User fleetctl
  IdentityFile ~/.ssh/bed
  StrictHostKeyChecking yes
"""


@dataclass
class Witness:
    """Clients that ask all the while, and what they saw."""

    url: str
    keys: dict[str, str]
    answered: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Times of good answers by alias."""
    failed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    texts: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    """Answers to the question of an alias, by version."""
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask each alias's question four times a second."""
        threads = [threading.Thread(target=self._ask, args=(alias,)) for alias in self.keys]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    def _ask(self, alias: str) -> None:
        while not self._ended.wait(PAUSE_S):
            try:
                text, version = ask(self.url, self.keys[alias], alias, QUESTIONS[alias])
            except (OSError, urllib.error.URLError):
                self.failed[alias] += 1
            else:
                self.answered[alias].append(time.monotonic())
                self.texts[alias, version].add(text)

    def answers_again(self, alias: str, within_s: float = 180.0) -> None:
        """Return once an alias gets answers again."""
        began = time.monotonic()
        while not self.answered[alias] or self.answered[alias][-1] < began:
            if time.monotonic() > began + within_s:
                raise SystemExit(f"play failed: {alias} has had no answer for {within_s:.0f} s")
            time.sleep(0.1)

    def longest_gap(self, alias: str, since: float) -> float:
        """Return the most seconds between two answers since a time."""
        times = [since, *(at for at in self.answered[alias] if at > since), time.monotonic()]
        return max(later - at for at, later in pairwise(times))


@dataclass
class Play(Demo):
    """The demo's way of running commands, with boxes that faults happen to."""

    python: str = ""
    gaps: list[tuple[str, dict[str, float]]] = field(default_factory=list)

    def fleetctl(self, *arguments: str, expect: int = 0) -> None:
        """Print and run a command on box4; stop the play when its exit code is not expected."""
        print(f"{GREEN}${RESET} {BOLD}fleetctl {shlex.join(arguments)}{RESET}", flush=True)
        if (code := self.on_office(f"{FLEETCTL} {shlex.join(arguments)}")) != expect:
            raise SystemExit(f"play failed: exit code {code}, expected {expect}")

    def systemd(self, *units: str) -> None:
        """Write the units of box4, and start some of them now and at every boot."""
        self.fleetctl("compile", "--target", "systemd", "--out", "../.config/systemd/user")
        started = " ".join(f"fleetctl-{unit}" for unit in units)
        shown = f"systemctl --user daemon-reload && systemctl --user enable --now {started}"
        print(f"{GREEN}${RESET} {BOLD}{shown}{RESET}", flush=True)
        if self.on_office(shown.replace("enable", "enable --quiet")):
            raise SystemExit("play failed: systemd does not take the units")

    def on_office(self, words: str) -> int:
        """Run a command in the project on box4; return its exit code."""
        return subprocess.run([SCRIPT, "ssh", OFFICE, f"cd fleet; {words}"], check=False).returncode

    def box(self, verb: str, *words: str) -> None:
        """Do something to a box, as its owner or a fault would."""
        print(f"{GREEN}${RESET} {BOLD}boxes.sh {' '.join((verb, *words))}{RESET}", flush=True)
        subprocess.run([SCRIPT, verb, *words], check=True)

    @contextmanager
    def fault(self, title: str, witness: Witness) -> Iterator[None]:
        """A step that ends when the fleet is as declared; note how long an alias had no answer."""
        with self.step(title):
            began = time.monotonic()
            yield
            self.until_mended()
            for alias in QUESTIONS:
                witness.answers_again(alias)
            self.gaps.append((title, {a: witness.longest_gap(a, began) for a in QUESTIONS}))

    def until_mended(self, within_s: float = 300.0) -> None:
        """Return once `drift` finds nothing; systemd and the reconciler are left to themselves."""
        ends = time.monotonic() + within_s
        time.sleep(2)  # the fault shows
        while self.on_office(f"{FLEETCTL} drift >~/drift 2>&1"):
            if time.monotonic() > ends:
                raise SystemExit(f"play failed: {(HOME / 'drift').read_text(encoding='utf-8')}")

    def add_box(self, name: str) -> None:
        """Declare a further box."""
        edit(PROJECT / "fleet.yaml", ("hosts:\n", "hosts:\n" + self.declared(name)))

    def drain_box(self, name: str) -> None:
        """Declare that a box is to become empty."""
        edit(PROJECT / "fleet.yaml", (self.declared(name), self.declared(name) + DRAINING))

    def remove_box(self, name: str) -> None:
        """Delete a box's declaration."""
        edit(PROJECT / "fleet.yaml", (self.declared(name) + DRAINING, ""))

    def declared(self, name: str) -> str:
        """Return the declaration of a box."""
        return HOST.format(name=name, python=self.python)

    def play(self) -> None:
        """The story."""
        with self.step("Two boxes are declared, trusted, and served"):
            self.fleetctl("validate")
            self.fleetctl("trust", "add", *(f"ssh://box{number}" for number in (1, 2, 3)))
            self.fleetctl("key", "create", "--all")
            self.systemd("forward-box1", "forward-box2", "gateway-main")
            self.fleetctl("plan", "--out", "first.plan.json")
            self.fleetctl("apply", "first.plan.json", "--yes")
            self.fleetctl("plan", "--detailed-exitcode")
            self.systemd("reconcile")
            self.fleetctl("server", "list")
        keys = {alias: self.key(f"{alias.partition('-')[0]}-prod") for alias in QUESTIONS}
        witness = Witness(self.gateway, keys)
        with witness.asking():
            for alias in QUESTIONS:
                witness.answers_again(alias)
            self.faults(witness)
        self.tell(witness)

    def faults(self, witness: Witness) -> None:
        """What happens to boxes."""
        with self.fault("A new version", witness):
            self.edit_one_line()
            self.fleetctl("apply", "--auto", "--yes")
        with self.fault("The server of box1 is killed: systemd starts it again", witness):
            self.box("ssh", "box1", *KILL, "KILL", "fleetctl-tiny-box1-cpu0")
        with self.fault("The server of box2 hangs: reconcile replaces it", witness):
            self.box("ssh", "box2", *KILL, "STOP", "fleetctl-tiny-box2-cpu0")
            self.until_mended()
            self.fleetctl("apply", "--auto", "--yes")  # unloads what answered meanwhile on box1
        with self.fault("box2 reboots: everything is back without a command", witness):
            self.box("reboot", "box2")
        with self.fault("box4 reboots, with gateway and reconciler: the same", witness):
            self.box("reboot", OFFICE)
        with self.fault("box1 is cut off: unknown, not gone; nothing is planned there", witness):
            self.box("cut", "box1")
            self.fleetctl("plan")
            self.box("mend", "box1")
        with self.step("Back on the net, nothing has changed"):
            self.fleetctl("plan", "--detailed-exitcode")
        with self.fault("box3 is added, with a replica of its own", witness):
            self.add_box("box3")
            edit(PROJECT / "fleet.yaml", ("replicas: 2", "replicas: 3"))
            self.systemd("forward-box3")
            self.fleetctl("apply", "--auto", "--yes")
        with self.fault("box3 is drained and removed", witness):
            self.drain_box("box3")
            edit(PROJECT / "fleet.yaml", ("replicas: 3", "replicas: 2"))
            self.fleetctl("apply", "--auto", "--yes")
            self.remove_box("box3")
            self.fleetctl("apply", "--auto", "--yes")

    def tell(self, witness: Witness) -> None:
        """Print what the clients saw; fail where a version's answers differ."""
        print(f"\n{BOLD}Most seconds between two answers{RESET}")
        print(f"  {'':62}{'  '.join(f'{alias:>14}' for alias in QUESTIONS)}")
        for title, gaps in self.gaps:
            print(f"  {title[:60]:62}{'  '.join(f'{gaps[alias]:>14.1f}' for alias in QUESTIONS)}")
        print(f"\n{BOLD}Requests{RESET}")
        for alias in QUESTIONS:
            print(f"  {alias:14} {len(witness.answered[alias])} answered, "
                  f"{witness.failed[alias]} without an answer")  # fmt: skip
        print(f"\n{BOLD}Versions, and their different answers to the same question{RESET}")
        for (_, version), texts in sorted(witness.texts.items()):
            print(f"  {version:28} {len(texts)}", flush=True)
        versions = {version for _, version in witness.texts}
        if versions - VERSIONS or any(len(texts) > 1 for texts in witness.texts.values()):
            raise SystemExit(f"play failed: answers of another version: {dict(witness.texts)}")

    def stop_everything(self) -> None:
        """Stop servers, gateway and reconciler, also on boxes that a fault left off."""
        for number in (1, 2, 3, 4):
            for verb in ("mend", "on"):
                subprocess.run([SCRIPT, verb, f"box{number}"], check=False)
        self.on_office(
            "cd ~/.config/systemd/user && systemctl --user disable --now --quiet *.service"
        )
        self.fleetctl("server", "stop", "--all")


def prepare(python: str) -> None:
    """Put the quickstart fleet on box4, with two boxes in place of the laptop."""
    shutil.rmtree(PROJECT, ignore_errors=True)
    shutil.copytree(copy_example("quickstart"), PROJECT)
    shutil.copy(BED / "key", HOME / ".ssh" / "bed")
    shutil.copy(BED / "known_hosts", HOME / ".ssh" / "known_hosts")
    names = "".join(f"Host box{n}\n  HostName 10.77.0.{10 + n}\n" for n in (1, 2, 3))
    (HOME / ".ssh" / "config").write_text(names + SSH_CONFIG, encoding="utf-8")
    path = PROJECT / "fleet.yaml"
    text = path.read_text(encoding="utf-8")
    begin, end = text.index(LAPTOP), text.index("\ngateways:")
    hosts = "".join(HOST.format(name=name, python=python) for name in ("box1", "box2"))
    text = text[:begin] + hosts + text[end:]
    text = text.replace("retrain_every: 30d}", "retrain_every: 30d, replicas: 2, spread: host}")
    path.write_text(text.replace("127.0.0.1:8080", GATEWAY), encoding="utf-8")
    owner = HOME.stat()
    for file in (*PROJECT.rglob("*"), *(HOME / ".ssh").iterdir(), PROJECT):
        os.chown(file, owner.st_uid, owner.st_gid)


def main() -> None:
    """Play the story and clean up."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("play stopped"))
    given = os.environ.get("FLEETCTL_VLLM_PYTHON")
    python = Path(given) if given else REPOSITORY / ".venv-vllm" / "bin" / "python"
    prepare(str(python.absolute()))
    play = Play(PROJECT, STORIES["quickstart"], f"http://{GATEWAY}", python=str(python.absolute()))
    play_to_the_end(play)


if __name__ == "__main__":
    main()
