"""Prints which files a request, a plan, an apply and a round of `reconcile` go through.

`python -m tests.bench.paths [--list] [--root PATH]`; what is counted, and what a climb is:
`tests.bench.calls`. `tests/test_house.py` holds the figures of `--format json` to their budgets.

The fleet is a copy of the quickstart with the built-in fake server, applied as declared. All runs
in this process, and each command runs once before it is recorded, which imports what it needs.

The plan is `fleetctl plan` of the unchanged fleet. The apply brings another version of an adapter
to an alias: its steps load the version, ask it and set the route; they are recorded from the first
call of the first step to the last call of the last.

The round is `fleetctl reconcile --once`, in which nothing is due. A part of the round is counted
apart: from the first call to the last return of the function that judges, which is handed the
project and the live state. Servers are observed side by side, so numbers of calls vary by some;
those of files do not.

The request is a chat completion of 0.3 KB that is answered with JSON of 0.6 KB, on a connection
that is kept; and then as the first of a connection. The gateway runs in this process as
`fleetctl gateway run`, the server behind the gateway in another process, and the client in a thread
that is not recorded. Some requests come first. Of those after them the request with the fewest
calls counts, for what a gateway does at intervals can fall into any.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import re
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

from tests.bench.calls import Recorder, Walk, walk

ROOT: Final = Path(__file__).resolve().parents[2]
JUDGING: Final = "judge_round"
"""The function that judges what is being tried, wherever the function is defined."""
FIRST_OF_STEPS, LAST_OF_STEPS = "_begin", "_finish"
"""Functions of `EXECUTE` that each step of an apply begins and ends with."""
EXECUTE: Final = "runtime/execute/"
VERSIONS: Final = "2.2.0", "2.3.0"
"""Versions of acme-support that are applied: the first unrecorded."""
WARM, REQUESTS = 3, 9
"""Requests that come first, and those that are counted."""
AFTER_S: Final = 0.05
"""Seconds in which a gateway writes down a request after the answer."""
START_S: Final = 30.0
"""Seconds in which a server must listen."""


class Project:
    """A copy of a checkout's quickstart, and the ports of its server and its gateway."""

    def __init__(self, checkout: Path, root: Path) -> None:
        free_port = importlib.import_module("tests.ports").free_port
        self.checkout, self.root = checkout, root
        self.server, self.gateway = free_port(), free_port()
        leave = shutil.ignore_patterns(".fleetctl", "training")
        shutil.copytree(checkout / "examples" / "quickstart", root, ignore=leave)
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
        fleetctl = importlib.import_module("fleetctl.cli").main
        out, err = io.StringIO(), io.StringIO()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                fleetctl(["-C", str(self.root), "--env", "fake", *arguments])
        except SystemExit as end:
            if end.code:
                raise SystemExit(f"{arguments}: exit {end.code}\n{err.getvalue()}") from None
        return err.getvalue()

    def take(self, version: str) -> None:
        """Declare another version of acme-support."""
        file = self.root / "clients" / "acme.yaml"
        text = file.read_text(encoding="utf-8")
        file.write_text(re.sub(r'"2\.\d\.0"', f'"{version}"', text), encoding="utf-8")

    def recorded(self, *arguments: str) -> tuple[Recorder, str]:
        """Run a command as `call` does, and return what ran and what it printed on stderr."""
        recorder = Recorder(self.checkout)
        with recorder.installed():
            recorder.is_on = True
            printed = self.call(*arguments)
            recorder.is_on = False
        return recorder, printed


@contextmanager
def applied(checkout: Path) -> Iterator[Project]:
    """Apply a copy of the quickstart; its server is stopped at the end."""
    with tempfile.TemporaryDirectory() as folder:
        project = Project(checkout, Path(folder) / "project")
        project.call("key", "create", "--all")
        try:
            project.call("apply", "--auto", "--yes")
            yield project
        finally:
            project.call("server", "stop", "--all", "--timeout", "5")


def plan(project: Project) -> Walk:
    """Record a plan of the unchanged fleet."""
    project.call("plan", "--detailed-exitcode")
    recorder, _ = project.recorded("plan", "--detailed-exitcode")
    return walk(recorder.calls())


def steps(project: Project) -> Walk:
    """Record the steps of an apply that changes the version of an alias."""
    for version in VERSIONS:
        project.take(version)
        recorder, printed = project.recorded("apply", "--auto", "--yes")
        if "3 done in" not in printed:
            raise SystemExit(f"other steps than load, smoke test and route: {printed}")
    return walk(recorder.between(FIRST_OF_STEPS, LAST_OF_STEPS, EXECUTE))


def reconcile(project: Project) -> Recorder:
    """Record the second of two rounds."""
    project.call("reconcile", "--once")
    recorder, printed = project.recorded("reconcile", "--once")
    if "Nothing to heal, no rollout is due" not in printed:
        raise SystemExit(f"something was due: {printed}")
    return recorder


