"""Plays mistakes on the fake engine, in a project that is declared, then applied."""

import contextlib
import http.client
import io
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fleetctl.cli import main
from runtime.ledger.file import FileLedger
from runtime.processes import listening
from tests.fleetctl.project_on_disk import REPOSITORY, Project
from tests.mistakes.case import Mistake
from tests.ports import free_port

_OLD_VLLM = """\
#!/bin/sh
echo "usage: api_server.py [-h] [--model MODEL] [--port PORT]" >&2
echo "api_server.py: error: unrecognized arguments: --lora-dtype auto" >&2
exit 2
"""
_SSH = '#!/bin/sh\necho "{}" >&2\nexit 255\n'


def declared(root: Path) -> Project:
    """Return the quickstart fleet with two of its clients, on the fake engine."""
    made = Project.copy(root, None)
    for client in ("corvid", "delta", "evergreen", "fjord", "globe"):
        (root / f"clients/{client}.yaml").unlink()
    file = root / "fleet.yaml"
    file.write_text(file.read_text("utf-8").replace("engine: local", "engine: fake"), "utf-8")
    return Project(root, made.options[:0])


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(0o755)


@contextmanager
def _port_taken(project: Project) -> Iterator[None]:
    port = number("port: ([0-9]+)", project)
    server = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(server, stderr=subprocess.DEVNULL) as other:
        while not listening(port):
            assert other.poll() is None
            os.sched_yield()
        yield
        other.terminate()


@contextmanager
def _held(project: Project) -> Iterator[None]:
    ledger = FileLedger(
        project.root / ".fleetctl", run="r", by="bo", clock=lambda: datetime.now(UTC)
    )
    with ledger.lease("bo"):
        yield


def _says(complaint: str) -> Callable[[Project], AbstractContextManager[None]]:
    @contextmanager
    def machine(project: Project) -> Iterator[None]:
        _program(project.root / ".ssh-says/ssh", _SSH.format(complaint))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{project.root}/.ssh-says:{os.environ['PATH']}")
            run(project, "fleetctl trust add ssh://10.0.0.5:22")
            yield

    return machine


@contextmanager
def _no_database(_: Project) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEET_DB", f"postgresql://ann:pa55@127.0.0.1:{free_port()}/fleet")
        yield


@contextmanager
def _old_vllm(project: Project) -> Iterator[None]:
    _program(project.root / "old-vllm/bin/python", _OLD_VLLM)
    yield


MACHINES: Mapping[str, Callable[[Project], AbstractContextManager[None]]] = {
    "": lambda _: contextlib.nullcontext(),
    "a colleague applies": _held,
    "another program listens on the port": _port_taken,
    "the interpreter has an old vLLM": _old_vllm,
    "the database is off": _no_database,
    "the host is off": _says("ssh: connect to host 10.0.0.5 port 22: Connection timed out"),
    "the key is not authorized": _says("ann@10.0.0.5: Permission denied (publickey)."),
}


def number(pattern: str, project: Project) -> int:
    found = re.search(pattern, (project.root / "fleet.yaml").read_text("utf-8"))
    assert found is not None
    return int(found[1])


def run(project: Project, typed: str) -> tuple[int, str]:
    """Return exit code and output of a command; of curl the status and the body."""
    program, *words = shlex.split(typed)
    if program == "curl":
        return _ask(project, words)
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_ACTOR", "ann")
        patch.chdir(project.root)
        with (
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            pytest.raises(SystemExit) as left,
        ):
            main(words)
    assert isinstance(left.value.code, int)
    return left.value.code, printed.getvalue()


def _ask(project: Project, words: list[str]) -> tuple[int, str]:
    url, headers, body = urlsplit(words[-1]), {}, None
    secret = (project.root / ".fleetctl/keys/acme-prod").read_text("utf-8").strip()
    for option, value in zip(words[:-1:2], words[1:-1:2], strict=True):
        if option == "-H":
            name, _, text = value.partition(": ")
            headers[name] = text.replace("$KEY", secret)
        else:
            body = value
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    asked = http.client.HTTPConnection("127.0.0.1", number(r"127.0.0.1:([0-9]+)", project))
    path = f"{url.path}?{url.query}".rstrip("?").replace("$KEY", secret)
    asked.request("POST" if body else "GET", path, body, headers)
    answer = asked.getresponse()
    return answer.status, answer.read().decode()


@contextmanager
def edited(project: Project, edits: tuple[tuple[str, str, str], ...]) -> Iterator[None]:
    """Edit files, and put them back."""
    kept = {name: (project.root / name).read_bytes() for name, old, _ in edits if old}
    for name, old, new in edits:
        file = project.root / name
        text = file.read_text("utf-8") if old else ""
        assert old in text, (name, old)
        file.write_text(text.replace(old, new, 1) if old else new, "utf-8")
    yield
    for name, old, _ in edits:
        if old:
            (project.root / name).write_bytes(kept[name])
        else:
            (project.root / name).unlink()


def play(project: Project, mistake: Mistake) -> tuple[int, str]:
    """Return exit code and printed text of a mistake, as on a machine of the page."""
    for typed in mistake.before:
        run(project, typed)
    with edited(project, mistake.edits), MACHINES[mistake.during](project):
        code, text = run(project, mistake.typed)
    text = _elsewhere(project, text)
    if text.startswith("Plan "):
        text = next(block for block in text.split("\n\n") if mistake.wrong in block)
    return code, _wrapped(text)


def _elsewhere(project: Project, text: str) -> str:
    """Return the part of a text about the mistake, with the names of the page's machine."""
    begin = re.search("^(Usage|Error|Warning):", text, re.MULTILINE)
    text = text[begin.start() :] if begin else text
    server, gateway = number("port: ([0-9]+)", project), number(r"1:([0-9]+)\"}", project)
    for found, said in (
        (re.escape(str(project.root.parent)), "/home/ann"),
        (re.escape(sys.executable), "/home/ann/vllm/bin/python"),
        (re.escape(str(REPOSITORY)), "/home/ann/fleetctl"),
        (f":{server}|(?<=server ){server}", lambda m: m[0].replace(str(server), "8100")),
        (f":{gateway}", ":8080"),
        ("(Observing|Note: gateway).*\n", ""),
        (r"127\.0\.0\.1\", port [0-9]+", '127.0.0.1", port 5432'),
        ("(?<=process )[0-9]+", "4711"),
        (r"(?<=ends in )[0-9]+ s", "60 s"),
        (r"\b[0-9a-f]{16}\b", "0123456789abcdef"),
    ):
        text = re.sub(found, said, text)
    return text


def _wrapped(text: str) -> str:
    """Return a text whose prose is wrapped anew, for names have other lengths elsewhere."""
    blocks = text.rstrip("\n").split("\n\n")
    return "\n\n".join(
        block
        if re.search(r"^(Usage|Error|Warning|Try|Note|[{]| )|\S   +\S", block, re.MULTILINE)
        else textwrap.fill(block, 100, break_long_words=False, break_on_hyphens=False)
        for block in blocks
    )
