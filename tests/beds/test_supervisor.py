"""A host of engine `local` with `supervisor: systemd`, on a box where fleetctl runs itself.

The fake server stands in for vLLM.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.beds.boxes import SCRIPT, BoxBed
from tests.beds.engine_bench import BOX, UNITS, clean_box

pytestmark = pytest.mark.boxes
ROOT = Path(__file__).parents[2]
HOME = Path(os.environ.get("BED", ""), "boxes", BOX, "root", "home", "fleetctl")
SERVER = "tiny-laptop-cpu0"
UNIT = f"fleetctl-{SERVER}"
FLEETCTL = f"cd fleet && {sys.executable} -m fleetctl"
PYTHON = "python: ../../.venv-vllm/bin/python"
NOT_ALL = 4
"""Exit code of an apply of which steps were not done."""
DECLARED = "    supervisor: systemd\n"


@dataclass(frozen=True, slots=True)
class Machine:
    """A box that runs fleetctl for its own servers."""

    bed: BoxBed

    def sh(self, script: str, expect: int = 0) -> str:
        """Run a script as the operator there; return all that it prints."""
        words = [str(SCRIPT), "ssh", BOX, f"timeout 170 sh -c {shlex.quote(script)} 2>&1"]
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout

    def fleetctl(self, words: str, expect: int = 0) -> str:
        return self.sh(f"{FLEETCTL} {words}", expect)

    def declare(self, before: str, after: str) -> None:
        path = HOME / "fleet" / "fleet.yaml"
        text = path.read_text("utf-8")
        assert before in text
        path.write_text(text.replace(before, after), "utf-8")

    def processes(self) -> list[str]:
        """The numbers of the servers' processes."""
        return self.sh("pgrep -f [f]ake_vllm.server || :").split()

    def as_declared(self) -> None:
        """Nothing is to be done."""
        assert "No changes" in self.fleetctl("plan --detailed-exitcode")

    def restart(self) -> None:
        """Apply a plan for whose restart clients have no answers meanwhile, with consent."""
        plan = json.loads(self.sh(f"{FLEETCTL} plan --format json 2>&-"))
        command = plan["needs_decision"]["command"]
        self.fleetctl(command.removeprefix("fleetctl ").replace("TEXT", "announced"))
        self.fleetctl("apply --auto --yes")
        self.as_declared()

    def reboot(self) -> None:
        """Reboot, and return once the box answers after it; meanwhile ssh is cut or refused."""
        asks = [str(SCRIPT), "ssh", BOX, "cat /proc/sys/kernel/random/boot_id"]

        def boot() -> str:
            return subprocess.run(asks, check=False, capture_output=True, text=True).stdout

        before = boot()
        self.bed.do("reboot", BOX)
        while boot() in ("", before):
            continue

    def comes_back(self) -> None:
        """The server answers for its versions, which are then loaded again."""
        resolved = "8 adapters are answered by the resolver"
        self.sh(f"until ({FLEETCTL} drift) | grep -q '{resolved}'; do sleep 0.2; done")
        self.fleetctl("reconcile --once")
        self.as_declared()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A box with the quickstart fleet, its gateway, and one server kept by systemd."""
    made = Machine(BoxBed(Path(os.environ["BED"]), tmp_path_factory.mktemp("s")))
    made.sh("pkill -f [r]untime.gateway.process || :")  # of a run that was killed
    clean_box(made.bed)
    shutil.rmtree(HOME / "fleet", ignore_errors=True)
    shutil.copytree(ROOT / "examples" / "quickstart", HOME / "fleet",
                    ignore=shutil.ignore_patterns(".fleetctl"))  # fmt: skip
    for path in (HOME / "fleet", *(HOME / "fleet").rglob("*")):
        os.chown(path, HOME.stat().st_uid, HOME.stat().st_gid)
    made.declare(f"    {PYTHON}\n", f"    python: ../fake/bin/python\n{DECLARED}")
    made.fleetctl("key create --all")
    made.fleetctl("gateway start")
    yield made
    made.bed.do("on", BOX)
    stop = f"{FLEETCTL} gateway stop; {sys.executable} -m fleetctl server stop --all"
    made.sh(f"({stop}); chmod -R u+w fleet; rm -rf fleet")
    clean_box(made.bed)


def test_apply_writes_a_unit_that_every_command_knows(machine: Machine) -> None:
    machine.fleetctl("apply --auto --yes")
    machine.as_declared()
    (row,) = json.loads(machine.fleetctl("server list --format json"))
    assert (row["server"], row["state"]) == (SERVER, "running")
    assert machine.processes() == [str(row["pid"])]
    unit = machine.sh(f"cat {UNITS}/{UNIT}.service")
    assert "Restart=always" in unit
    assert "WorkingDirectory=/home/fleetctl/fleet\n" in unit
    assert "/home/fleetctl/fleet/models/base/tiny" in unit
    assert machine.sh(f"systemctl --user is-enabled {UNIT}") == "enabled\n"
    assert f"Started {UNIT}" in machine.fleetctl(f"server logs {SERVER}")
    follow = f"cd fleet && timeout 5 {sys.executable} -m fleetctl server logs -f {SERVER}"
    assert f"Started {UNIT}" in machine.sh(follow, 124)
    assert f"{UNIT}.service" not in machine.fleetctl("compile --target systemd")


def test_a_killed_server_comes_back_with_its_versions(machine: Machine) -> None:
    before = machine.processes()
    machine.sh(f"kill -9 {before[0]}")
    machine.comes_back()
    assert len(machine.processes()) == 1
    assert machine.processes() != before


def test_another_supervisor_is_a_restart_that_leaves_one_process(machine: Machine) -> None:
    machine.declare(DECLARED, "")
    plan = machine.fleetctl("plan")
    assert "supervisor" in plan
    assert f"server/{SERVER}" in plan
    before = machine.processes()
    machine.restart()
    assert machine.sh(f"ls {UNITS}/{UNIT}.service || :").startswith("ls: cannot")
    after = machine.processes()
    assert len(after) == 1
    assert after != before
    machine.declare(
        "    python: ../fake/bin/python\n", f"    python: ../fake/bin/python\n{DECLARED}"
    )
    assert "supervisor" in machine.fleetctl("plan")
    machine.restart()
    (row,) = json.loads(machine.fleetctl("server list --format json"))
    assert machine.processes() == [str(row["pid"])]
    assert machine.sh(f"systemctl --user is-active {UNIT}") == "active\n"


def test_a_reboot_brings_the_server_back_without_a_command(machine: Machine) -> None:
    machine.reboot()
    machine.sh("until pgrep -f [f]ake_vllm.server; do sleep 0.1; done")
    machine.fleetctl("gateway start")
    machine.comes_back()


def test_a_unit_changed_by_hand_is_noted_and_lost_lingering_too(machine: Machine) -> None:
    machine.sh(f"sed -i s/RestartSec=1/RestartSec=2/ {UNITS}/{UNIT}.service")
    machine.bed.do("root", BOX, "mv /var/lib/systemd/linger/fleetctl /root/")
    plan = machine.fleetctl("plan")
    machine.bed.do("root", BOX, "mv /root/fleetctl /var/lib/systemd/linger/")
    assert f"Unit {UNIT}.service of host laptop was changed by hand" in plan
    assert "sudo loginctl enable-linger fleetctl" in plan


def test_stop_removes_the_unit_and_a_start_that_fails_is_taken_back(machine: Machine) -> None:
    machine.fleetctl("apply --auto --yes")
    machine.fleetctl(f"server stop {SERVER}")
    assert machine.processes() == []
    machine.sh("touch ~/fail")
    assert "no room for the base" in machine.fleetctl("apply --auto --yes", NOT_ALL)
    machine.sh(f"rm ~/fail; ! ls {UNITS}/{UNIT}.service")
    machine.sh(f"printf '[Service]\\nExecStart=/bin/sleep 9\\n' >{UNITS}/{UNIT}.service")
    assert "FC4101" in machine.fleetctl("apply --auto --yes", NOT_ALL)
    machine.sh(f"rm {UNITS}/{UNIT}.service")


def test_without_a_user_manager_the_error_says_what_is_missing(machine: Machine) -> None:
    manager = "user@$(id -u fleetctl)"
    machine.bed.do("root", BOX, f"systemctl mask --runtime --now {manager}")
    try:
        told = machine.fleetctl("apply --auto --yes", NOT_ALL)
    finally:
        machine.bed.do("root", BOX, f"systemctl unmask --runtime {manager}")
    assert "FC4100" in told
    assert "loginctl enable-linger" in told
