"""A copy of the quickstart fleet that a test may apply, kill and repeat."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from runtime.processes import listening, open_ports, start_mark
from tests.commands import in_the_project
from tests.ports import free_port

REPOSITORY = Path(__file__).parents[2]
QUICKSTART = REPOSITORY / "examples" / "quickstart"
CLIENTS = ("acme", "birch", "corvid", "delta", "evergreen", "fjord", "globe")


@dataclass(frozen=True)
class Project:
    """The folder, and the options that every command gets."""

    root: Path
    options: tuple[str, ...]

    @classmethod
    def copy(cls, root: Path, python: Path | None) -> "Project":
        """Copy the example; `python` has vLLM, None: the fake server."""
        leave = shutil.ignore_patterns(".fleetctl", "training", "v2.4.0", "golden")
        shutil.copytree(QUICKSTART, root, ignore=leave)
        shutil.copytree(QUICKSTART / "golden", root / "golden")
        file = root / "fleet.yaml"
        text = file.read_text(encoding="utf-8")
        for old, new in (
            ("port: 8100", f"port: {free_port()}"),
            ("127.0.0.1:8080", f"127.0.0.1:{free_port()}"),
            ("../../.venv-vllm/bin/python", str(python or sys.executable)),
        ):
            assert old in text
            text = text.replace(old, new)
        file.write_text(text, encoding="utf-8")
        by_time_alone(root)
        from tests.fleetctl.in_process import call  # noqa: PLC0415 (it knows of projects)

        made = cls(root, () if python else ("--env", "fake"))
        assert call(made, "key", "create", "--all").returncode == 0
        return made

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "fleetctl", *self.given, *arguments]

    @property
    def given(self) -> tuple[str, ...]:
        return "-C", str(self.root), *self.options

    def completion(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> tuple[Any, Message]:
        """Ask the gateway as client acme; return the document and the headers of the answer."""
        text = (self.root / "fleet.yaml").read_text(encoding="utf-8")
        port = text.partition('listen: "127.0.0.1:')[2].partition('"')[0]
        key = (self.root / ".fleetctl/keys/acme-prod").read_text(encoding="utf-8").strip()
        sent = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}",
            data=json.dumps({"model": "acme-support", **body}).encode(),
            headers={**sent, **(headers or {})},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer), answer.headers

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            self.command(*arguments), cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        done.stdout, done.stderr = (
            in_the_project(text, *self.given) for text in (done.stdout, done.stderr)
        )
        return done

    def stop_during_apply(
        self, number: signal.Signals, when: Callable[[dict[str, Any]], bool]
    ) -> int:
        """Apply, send a signal at the first event that `when` picks, and return the exit code."""
        with subprocess.Popen(
            self.command("apply", "--auto", "--yes", "--format", "json"),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as applying:
            assert applying.stdout is not None
            for line in applying.stdout:
                if when(json.loads(line)):
                    applying.send_signal(number)
                    break
            applying.stdout.read()
        return applying.returncode

    def server_processes(self) -> list[int]:
        records = (self.root / ".fleetctl" / "servers").glob("*/launch.json")
        return [json.loads(each.read_text(encoding="utf-8"))["pid"] for each in records]

    def kill_servers(self) -> None:
        """End the servers as an out-of-memory killer would, and wait until they are gone.

        A process may be gone to others while its last thread has not closed the port yet.
        """
        for pid in self.server_processes():
            ports = {port for port in open_ports() if pid in listening(port)}
            os.killpg(pid, signal.SIGKILL)
            while start_mark(pid) is not None or ports & open_ports().keys():
                os.sched_yield()

    def take_out(self, name: str, folder: str, to: Path) -> Path:
        """Move a version out of library and lock; return its folder."""
        shutil.move(self.root / folder, to)
        file = self.root / "fleet.lock"
        document = json.loads(file.read_text("utf-8"))
        del document["adapters"][name]
        file.write_text(json.dumps(document), encoding="utf-8")
        return to

    def clean_up(self) -> None:
        from tests.fleetctl.in_process import call  # noqa: PLC0415 (it knows of projects)

        call(self, "gateway", "stop")
        call(self, "server", "stop", "--all", "--timeout", "5")


def by_time_alone(root: Path) -> None:
    """Take the gates out of a copy of the quickstart; tests of gates declare their own."""
    fleet, fake = root / "fleet.yaml", root / "env" / "fake.yaml"
    text, found, _ = fleet.read_text(encoding="utf-8").partition("\nrollouts:\n")
    assert found
    pace = "  careful: {weights: [10%, 50%, 100%], bake: 24h, retain: 7d, gates: []}\n"
    fleet.write_text(f"{text}{found}{pace}", encoding="utf-8")
    fake.write_text("hosts:\n  laptop: {engine: fake}\n", encoding="utf-8")


def applied(folder: Path) -> Iterator[Project]:
    """Yield the quickstart fleet as it is applied on the fake engine, and stop it afterwards."""
    from tests.fleetctl.in_process import call  # noqa: PLC0415 (it knows of projects)

    made = Project.copy(folder / "project", None)
    done = call(made, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    yield made
    made.clean_up()
