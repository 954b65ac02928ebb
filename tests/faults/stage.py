"""The fleet that the scorecard breaks: the quickstart's adapters on two servers, with a gateway.

Everything that mends the fleet is a command that an operator runs; the commands run in this
process, by the same code and with the same exit codes.
"""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.config.files.lockfile import parse_lock
from runtime.gateway.control.supervisor import find_process
from runtime.processes import start_mark
from tests.faults.client import SteadyClient, ask, telling
from tests.faults.project import make_project
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import QUICKSTART, REPOSITORY, Project
from tests.ports import free_port

SUPPORT, OTHER = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.4.0"
BETTER = "acme-support-tiny-v2.2.0"
DATES, REVIEWS, UNITS = (
    "corvid-dates-tiny-v1.0.0", "fjord-reviews-tiny-v1.0.0", "birch-units-tiny-v1.0.0",
)  # fmt: skip
SERVED = (SUPPORT, DATES, REVIEWS, UNITS)
GOLDEN = {
    "acme-support": "support", "corvid-dates": "dates", "fjord-reviews": "reviews",
    "birch-units": "units",
}  # fmt: skip
START_S = 600.0
"""Upper bound of a wait for a process. Seconds."""


@dataclass
class Stage:
    """The applied fleet, its client, and what breaks and watches both."""

    project: Project
    gateway: str
    """URL for clients."""
    client: SteadyClient = field(init=False)
    kept: Path = field(init=False)
    """A copy of the declarations, the lock and the library, as before any fault."""
    ran: list[tuple[tuple[str, ...], Done]] = field(default_factory=list)
    """Commands that ran, with what they said."""
    hands: list[subprocess.Popen[bytes]] = field(default_factory=list)
    """Servers that a person has started."""

    @classmethod
    def raise_up(
        cls, root: Path, python: Path | None, *, servers: int = 2, soaks: bool = False
    ) -> "Stage":
        """Make the project, start everything, and find out how each version answers."""
        port = free_port()
        project = make_project(root, python, port, servers=servers, soaks=soaks)
        stage = cls(project, f"http://127.0.0.1:{port}")
        stage.kept = root.with_name(f"{root.name}-kept")
        leave = shutil.ignore_patterns(".fleetctl", "base")
        shutil.copytree(root, stage.kept, ignore=leave)
        stage.must("gateway", "start")
        stage.must("apply", "--auto", "--yes")
        stage.client = stage.learn()
        return stage

    def learn(self) -> SteadyClient:
        """Ask every version alone, and choose the questions that tell versions apart."""
        candidates = {
            alias: tuple(
                json.loads(line)["input"]
                for line in (QUICKSTART / "golden" / f"{name}.jsonl")
                .read_text("utf-8")
                .splitlines()
            )[:12]
            for alias, name in GOLDEN.items()
        }
        every = [question for questions in candidates.values() for question in questions]
        url, answers = self.url_of(SUPPORT), dict[str, dict[str, str]]()
        for name in (*SERVED, OTHER):
            path = self.library(name)
            self.post(url, "load", f"probe-{name}", path)
            answers[name] = {text: ask(url, f"probe-{name}", text)[1] for text in every}
            self.post(url, "unload", f"probe-{name}")
        answers["tiny"] = {text: ask(url, "tiny", text)[1] for text in every}
        questions = telling(candidates, answers)
        short = [alias for alias, found in questions.items() if len(found) < 3]
        assert not short, f"too few questions tell the versions of {short} apart"
        self.post(url, "load", f"probe-{BETTER}", self.library(BETTER))
        answers[BETTER] = {text: ask(url, f"probe-{BETTER}", text)[1] for text in every}
        self.post(url, "unload", f"probe-{BETTER}")
        keys = {
            alias: self.file(f".fleetctl/keys/{alias.partition('-')[0]}-prod").read_text("utf-8")
            for alias in candidates
        }
        allowed = {alias: {name for name in SERVED if alias in name} for alias in candidates}
        secrets = {alias: key.strip() for alias, key in keys.items()}
        return SteadyClient(self.gateway, secrets, questions, answers, allowed)

    # Commands and files.

    def run(self, *arguments: str) -> Done:
        """Run a command as the operator."""
        done = call(self.project, *arguments)
        self.ran.append((arguments, done))
        return done

    def must(self, *arguments: str) -> Done:
        done = self.run(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    @property
    def state(self) -> Path:
        return self.project.root / ".fleetctl"

    def file(self, name: str) -> Path:
        return self.project.root / name

    def edit(self, name: str, *changes: tuple[str, str]) -> None:
        """Change declarations."""
        text = self.file(name).read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text, f"no {old!r} in {name}"
            text = text.replace(old, new, 1)
        self.file(name).write_text(text, encoding="utf-8")

    def restore_files(self) -> None:
        """Check the declarations, the lock and the library out again, as from version control."""
        for entry in self.kept.iterdir():
            target = self.file(entry.name)
            if entry.is_file():
                target.write_bytes(entry.read_bytes())
            elif entry.name != "models":
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(entry, target)
        adapters = self.file("models/adapters")
        known = {path.relative_to(self.kept) for path in self.kept.glob("models/adapters/*/*")}
        for path in adapters.glob("*/*"):
            if path.relative_to(self.project.root) not in known:
                shutil.rmtree(path)
        for part in known:
            if not self.file(str(part)).exists():
                shutil.copytree(self.kept / part, self.file(str(part)))

    def library(self, name: str) -> Path:
        """Return a version's folder in the kept library."""
        alias, _, version = name.partition("-tiny-v")
        client, task = alias.split("-")
        return self.kept / "models" / "adapters" / client / f"{task}-v{version}"

    def digest(self, name: str) -> str:
        return parse_lock((self.kept / "fleet.lock").read_text("utf-8")).adapters[name].digest

    def copy(self, name: str) -> Path:
        """Return the copy of a version that a server loads from."""
        return Path(self.listed(self.url_of(name))[name])

    # Servers and gateway.

    def servers(self) -> dict[str, dict[str, Any]]:
        """Return the launch records by server."""
        files = (self.state / "servers").glob("*/launch.json")
        records = (json.loads(file.read_text("utf-8")) for file in files)
        return {record["name"]: record for record in records}

    def holders(self, name: str) -> list[str]:
        """Return the URLs of the servers that list a version."""
        urls = sorted(record["url"] for record in self.servers().values())
        return [url for url in urls if name in self.listed(url)]

    def url_of(self, name: str) -> str:
        """Return the URL of the first server that lists a version."""
        return self.holders(name)[0]

    def record_of(self, url: str) -> dict[str, Any]:
        return next(each for each in self.servers().values() if each["url"] == url)

    def listed(self, url: str) -> dict[str, str]:
        """Return the adapters that a server lists, with their paths."""
        try:
            with urllib.request.urlopen(f"{url}/v1/models", timeout=30) as reply:
                cards = json.load(reply)["data"]
        except OSError:
            return {}
        return {card["id"]: card["root"] for card in cards if card.get("parent")}

    def post(self, url: str, verb: str, name: str, path: Path | None = None) -> int:
        """Load or unload an adapter as anybody with access to the server may."""
        body = {"lora_name": name} | ({"lora_path": str(path)} if path else {})
        request = urllib.request.Request(
            f"{url}/v1/{verb}_lora_adapter", data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            return error.code

    def reload(self, url: str, name: str, path: Path) -> None:
        """Load a version again from another folder, behind the back of fleetctl."""
        self.post(url, "unload", name)
        self.post(url, "load", name, path)

    def evict(self, url: str) -> None:
        """Make a server forget the weights of all its versions, by as many others as it keeps."""
        limit = int(self.record_of(url)["flags"]["max_cpu_loras"])
        for number in range(limit):
            self.post(url, "load", f"probe-{number}", self.library(OTHER))
            ask(url, f"probe-{number}", "Hello")
        for number in range(limit):
            self.post(url, "unload", f"probe-{number}")

    def kill_server(self, record: Mapping[str, Any], number: int = signal.SIGKILL) -> None:
        """End a server's process group and wait until its process and its sockets are gone."""
        pid = record["pid"]
        os.killpg(pid, number)
        wait(lambda: start_mark(pid) is None and threads_of(pid) <= 1)

    def start_by_hand(self, record: Mapping[str, Any], *changes: tuple[str, str]) -> None:
        """Start a server as a person does who copies its command line."""
        arguments = list(record["arguments"])
        for old, new in changes:
            place = arguments.index(old)
            arguments[place + 1] = new
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("FLEETCTL_")
        }
        shown = json.loads(self.must("compile", "--format", "json").stdout)
        mine = next(each for each in shown if each["server"] == record["name"])
        environment |= mine["environment"] | {"PYTHONPATH": str(REPOSITORY)}
        with (self.state / "servers" / record["name"] / "by-hand").open("wb") as log:
            process = subprocess.Popen(
                arguments, env=environment, cwd=self.project.root, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.hands.append(process)
        wait(lambda: answers(f"{record['url']}/health") or process.poll() is not None)

    def gateway_pid(self) -> int:
        found = find_process(self.state, "main")
        assert found is not None
        return found.pid

    def clean_up(self) -> None:
        for record in self.servers().values():
            if record["pid"] and start_mark(record["pid"]) is not None:
                os.killpg(record["pid"], signal.SIGCONT)
        self.project.clean_up()
        for process in self.hands:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait(condition: Any, limit_s: float = START_S) -> None:
    """Wait for a condition."""
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def threads_of(pid: int) -> int:
    """Return the threads that are left: sockets stay open as long as more than a zombie is."""
    with suppress(OSError):
        return len([*Path(f"/proc/{pid}/task").iterdir()])
    return 0


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
