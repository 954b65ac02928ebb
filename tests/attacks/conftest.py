"""The harness of attacks: what must not happen here is watched and fails the test.

`call` runs a command in this process, `limited` runs it as a process with limits of memory and
time. Every name ending in `.test` leads to `listener`, so that what is sent anywhere arrives.
"""

import contextlib
import io
import os
import resource
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fleetctl.cli import main
from tests.commands import in_the_project

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = ("AWS_SECRET_ACCESS_KEY", "CANARY")
"""Variables that hold the canary."""
FLEET = """\
fleet: tiny
tiers: {standard: {retrain_every: 90d}}
defaults: {tier: standard, rollout: careful, keep_versions: 3}
bases:
  tiny: {model: models/base/tiny, dtype: bfloat16, max_model_len: 512, kv_cache: 64MiB}
rollouts:
  careful: {weights: [10%, 50%, 100%], bake: 24h, retain: 7d, gates: []}
"""
HOST = """\
hosts:
  laptop:
    engine: fake
    port: 8100
    devices: {cpu0: {kind: cpu, memory: 6GiB, price_per_hour: 0}}
"""
GATEWAY = 'gateways: {main: {listen: "127.0.0.1:8080"}}\n'
OUTSIDE = "a line that stands outside of the project"
"""Content of the files outside of a project; no command may show it."""
MEMORY = 1 << 30
"""Upper bound of the address space of a limited command. Bytes."""
LONGEST_S = 60


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout + self.stderr


@dataclass
class Listener:
    """A server that keeps what it receives and answers every request alike."""

    port: int
    answer: bytes = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    )
    received: list[bytes] = field(default_factory=list)
    may_be_called: bool = False

    def serve(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self.received.append(b"")
                connection.settimeout(LONGEST_S)
                while data := connection.recv(65536):
                    self.received[-1] += data
                    if b"\r\n\r\n" in self.received[-1]:
                        connection.sendall(self.answer)
                        break


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """A server at every name in `.test`; it must not be called unless the test says so."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = Listener(listening.getsockname()[1])
        real = socket.getaddrinfo

        def lookup(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
            name = host.decode() if isinstance(host, bytes) else str(host)
            return real("127.0.0.1" if name.endswith(".test") else host, port, *rest, **named)

        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        thread = threading.Thread(target=found.serve, args=(listening,), daemon=True)
        thread.start()
        yield found
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(LONGEST_S)
    assert found.may_be_called or found.received == []


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch) -> str:
    """A secret in the environment; `call` and `limited` fail where it is printed."""
    secret = f"canary{secrets.token_hex(12)}"
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, secret)
    return secret


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A file that no command may make."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists()


@pytest.fixture
def trust_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the operator's settings, in the place of those of the test run."""
    home = tmp_path / "settings"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    return home


@pytest.fixture
def outside(tmp_path: Path, trust_home: Path) -> Path:  # noqa: ARG001 (nothing is trusted)
    """A folder beside the project with a file of every kind that the declarations read."""
    folder = tmp_path / "outside"
    (folder / "base").mkdir(parents=True)
    for name in ("secret", "golden.jsonl", "notice.j2", "schema.json", "more.yaml"):
        (folder / name).write_text(f"{OUTSIDE}: {{{{\n\t{OUTSIDE}\n")
    (folder / "base" / "config.json").write_text(f'{{"hidden_size": "{OUTSIDE}"}}')
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small fleet of one base on the fake engine, with a gateway."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "fleet.yaml").write_text(FLEET + HOST + GATEWAY)
    return root


def declare(root: Path, text: str) -> None:
    """Declare further or other sections: a section here takes the place of the fleet's."""
    sections = {line.partition(":")[0] for line in text.splitlines() if line[:1].isalpha()}
    rest = {"hosts": HOST, "gateways": GATEWAY}
    kept = "".join(part for name, part in rest.items() if name not in sections)
    (root / "fleet.yaml").write_text(FLEET + kept + text)


def call(root: Path, *arguments: str) -> Outcome:
    """Run a command on a project in this process; the canary must not be printed."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as left,
    ):
        main(["-C", str(root), *arguments])
    code = left.value.code
    said, warned = (in_the_project(told.getvalue(), "-C", str(root)) for told in (out, err))
    return _checked(Outcome(code if isinstance(code, int) else 1, said, warned))


def limited(root: Path, *arguments: str, before: str = "", timeout_s: float = LONGEST_S) -> Outcome:
    """Run a command as a process of bounded memory and time; `before` is Python to run first."""
    code = f"{before}\nimport sys\nfrom fleetctl.cli import main\nmain(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, "-C", str(root), *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        preexec_fn=_limit,
    )
    return _checked(Outcome(done.returncode, done.stdout, done.stderr))


Call = Callable[..., Outcome]


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _checked(outcome: Outcome) -> Outcome:
    for name in ENVIRONMENT:
        secret = os.environ.get(name, "")
        assert not secret.startswith("canary") or secret not in outcome.text
    assert "Traceback" not in outcome.text
    return outcome
