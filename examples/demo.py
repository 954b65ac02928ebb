"""Play fleetctl's main job: plan, apply, canary, rollback, drift, heal. `fleetctl demo` runs it.

    python examples/demo.py [--fake] [--model quickstart|smollm2] [--into FOLDER]

Works on a copy of the example under `.demo/`, prints every command before it runs it,
checks each exit code, and at the end (also on Ctrl-C) stops what it started.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runtime.processes import start_mark

sys.path.insert(0, str(Path(__file__).parent))
from ask import ask

REPOSITORY = Path(__file__).resolve().parent.parent
BOLD, DIM, GREEN, RESET = (
    ("\033[1m", "\033[2m", "\033[32m", "\033[0m") if sys.stdout.isatty() else ("",) * 4
)


@dataclass(frozen=True)
class Question:
    """What one client asks, through which key."""

    key: str
    alias: str
    text: str


@dataclass(frozen=True)
class Story:
    """What differs between the example fleets."""

    questions: tuple[Question, ...]
    alias: str
    client_file: str
    old: str
    new: str


STORIES = {
    "quickstart": Story(
        questions=(
            Question("acme-prod", "acme-support", "I was charged twice for May. This is urgent."),
            Question("corvid-prod", "corvid-dates", "Invoice dated March 14, 2031"),
            Question("fjord-prod", "fjord-reviews", "After a month: the battery is great."),
        ),
        alias="acme-support",
        client_file="clients/acme.yaml",
        old="2.1.0",
        new="2.2.0",
    ),
    "smollm2": Story(
        questions=(
            Question("acme-prod", "acme-support", "I was charged twice for May. This is urgent."),
            Question("delta-prod", "delta-orders", "Please send 12 boxes of cedar planks to Lyon."),
        ),
        alias="acme-support",
        client_file="clients/acme.yaml",
        old="2.1.0",
        new="2.2.0",
    ),
}


@dataclass
class Demo:
    """Runs commands in the copied project and keeps the time of each step."""

    project: Path
    story: Story
    gateway: str
    times: list[tuple[str, float]] = field(default_factory=list)
    options: tuple[str, ...] = ()

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Print a title, time what happens inside."""
        print(f"\n{BOLD}== {title}{RESET}", flush=True)
        began = time.monotonic()
        yield
        self.times.append((title, time.monotonic() - began))

    def fleetctl(self, *arguments: str, expect: int = 0) -> None:
        """Print and run a command; stop the demo when its exit code is not the expected one."""
        words = (*self.options, *arguments)
        shown = " ".join(f"'{each}'" if " " in each else each for each in words)
        print(f"{GREEN}${RESET} {BOLD}fleetctl {shown}{RESET}", flush=True)
        command = [sys.executable, "-m", "fleetctl", *words]
        code = subprocess.run(command, cwd=self.project, check=False).returncode
        if code != expect:
            raise SystemExit(f"demo failed: exit code {code}, expected {expect}")
        if expect:
            print(f"{DIM}(exit code {code}, as it should){RESET}", flush=True)

    def key(self, name: str) -> str:
        """Return a client's key."""
        return (self.project / ".fleetctl/keys" / name).read_text(encoding="utf-8").strip()

    def ask_everybody(self) -> None:
        """Ask each client's alias once."""
        for question in self.story.questions:
            print(f"{GREEN}${RESET} {BOLD}ask {question.alias} {question.text!r}{RESET}")
            answer, version = ask(
                self.gateway, self.key(question.key), question.alias, question.text
            )
            print(f"  {answer}\n  {DIM}answered by {version}{RESET}", flush=True)

    def edit_one_line(self) -> None:
        """Ask for the new version by changing one line of YAML."""
        path = self.project / self.story.client_file
        before = path.read_text(encoding="utf-8")
        after = before.replace(f'version: "{self.story.old}"', f'version: "{self.story.new}"', 1)
        path.write_text(after, encoding="utf-8")
        print(f"{self.story.client_file}:")
        for old, new in zip(before.splitlines(), after.splitlines(), strict=True):
            if old != new:
                print(f"  - {old.strip()}\n  + {new.strip()}", flush=True)

    def forty_requests(self) -> None:
        """Send 40 requests by 20 users and show that each user stays on one version."""
        question = self.story.questions[0]
        print(
            f"{DIM}20 users, 2 requests each, alias {question.alias}; 10 % of 20 users are 2{RESET}"
        )
        answered: dict[str, list[str]] = {}
        for turn in range(40):
            user = f"reader-{turn % 20}"
            _, version = ask(
                self.gateway, self.key(question.key), question.alias, question.text, user
            )
            answered.setdefault(user, []).append(version)
        counts = Counter(version for versions in answered.values() for version in versions)
        for version, count in sorted(counts.items()):
            print(f"  {version}: {count} of 40 requests")
        torn = [user for user, versions in answered.items() if len(set(versions)) > 1]
        if torn or len(counts) != 2:
            raise SystemExit(f"demo failed: split {dict(counts)}, users on two versions: {torn}")
        print("  every user got the same version both times", flush=True)

    def kill_the_server(self) -> None:
        """Kill the vLLM process and its children, as an out-of-memory killer would."""
        for record in sorted((self.project / ".fleetctl/servers").glob("*/launch.json")):
            pid = json.loads(record.read_text(encoding="utf-8"))["pid"]
            print(
                f"{GREEN}${RESET} {BOLD}kill -9 -{pid}{RESET}   {DIM}# {record.parent.name}{RESET}"
            )
            os.killpg(pid, signal.SIGKILL)
            while start_mark(pid):
                time.sleep(0.05)

    def stop_everything(self) -> None:
        """Stop servers and gateway."""
        self.fleetctl("gateway", "stop")
        self.fleetctl("server", "stop", "--all")

    def play(self) -> None:
        """The story, from an empty machine to a healed fleet."""
        story = self.story
        with self.step("Check the declarations"):
            self.fleetctl("validate")
        with self.step("Give each client a key and start the gateway"):
            self.fleetctl("key", "create", "--all")
            self.fleetctl("gateway", "start")
        with self.step("Plan: what would change"):
            self.fleetctl("plan", "--out", "first.plan.json")
        with self.step("Apply: start servers, load, route"):
            self.fleetctl("apply", "first.plan.json", "--yes")
        with self.step("Each client asks its own alias"):
            self.ask_everybody()
        with self.step("Plan again: nothing to do"):
            self.fleetctl("plan", "--detailed-exitcode")
        with self.step(f"A new version of {story.alias}: edit one line, plan"):
            self.edit_one_line()
            self.fleetctl("plan", "--out", "canary.plan.json", "--detailed-exitcode", expect=2)
        with self.step("Apply the canary"):
            self.fleetctl("apply", "canary.plan.json", "--yes")
        with self.step("Reconcile asks both versions the golden set, before any client"):
            self.fleetctl("reconcile", "--once")
        with self.step("40 requests: about 10 % reach the new version"):
            self.forty_requests()
        with self.step("Roll back"):
            self.fleetctl("rollback", story.alias, "--reason", "demo")
        with self.step("The server dies"):
            self.kill_the_server()
        with self.step("Drift names the one cause"):
            self.fleetctl("drift", expect=2)
        with self.step("Reconcile heals"):
            self.fleetctl("reconcile", "--once")
        with self.step("No drift is left, and the clients are served"):
            self.fleetctl("drift")
            self.ask_everybody()
        with self.step("Where to look, and what it costs"):
            self.fleetctl("dashboard", "link")
            print(
                f"  {DIM}opens while `fleetctl dashboard` runs in {self.project}{RESET}\n"
                "Cost: 0.00 per hour, as declared (price_per_hour: 0). With a price, "
                "`fleetctl cost report`\nshares each hour that is over among the clients.",
                flush=True,
            )


