"""Records that name another's process, and keys that can be guessed or read."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.resources import ServerFlags
from runtime.engines.launch_records import MARK, LaunchRecord, LaunchRecords
from runtime.engines.supervisor import end
from runtime.gateway.admin.state_dir import LOCK, gateway_dir
from runtime.gateway.control.supervisor import stop
from runtime.processes import start_mark
from tests.attacks.conftest import call

SLEEPS = "import time; print(flush=True); time.sleep(600)"


@contextmanager
def running(code: str, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run Python, the leader of a session, until the block ends; the code has printed a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def bystander() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is none of ours."""
    with running(SLEEPS) as process:
        yield process


def forged(pid: int, **changes: object) -> LaunchRecord:
    """Return the record of a server that is the process of that number, as a forger writes it."""
    flags = ServerFlags("models/base/tiny", "float32", 512, 2, 8)
    record = LaunchRecord(
        name="tiny-laptop-cpu0",
        base="tiny",
        host="laptop",
        devices=("cpu0",),
        port=8100,
        digest=flags.digest,
        url="http://127.0.0.1:9",
        launch="0" * 32,
        flags=flags,
        arguments=(),
        pid=pid,
        process_start=start_mark(pid) or "",
        ready=True,
    )
    return record.model_copy(update=changes)


FORGERIES: dict[str, dict[str, object]] = {
    "as it is": {},
    "not ready": {"ready": False},
    "an empty launch": {"launch": ""},
    "an empty digest": {"digest": ""},
    "its own command line": {"arguments": (sys.executable, "-c")},
    "no start": {"process_start": ""},
}


@pytest.mark.parametrize("changes", FORGERIES.values(), ids=FORGERIES)
def test_a_record_with_anothers_process_stops_nothing(
    project: Path, bystander: "subprocess.Popen[bytes]", changes: dict[str, object]
) -> None:
    records = LaunchRecords(project / ".fleetctl" / "servers")
    records.write(forged(bystander.pid, **changes))
    call(project, "server", "stop", "tiny-laptop-cpu0", "--timeout", "1")
    assert bystander.poll() is None
    assert start_mark(bystander.pid) is not None


def test_a_record_with_anothers_process_is_named(
    project: Path, bystander: "subprocess.Popen[bytes]"
) -> None:
    records = LaunchRecords(project / ".fleetctl" / "servers")
    records.write(forged(bystander.pid))
    done = call(project, "server", "stop", "tiny-laptop-cpu0")
    assert (done.code, "FC6082" in done.text) == (1, True), done.text


def test_the_session_of_a_leader_that_is_gone_is_not_ended_by_a_record(project: Path) -> None:
    """A forger names the number of a session: its members bear no mark of the launch."""
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
        " stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
    )
    words = [sys.executable, "-c", code]
    leader = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
    child = int(leader.communicate()[0])
    try:
        assert start_mark(leader.pid) is None
        records = LaunchRecords(project / ".fleetctl" / "servers")
        records.write(forged(leader.pid, process_start="1"))
        call(project, "server", "stop", "tiny-laptop-cpu0", "--timeout", "1")
        assert start_mark(child) is not None
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_process_that_bears_the_mark_of_the_launch_is_stopped(tmp_path: Path) -> None:
    records = LaunchRecords(tmp_path / "servers")
    with running(SLEEPS, **{MARK: "1" * 32}) as process:
        with pytest.raises(FleetError, match="bears no mark"):
            asyncio.run(end(forged(process.pid, launch="2" * 32), records))
        assert process.poll() is None
        threading.Thread(target=process.wait).start()  # no zombie
        asyncio.run(end(forged(process.pid, launch="1" * 32), records))
        assert process.wait() == -signal.SIGTERM


def test_a_gateways_record_with_anothers_process_stops_nothing(
    tmp_path: Path, bystander: "subprocess.Popen[bytes]"
) -> None:
    """The lock is held by some process, and the record in it names another."""
    path = gateway_dir(tmp_path, "main") / LOCK
    path.parent.mkdir(parents=True)
    document = {"pid": bystander.pid, "process_start": start_mark(bystander.pid), "url": "http://x"}
    path.write_text(json.dumps(document))
    code = f"import fcntl, sys\nf = open({str(path)!r})\nfcntl.flock(f, fcntl.LOCK_EX)\n"
    code += "print(flush=True)\nsys.stdin.read()"
    with running(code):
        with pytest.raises(FleetError) as refused:
            stop(tmp_path, "main")
        assert refused.value.diagnostics[0].code == "FC6082"
    assert bystander.poll() is None


STRONG = "fctl_q8Zr2LmXw4Tn7VbKd9HsPa"


@pytest.mark.parametrize(
    ("secret", "mode", "warned"),
    [
        ("short", 0o600, True),
        ("x" * 40, 0o600, True),
        (STRONG[:20], 0o600, True),
        (STRONG, 0o640, True),
        (STRONG, 0o604, True),
        (STRONG, 0o600, False),
        (STRONG, 0o400, False),
    ],
)
def test_a_weak_key_is_told_of_and_not_shown(
    project: Path, secret: str, mode: int, *, warned: bool
) -> None:
    (project / "fleet.yaml").write_text(
        (project / "fleet.yaml").read_text()
        + "clients: {acme: {keys: {prod: 'file:acme.key'}, adapters: {}}}\n"
    )
    (project / "acme.key").write_text(f"{secret}\n")
    (project / "acme.key").chmod(mode)
    done = call(project, "validate")
    assert (done.code, "FC1287" in done.text) == (0, warned), done.text
    assert secret not in done.text.replace("shorter", "")


def test_a_weak_secret_of_a_gateway_and_of_the_environment_is_told_of(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_KEY", "hunter2")
    monkeypatch.setenv("GATEWAY_SECRET", "hunter2")
    text = (project / "fleet.yaml").read_text()
    text = text.replace('"127.0.0.1:8080"', '"127.0.0.1:8080", secret: "env:GATEWAY_SECRET"')
    (project / "fleet.yaml").write_text(
        f"{text}clients: {{acme: {{keys: {{prod: 'env:ACME_KEY'}}, adapters: {{}}}}}}\n"
    )
    done = call(project, "validate")
    assert (done.code, done.text.count("FC1287")) == (0, 2), done.text
    assert "hunter2" not in done.text
