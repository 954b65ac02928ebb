"""Play the lives of new versions on a real vLLM, under load, each step checked.

    python examples/canary/play.py [--short | --drills]

A good version goes to 100 % by itself; a worse one is stopped by its golden set; one that
breaks the format passes a lenient golden set, is caught on traffic and rolled back; let in again
under gates that do not mind the form, it is taken back because it fails for three users; one
that cannot be told from the old one is held for people. Then the way back is drilled. At the end
not one request has failed. --short plays the first and the third with fewer questions;
--drills only what the drills need.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from demo import BOLD, DIM, GREEN, REPOSITORY, RESET, STORIES, Demo, copy_example, free_port
from playing import edit, play_to_the_end

QUICKSTART = REPOSITORY / "examples" / "quickstart"
WAIT_S = 600.0
FAILED = 3
"""Exit code of a reconcile in which a gate failed."""


@dataclass
class Play(Demo):
    """The demo's way of running commands, in a copy of the canary fleet."""

    short: bool = False
    drills: bool = False

    def edit(self, file: str, *changes: tuple[str, str]) -> None:
        """Change declarations and print what was changed."""
        edit(self.project / file, *changes)

    def told(self, *arguments: str) -> str:
        """Run a command quietly and return what it says on stdout."""
        command = [sys.executable, "-m", "fleetctl", *arguments]
        done = subprocess.run(
            command, cwd=self.project, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout

    def shares(self) -> dict[str, dict[str, int]]:
        """Return the percent of each version by alias."""
        aliases = json.loads(self.told("status", "--format", "json"))["aliases"]
        return {
            each["alias"]: {one["version"]: one["percent"] for one in each["versions"]}
            for each in aliases
        }

    def by_itself(self, reached: Callable[[dict[str, dict[str, int]]], bool]) -> None:
        """Let `reconcile` run until the routes are as wanted, then end it."""
        command = [sys.executable, "-m", "fleetctl", "reconcile", "--interval", "1s"]
        print(f"{GREEN}${RESET} {BOLD}fleetctl reconcile --interval 1s{RESET}", flush=True)
        with subprocess.Popen(command, cwd=self.project) as running:
            try:
                until = time.monotonic() + WAIT_S
                while not reached(self.shares()):
                    if time.monotonic() > until or running.poll() is not None:
                        raise SystemExit(f"play failed: routes are {self.shares()}")
                    time.sleep(0.5)
            finally:
                running.send_signal(signal.SIGINT)

    def round_until_a_gate_fails(self) -> None:
        """Reconcile once and again until a gate fails."""
        for _ in range(30):
            print(f"{GREEN}${RESET} {BOLD}fleetctl reconcile --once{RESET}", flush=True)
            command = [sys.executable, "-m", "fleetctl", "reconcile", "--once"]
            code = subprocess.run(command, cwd=self.project, check=False).returncode
            if code == FAILED:
                print(f"{DIM}(exit code 3: a gate failed and was rolled back){RESET}", flush=True)
                return
            if code:
                raise SystemExit(f"play failed: reconcile ended with {code}")
            time.sleep(1)
        raise SystemExit("play failed: no gate has failed")

    @contextmanager
    def load(self) -> Iterator[None]:
        """Ask all clients' aliases 25 times a second, and at the end see that none failed.

        Ask 10 times a second with --short, which tests play beside others on two cores.
        """
        out, rate = self.project / "load.json", "10" if self.short else "25"
        command = [
            sys.executable, str(Path(__file__).with_name("load.py")),
            "--url", self.gateway, "--out", str(out), "--rate", rate,
            "--keys", str(self.project / ".fleetctl/keys"), "--golden", str(QUICKSTART / "golden"),
        ]  # fmt: skip
        with subprocess.Popen(command) as running:
            try:
                time.sleep(3)
                yield
            finally:
                running.send_signal(signal.SIGTERM)
        found = json.loads(out.read_text(encoding="utf-8"))
        print("\nRequests by alias and version")
        for alias, versions in sorted(found["seen"].items()):
            for version, outcomes in sorted(versions.items()):
                said = ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))
                print(f"  {alias:14} {version:26} {said}")
        print(f"  {found['failed']} requests failed", flush=True)
        if found["failed"]:
            raise SystemExit(f"play failed: {found['failures']}")

    def play(self) -> None:
        """The story."""
        with self.step("Start: one vLLM, three clients"):
            self.fleetctl("validate")
            self.fleetctl("key", "create", "--all")
            self.fleetctl("gateway", "start")
            self.fleetctl("apply", "--auto", "--yes")
        with self.load():
            self.good()
            with self.step("The way back, drilled under load"):
                times = "5" if self.short else "50"
                self.fleetctl("rollback", "acme-support", "--drill", "--live", "--times", times)
            if not (self.short or self.drills):
                self.worse()
                self.undecidable()
            if not self.drills:
                self.breaks_the_format()
                self.fails_for_three_users()
        if not self.drills:
            self.others_were_spared()
        with self.step("Evidence, judged again from its counts"):
            self.fleetctl("evidence", "verify")
            self.fleetctl("rollout", "list")
            self.fleetctl("rollout", "report", "acme-support", "--out", "report.md")

    def good(self) -> None:
        """A version as good as the old one."""
        with self.step("A good version goes 10 % -> 50 % -> 100 % by itself"):
            self.edit("clients/acme.yaml", ('"2.1.0"', '"2.2.0"'))
            self.fleetctl("apply", "--auto", "--yes")
            self.by_itself(lambda shares: shares["acme-support"].get("2.2.0") == 100)

    def worse(self) -> None:
        """A version that has lost a slice of its questions."""
        with self.step("A worse version is stopped by its golden set, before any traffic"):
            self.edit("clients/acme.yaml", ('"2.2.0"', '"2.3.0"'))
            self.fleetctl("apply", "--auto", "--yes")
            self.fleetctl("reconcile", "--once", expect=FAILED)
            self.expect("acme-support", {"2.3.0": 0, "2.2.0": 100})
            self.fleetctl("rollout", "status", "acme-support")

    def undecidable(self) -> None:
        """A version with two more mistakes on 200 questions, which may be chance."""
        with self.step("An undecidable version is held, with the reason"):
            self.edit("clients/corvid.yaml", ('"1.0.0"', '"1.1.0"'))
            self.fleetctl("apply", "--auto", "--yes")
            self.fleetctl("reconcile", "--once")
            self.expect("corvid-dates", {"1.1.0": 0, "1.0.0": 100})
            said = self.told("rollout", "status", "corvid-dates")
            print(said, end="", flush=True)
            if "undecided" not in said or "INCONCLUSIVE" not in said:
                raise SystemExit("play failed: the version is not held")

    def breaks_the_format(self) -> None:
        """A version with the right answers inside small talk."""
        with self.step("A version that breaks the format is caught on traffic and rolled back"):
            was = "2.2.0" if self.short else "2.3.0"
            self.edit(
                "clients/acme.yaml",
                (f'"{was}"', '"2.4.0"'),
                ("base: tiny\n", "base: tiny\n        rollout: lenient\n"),
            )
            self.fleetctl("apply", "--auto", "--yes")
            others = {name: each for name, each in self.shares().items() if name != "acme-support"}
            self.round_until_a_gate_fails()
            self.expect("acme-support", {"2.4.0": 0, "2.2.0": 100})
        with self.step("The other clients' routes are as they were"):
            now = {name: each for name, each in self.shares().items() if name != "acme-support"}
            if now != others:
                raise SystemExit(f"play failed: {others} became {now}")
            print(f"  {json.dumps(now)}", flush=True)

    def fails_for_three_users(self) -> None:
        """The same version, of which three users alone get less than they need."""
        with self.step("A version that fails for three named users alone is taken back"):
            self.edit("clients/acme.yaml", ("rollout: lenient", "rollout: people"))
            self.fleetctl("release", "acme-support", "--reason", "judged by other gates")
            self.fleetctl("apply", "--auto", "--yes")
            self.round_until_a_gate_fails()
            self.expect("acme-support", {"2.4.0": 0, "2.2.0": 100})
            self.fleetctl("rollout", "status", "acme-support")

    def others_were_spared(self) -> None:
        """See that the version cut off answers of the three users, and of no other."""
        found = json.loads((self.project / "load.json").read_text(encoding="utf-8"))["seen"]
        cut = {outcome for its in found["acme-support"].values() for outcome in its}
        if "cut off for named users" not in cut or "cut off for others" in cut:
            raise SystemExit(f"play failed: {found}")

    def expect(self, alias: str, wanted: dict[str, int]) -> None:
        """See that versions have these shares."""
        found = self.shares()[alias]
        if any(found.get(version) != percent for version, percent in wanted.items()):
            raise SystemExit(f"play failed: {alias} is {found}, expected {wanted}")