def requests(project: Project) -> tuple[Walk, Walk]:
    """Return a request on a kept connection and the first of a connection."""
    models = project.root / "models.json"  # the gateway asks for the launch that these name
    with urllib.request.urlopen(f"http://127.0.0.1:{project.server}/v1/models") as listed:
        models.write_bytes(listed.read())
    project.call("server", "stop", "--all", "--timeout", "5")
    command = [sys.executable, "-m", "tests.bench.gateway_stub", str(project.server), str(models)]
    recorder = Recorder(project.checkout)
    kept: list[list[str]] = []
    first: list[list[str]] = []
    client = threading.Thread(target=_ask, args=(project, recorder, kept, first), daemon=True)
    with subprocess.Popen(command, cwd=ROOT) as stub:
        try:
            _connect(project.server).close()
            client.start()
            with recorder.installed():
                _run_gateway(project)
            client.join()
        finally:
            stub.kill()
    return walk(min(kept, key=len)), walk(min(first, key=len))


def _run_gateway(project: Project) -> None:
    """Run the gateway in this process, wherever the checkout defines what it is made of."""
    spec = _module_with(project.checkout / "fleet", "*.py", "\nclass GatewaySpec")
    process = _module_with(project.checkout / "runtime" / "gateway", "process.py", "\ndef run(")
    gateway = importlib.import_module(spec).GatewaySpec("main", f"127.0.0.1:{project.gateway}", "")
    importlib.import_module(process).run(project.root / ".fleetctl", gateway)


def _module_with(folder: Path, pattern: str, text: str) -> str:
    """Return the name of the one module below a folder that has a text."""
    (found,) = [path for path in folder.rglob(pattern) if text in path.read_text(encoding="utf-8")]
    top = len(folder.parts) - 1 - (folder.parts[-1] == "gateway")
    return ".".join(found.with_suffix("").parts[top:])


def _ask(
    project: Project, recorder: Recorder, kept: list[list[str]], first: list[list[str]]
) -> None:
    """Send requests one after the other, then have this process's gateway end."""
    key = (project.root / ".fleetctl/keys/acme-prod").read_text(encoding="utf-8").strip()
    question = [{"role": "user", "content": "Where is my order? " * 10}]
    body = json.dumps({"model": "acme-support", "messages": question, "max_tokens": 16})
    sent = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    try:
        with _connect(project.gateway) as connection:
            answers = connection.makefile("rb")
            for number in range(WARM + REQUESTS):
                with _recording(recorder):
                    connection.sendall(sent)
                    _read(answers)
                if number >= WARM:
                    kept.append(recorder.calls())
        for _ in range(REQUESTS):
            time.sleep(AFTER_S)  # the end of the connection before is not of this one
            with _recording(recorder), _connect(project.gateway) as connection:
                connection.sendall(sent)
                _read(connection.makefile("rb"))
            first.append(recorder.calls())
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _recording(recorder: Recorder) -> Iterator[None]:
    """Record until a request is written down."""
    recorder.events.clear()
    recorder.is_on = True
    yield
    time.sleep(AFTER_S)
    recorder.is_on = False


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


def show(name: str, path: Walk, lines: int, *, listed: bool) -> None:
    """Print what was counted."""
    print(
        f"{name}: {path.calls} calls, {len(path.files)} files of {lines} lines, "
        f"{path.changes} changes of file "
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
        description="Print the files that a request, a plan, an apply and a round visit."
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="another checkout")
    parser.add_argument("--list", action="store_true", help="print the files, in order, and climbs")
    parser.add_argument("--judging", default=JUDGING, help="the function that judges (%(default)s)")
    parser.add_argument("--format", choices=["text", "json"], default="text")
    given = parser.parse_args()
    root = given.root.resolve()
    sys.path.insert(0, str(root))
    os.environ["PYTHONPATH"] = str(root)
    with applied(root) as project:
        recorder = reconcile(project)
        paths = {
            "a round of reconcile": walk(recorder.calls()),
            f"of it `{given.judging}`": walk(recorder.within(given.judging)),
            "an unchanged plan": plan(project),
            "the steps of an apply": steps(project),
        }
        with contextlib.redirect_stdout(sys.stderr):  # what a gateway says as it starts
            paths["a plain request"], paths["the first request of a connection"] = requests(project)
    lines = {
        name: sum((root / file).read_text("utf-8").count("\n") for file in path.files)
        for name, path in paths.items()
    }
    if given.format == "json":
        documents = {
            name: {"files": len(path.files), "changes": path.changes, "lines": lines[name]}
            for name, path in paths.items()
        }
        print(json.dumps(documents, indent=2))
    else:
        for name, path in paths.items():
            show(name, path, lines[name], listed=given.list)


if __name__ == "__main__":
    main()
