"""Artefacts that an older fleetctl wrote, laid out as a project on which commands run.

A folder of artefacts holds `project/`, the declarations; `state/`, which was `.fleetctl`;
`live.json` and `saved-plan.json`; `outputs/`, what commands printed; and `now.txt`, when.
"""

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from runtime.processes import machine_id, start_mark
from runtime.workspace import Workspace
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import QUICKSTART, REPOSITORY, Project

PLANS = {
    "plan.txt": (),
    "plan.md": ("--format", "md"),
    "plan.json": ("--format", "json"),
}
"""Stored plans of the stored live state for the overlay `next`, and the options of each."""

OUTPUTS = {
    "adapter_list.txt": ("adapter", "list"),
    "adapter_verify.txt": ("adapter", "verify"),
    "drift.txt": ("drift",),
    "eval_list.txt": ("eval", "list", "--limit", "0"),
    "eval_list.json": ("eval", "list", "acme-support", "--format", "json"),
    "evidence_list.txt": ("evidence", "list"),
    "evidence_verify.txt": ("evidence", "verify"),
    "history.txt": ("history", "--limit", "0"),
    "history.json": ("history", "--limit", "25", "--format", "json"),
    "history_steps.txt": ("history", "--limit", "0", "--steps"),
    "no_changes.txt": ("plan", "--detailed-exitcode"),
    "retrain_list.txt": ("retrain", "list"),
    "rollout_list.json": ("rollout", "list", "--all", "--format", "json"),
    "rollout_report.md": ("rollout", "report", "acme-support"),
    "rollout_status.txt": ("rollout", "status", "acme-support"),
    "status.json": ("status", "--format", "json"),
    "status.txt": ("status",),
    "usage_evals.json": ("usage", "summary", "--purpose", "eval", "--format", "json"),
    "usage_show.json": ("usage", "show", "--last", "5", "--format", "json"),
    "usage_summary.txt": ("usage", "summary"),
}
"""Stored outputs of commands on the running fleet; each exited with 0."""

ADDRESS = "127.0.0.1"
ROOT = "/tmp/before-the-move"  # noqa: S108 (a name in texts, and where they were written)
PYTHON = "/usr/bin/python3"
SEAL = '{"digest":"'
"""How the file of a routing table begins; the SHA-256 of the rest, 64 hex digits, follows."""
START_S = 60.0
"""Upper bound of the time until a fake server answers, in seconds."""


@dataclass(frozen=True)
class Witness:
    """The artefacts of one folder, in a project of this machine."""

    folder: Path
    project: Project
    address: str
    """Where servers and the gateway listen. Ports stay: the chained ledger holds them."""

    @property
    def state(self) -> Path:
        return self.project.root / ".fleetctl"

    def call(self, *arguments: str) -> Done:
        """Run a command at the time of the stored outputs."""
        now = datetime.fromisoformat((self.folder / "now.txt").read_text("utf-8").strip())
        with clock_at(now):
            return call(self.project, *arguments)

    def as_here(self, text: str) -> str:
        """Put the places of this copy into a stored text."""
        for stored, here in self._places():
            text = text.replace(stored, here)
        return text

    def as_stored(self, text: str) -> str:
        """Put the places of the stored artefacts into a text of this copy."""
        for stored, here in self._places():
            text = text.replace(here, stored)
        return text

    def _places(self) -> tuple[tuple[str, str], ...]:
        here = (str(self.project.root), sys.executable, self.address)
        return tuple(zip((ROOT, PYTHON, ADDRESS), here, strict=True))

    @contextmanager
    def running(self) -> Iterator["Witness"]:
        """Run servers with the flags of the stored launch records, and the declared gateway."""
        shown = json.loads(self.call("compile", "--format", "json").stdout)
        modules = {server["server"]: server["arguments"][1:3] for server in shown}
        started: list[tuple[subprocess.Popen[bytes], str]] = []
        try:
            records = sorted((self.state / "servers").glob("*/launch.json"))
            started.extend(
                _start(path, [sys.executable, *modules[path.parent.name]]) for path in records
            )
            for process, url in started:
                _wait_for(process, f"{url}/health")
            self._load()
            assert self.call("gateway", "start").returncode == 0
            yield self
        finally:
            self.project.clean_up()
            for process, _ in started:
                process.terminate()
                process.wait()

    def _load(self) -> None:
        """Load on each server what the stored live state says."""
        live = json.loads(self.as_here((self.folder / "live.json").read_text("utf-8")))
        for resource in live["resources"]:
            if resource["kind"] == "adapter":
                post(
                    f"{live['urls'][resource['server']]}/v1/load_lora_adapter",
                    {"lora_name": resource["adapter"], "lora_path": resource["path"]},
                )


