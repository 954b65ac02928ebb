"""The command of a host's forward, as systemd would keep it, to a real box."""

import socket
import subprocess
import time

import pytest

from fleet.hardware import DeviceSpec, HostSpec
from fleet.hosts import forward_unit
from tests.beds.boxes import BoxBed

pytestmark = pytest.mark.boxes
SSHD = DeviceSpec("gpu0", "rtx4090_24g", 24 << 30, 0, port=22)
"""A device whose port answers without a server: sshd speaks first."""


def banner(address: str) -> bytes:
    with socket.create_connection((address, SSHD.port), timeout=5) as found:
        return found.recv(8)


def until_forwarded(ssh: subprocess.Popen[bytes], address: str) -> bytes:
    while ssh.poll() is None:
        try:
            return banner(address)
        except ConnectionRefusedError:
            time.sleep(0.01)
    raise AssertionError(ssh.communicate())


def test_the_ports_of_a_box_answer_here_until_the_connection_ends(bed: BoxBed) -> None:
    box = HostSpec("box1", "ssh", (SSHD,), address="box1")  # an alias of the configuration
    program, *words = forward_unit(box, "/").arguments
    command = [program, "-F", str(bed.folder / "ssh_config"), *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as ssh:
        assert until_forwarded(ssh, box.reached_at) == b"SSH-2.0-"
        # A second one finds the ports taken, ends, and would be tried again by systemd.
        second = subprocess.run(command, capture_output=True, check=False, timeout=30)
        assert second.returncode == 255
        assert b"Could not request local forwarding" in second.stderr
        ssh.terminate()
    with pytest.raises(ConnectionRefusedError):
        banner(box.reached_at)