def copy_example(name: str, into: Path = REPOSITORY) -> Path:
    """Return a fresh copy of the example, so that the original stays as it is."""
    target = into / ".demo" / name
    state = target / ".fleetctl"
    if state.exists():  # a demo that was killed may have left processes behind
        for command in (["gateway", "stop"], ["server", "stop", "--all"]):
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.run(
                [sys.executable, "-m", "fleetctl", *command], cwd=target, check=False, **quiet
            )
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(
        REPOSITORY / "examples" / name,
        target,
        ignore=shutil.ignore_patterns(".fleetctl", "training"),
    )
    (into / ".demo" / ".gitignore").write_text("*\n", encoding="utf-8")
    return target


def free_port() -> int:
    """Return a port without a listener right now, below those that kernels give out."""
    while taken(port := random.randrange(10_000, 30_000)):
        pass
    return port


def taken(port: int) -> bool:
    """Say whether a port of this machine has a listener."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def on_free_ports(project: Path) -> str:
    """Put free ports in place of those of the example that are taken; return the gateway's URL."""
    path, url = project / "fleet.yaml", ""
    for port, written in ((8100, "port: {}"), (8080, "127.0.0.1:{}")):
        found = free_port() if taken(port) else port
        if found != port:
            print(f"Port {port} is taken on this machine: here it is {found}.")
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(written.format(port), written.format(found)), encoding="utf-8")
        url = f"http://{written.format(found)}"
    return url


def main() -> None:
    """Play the story and clean up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fake", action="store_true", help="Play on the fake engine.")
    parser.add_argument("--model", choices=sorted(STORIES), default="quickstart")
    parser.add_argument("--into", type=Path, default=REPOSITORY, help="Folder for `.demo`.")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("demo stopped"))
    project = copy_example(arguments.model, arguments.into)
    options = ("--env", "fake") if arguments.fake else ()
    demo = Demo(project, STORIES[arguments.model], on_free_ports(project), options=options)
    began = time.monotonic()
    finished = False
    try:
        demo.play()
        finished = True
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
    finally:
        with demo.step("Stop what the demo started"):
            demo.stop_everything()
        print(f"\n{BOLD}Seconds per step{RESET}")
        for title, seconds in demo.times:
            print(f"  {seconds:6.1f}  {title}")
        print(f"  {time.monotonic() - began:6.1f}  in all")
    if not finished:
        sys.exit(130)


if __name__ == "__main__":
    main()