def lay_out(folder: Path, root: Path) -> Witness:
    """Make a project of the artefacts, with the library of the quickstart.

    Each copy listens on a loopback address of its own, so that copies run side by side.
    """
    octets = (127, *(1 + secrets.randbelow(250) for _ in range(3)))
    made = Witness(folder, Project(root, ()), ".".join(map(str, octets)))
    shutil.copytree(folder / "project", root)
    shutil.copytree(folder / "state", made.state)
    shutil.copytree(QUICKSTART / "models", root / "models")
    _make_store(root)
    for path in (root / "fleet.yaml", *made.state.rglob("*.json")):
        path.write_text(_sealed(made.as_here(path.read_text("utf-8"))), "utf-8")
    return made


def _make_store(root: Path) -> None:
    """Copy what servers load from; it is too large to be stored."""
    lock = json.loads((root / "fleet.lock").read_text("utf-8"))
    for name, pinned in lock["adapters"].items():
        client, task, _, version = name.split("-")
        source = root / "models" / "adapters" / client / f"{task}-{version}"
        target = root / ".fleetctl" / "store" / pinned["digest"]
        target.mkdir(parents=True)
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(source / file, target / file)


def _sealed(text: str) -> str:
    """Return a routing table with the digest of its changed body; any other text as it is."""
    if not text.startswith(SEAL):
        return text
    body = "{" + text[len(SEAL) + 64 + 2 :].removesuffix("\n")
    return f'{SEAL}{hashlib.sha256(body.encode()).hexdigest()}",{body[1:]}\n'


@contextmanager
def clock_at(now: datetime) -> Iterator[None]:
    """Let commands in this process find that it is `now`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workspace, "now", lambda _: now)
        yield


def _start(path: Path, program: list[str]) -> tuple["subprocess.Popen[bytes]", str]:
    """Start a server with the flags of its launch record, and write down its process.

    The record holds the program too, but that may have moved since.
    """
    record = json.loads(path.read_text("utf-8"))
    process = subprocess.Popen(
        [*program, *record["arguments"][len(program) :]],
        cwd=REPOSITORY,
        env=os.environ | {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"},
        start_new_session=True,
    )
    here = {"machine": machine_id()} if "machine" in record else {}  # an older record has none
    record |= {"pid": process.pid, "process_start": start_mark(process.pid), **here}
    path.write_text(json.dumps(record, indent=2), "utf-8")
    return process, record["url"]


def _wait_for(process: "subprocess.Popen[bytes]", url: str) -> None:
    """Return once a server answers; fail if its process has ended or the time is over."""
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=START_S):
                return
        except urllib.error.URLError:
            time.sleep(0.02)  # between two tries; the server says when it is ready
    pytest.fail(f"{url} does not answer")


def post(url: str, document: dict[str, Any], key: str = "") -> str:
    """Send a JSON document and return the answer."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(url, json.dumps(document).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.read().decode())


def ask(witness: Witness, alias: str, text: str, user: str) -> str:
    """Ask an alias through the gateway and return the answer's text."""
    key = (witness.state / "keys" / f"{alias.partition('-')[0]}-prod").read_text("utf-8").strip()
    body = {"model": alias, "messages": [{"role": "user", "content": text}], "user": user}
    answer = json.loads(post(f"http://{witness.address}:8080/v1/chat/completions", body, key))
    return str(answer["choices"][0]["message"]["content"])
