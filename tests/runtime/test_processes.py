"""What the kernel tells of processes and sockets of this machine."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.processes import listening, marked_by, open_ports

FAMILIES = {"IPv4": (socket.AF_INET, "127.0.0.1")}
IPV6 = Path("/proc/net/if_inet6")
if IPV6.exists() and "lo" in IPV6.read_text("ascii").split():
    FAMILIES["IPv6"] = (socket.AF_INET6, "::1")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_port_is_open_while_a_socket_listens_and_a_connection_opens_none(family: str) -> None:
    kind, address = FAMILIES[family]
    with socket.socket(kind) as server, socket.socket(kind) as client:
        server.bind((address, 0))
        port = server.getsockname()[1]
        assert port not in open_ports()
        server.listen()
        client.connect((address, port))
        taken = client.getsockname()[1]
        inode = os.fstat(server.fileno()).st_ino
        assert open_ports()[port] == {f"socket:[{inode}]"}
        assert taken not in open_ports()
        assert listening(port) == (os.getpid(),)
    assert port not in open_ports()


def test_the_kernel_answers_with_the_listening_sockets_of_its_table() -> None:
    with socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0)):
        ours = {os.getpid()}
        table = Path("/proc/net/tcp").read_text("ascii")
        listed = {
            int(found, 16) for found in re.findall(r":([0-9A-F]{4}) 00000000:0000 0A ", table)
        }
        own = {port for port in listed if {*listening(port)} & ours}
        assert len(own) >= 2
        assert own <= {*open_ports()}


def test_a_process_is_found_by_a_whole_variable_of_its_environment() -> None:
    command = [sys.executable, "-c", "input('begun\\n')"]
    marked = {**os.environ, "FLEETCTL_TEST_MARK": "one=1 \u00fc"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=marked) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"begun\n"  # the kernel shows its environment now
            assert marked_by("FLEETCTL_TEST_MARK", "one=1 \u00fc") == (child.pid,)
            assert marked_by("FLEETCTL_TEST_MARK", "one=1") == ()
            assert marked_by("TEST_MARK", "one=1 \u00fc") == ()
        finally:
            child.communicate(b"\n")
    assert marked_by("FLEETCTL_TEST_MARK", "one=1 \u00fc") == ()