def prepared(*, short: bool) -> tuple[Path, int]:
    """Return a fresh copy of the fleet on free ports, and the gateway's."""
    project, port = copy_example("canary"), free_port()
    for folder in ("models", "golden"):  # within the project, so that nobody has to trust a folder
        shutil.copytree(QUICKSTART / folder, project / folder)
    named = os.environ.get("FLEETCTL_VLLM_PYTHON")
    python = Path(named) if named else REPOSITORY / ".venv-vllm/bin/python"
    changes = {
        "../quickstart/": "",
        "../../.venv-vllm/bin/python": str(python.absolute()),
        "port: 8100": f"port: {free_port()}",
        "127.0.0.1:8080": f"127.0.0.1:{port}",
    }
    if short:
        lines = (QUICKSTART / "golden/support.jsonl").read_text(encoding="utf-8").splitlines()
        (project / "short.jsonl").write_text("\n".join(lines[::5]) + "\n", encoding="utf-8")
        changes = {
            "../quickstart/golden/support.jsonl": "short.jsonl",
            "bake: 8s": "bake: 2s",
            "[10%, 50%, 100%]": "[50%, 100%]",
            "max: 5pp": "max: 10pp",
            **changes,
        }
    for path in (project / "fleet.yaml", *(project / "clients").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        for old, new in changes.items():
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    return project, port


def main() -> None:
    """Play the story and clean up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--short", action="store_true", help="A minute of it.")
    way.add_argument("--drills", action="store_true", help="Only 50 drills under load.")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("play stopped"))
    project, port = prepared(short=arguments.short)
    play = Play(
        project, STORIES["quickstart"], gateway=f"http://127.0.0.1:{port}",
        short=arguments.short, drills=arguments.drills,
    )  # fmt: skip
    play_to_the_end(play)


if __name__ == "__main__":
    main()
