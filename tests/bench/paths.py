"""Prints which files one request and one round of `reconcile` go through.

`python -m tests.bench.paths [--list]`; what is counted, and what a climb is: `tests.bench.calls`.

The fleet is a copy of the quickstart with the built-in fake server, applied as declared.

The round is `fleetctl reconcile --once` in this process, the second one, in which nothing is due.
A part of the round is counted apart: from the first call to the last return of the function that
judges, which is handed the project and the live state. Servers are observed side by side, so
figures of the whole round vary by one or two; those of the part do not.

The request is a chat completion of 0.3 KB that is answered with JSON of 0.6 KB, on a connection
that is kept. The gateway runs in this process as `fleetctl gateway run`, the server behind the
gateway in another process, and the client in a thread that is not recorded. Some requests come
first. Of those after them the request with the fewest calls counts, for what a gateway does at
intervals can fall into any.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fleet.spec import GatewaySpec
from fleetctl.cli import main as fleetctl
from runtime.gateway import process
from tests.bench.calls import Recorder, Walk, walk
from tests.ports import free_port

ROOT: Final = Path(__file__).resolve().parents[2]
JUDGING: Final = "judge_round"
"""The function that judges what is being tried, wherever the function is defined."""
WARM, REQUESTS = 3, 9
"""Requests that come first, and those that are counted."""
AFTER_S: Final = 0.05
"""Seconds in which a gateway writes down a request after the answer."""
START_S: Final = 30.0
"""Seconds in which a server must listen."""


class Project:
    """A copy of the quickstart, and the ports of its server and its gateway."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.server, self.gateway = free_port(), free_port()
        leave = shutil.ignore_patterns(".fleetctl", "training")
        shutil.copytree(ROOT / "examples" / "quickstart", root, ignore=leave)
        file = root / "fleet.yaml"
        text = file.read_text(encoding="utf-8")
        for old, new in (
            ("port: 8100", f"port: {self.server}"),
            ("127.0.0.1:8080", f"127.0.0.1:{self.gateway}"),
            ("../../.venv-vllm/bin/python", sys.executable),
        ):
            if old not in text:
                raise SystemExit(f"the quickstart no longer says {old!r}")
            text = text.replace(old, new)
        file.write_text(text, encoding="utf-8")

    def call(self, *arguments: str) -> str:
        """Run a command in this process and return what it prints on stderr.

        Raises:
            SystemExit: it fails.
        """
        out, err = io.StringIO(), io.StringIO()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                fleetctl(["-C", str(self.root), "--env", "fake", *arguments])
        except SystemExit as end:
            if end.code:
                raise SystemExit(f"{arguments}: exit {end.code}\n{err.getvalue()}") from None
        return err.getvalue()


@contextmanager
def applied() -> Iterator[Project]:
    """Apply a copy of the quickstart; its server is stopped at the end."""
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder) / "project")
        project.call("key", "create", "--all")
        try:
            project.call("apply", "--auto", "--yes")
            yield project
        finally:
            project.call("server", "stop", "--all", "--timeout", "5")


def reconcile(project: Project) -> Recorder:
    """Record the second of two rounds; the first imports what rounds need."""
    recorder = Recorder(ROOT)
    project.call("reconcile", "--once")
    with recorder.installed():
        recorder.is_on = True
        printed = project.call("reconcile", "--once")
        recorder.is_on = False
    if "Nothing to heal, no rollout is due" not in printed:
        raise SystemExit(f"something was due: {printed}")
    return recorder


def request(project: Project) -> list[str]:
    """Return the files of the calls of one request, through the gateway in this process."""
    models = project.root / "models.json"  # the gateway asks for the launch that these name
    with urllib.request.urlopen(f"http://127.0.0.1:{project.server}/v1/models") as listed:
        models.write_bytes(listed.read())
    project.call("server", "stop", "--all", "--timeout", "5")
    command = [sys.executable, "-m", "tests.bench.gateway_stub", str(project.server), str(models)]
    recorder = Recorder(ROOT)
    rounds: list[list[str]] = []
    client = threading.Thread(target=_ask, args=(project, recorder, rounds), daemon=True)
    with subprocess.Popen(command, cwd=ROOT) as stub:
        try:
            _connect(project.server).close()
            client.start()
            with recorder.installed():
                gateway = GatewaySpec("main", f"127.0.0.1:{project.gateway}", "")
                process.run(project.root / ".fleetctl", gateway)
            client.join()
        finally:
            stub.kill()
    return min(rounds, key=len)


def _ask(project: Project, recorder: Recorder, rounds: list[list[str]]) -> None:
    """Send requests one after the other, then have this process's gateway end."""
    key = (project.root / ".fleetctl/keys/acme-prod").read_text(encoding="utf-8").strip()
    question = [{"role": "user", "content": "Where is my order? " * 10}]
    body = json.dumps({"model": "acme-support", "messages": question, "max_tokens": 16})
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    try:
        with _connect(project.gateway) as connection:
            answers = connection.makefile("rb")
            for number in range(WARM + REQUESTS):
                recorder.events.clear()
                recorder.is_on = True
                connection.sendall(f"{head}{body}".encode())
                _read(answers)
                time.sleep(AFTER_S)
                recorder.is_on = False
                if number >= WARM:
                    rounds.append(recorder.calls())
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


def _connect(port: int) -> socket.socket:
    deadline = time.monotonic() + START_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), START_S)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(AFTER_S)


def _read(answers: io.BufferedReader) -> None:
    """Read one answer of a known length."""
    status = answers.readline()
    lengths = [
        int(line.partition(b":")[2])
        for line in iter(answers.readline, b"\r\n")
        if line.lower().startswith(b"content-length:")
    ]
    answers.read(lengths[0])
    if b" 200 " not in status:
        raise OSError(f"the gateway answered {status!r}")


def show(name: str, path: Walk, *, listed: bool) -> None:
    """Print what was counted."""
    print(
        f"{name}: {path.calls} calls, {len(path.files)} files, {path.changes} changes of file "
        f"({path.pairs} pairs of files), {len(path.climbs)} climbs"
    )
    if listed:
        for file in path.files:
            print(f"  {file}")
        for left, entered in path.climbs:
            print(f"  climb: {left} -> {entered}")


def main() -> None:
    """Print all."""
    parser = argparse.ArgumentParser(
        description="Print the files that a request and a round visit."
    )
    parser.add_argument("--list", action="store_true", help="print the files, in order, and climbs")
    parser.add_argument("--judging", default=JUDGING, help="the function that judges (%(default)s)")
    given = parser.parse_args()
    with applied() as project:
        recorder = reconcile(project)
        show("fleetctl reconcile --once", walk(recorder.calls()), listed=given.list)
        judging = walk(recorder.within(given.judging))
        show(f"of it `{given.judging}`", judging, listed=given.list)
        show("one plain request", walk(request(project)), listed=given.list)


if __name__ == "__main__":
    main()
