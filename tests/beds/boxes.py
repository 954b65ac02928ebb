"""A bed of boxes to test on: hosts of their own address that boot systemd and sshd.

`make proof-boxes` brings it up, runs the tests where the boxes' addresses exist, and powers it off.
`BED` names its folder.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.engines.remote.connection import SshConnection
from runtime.engines.remote.copies import SshTransport
from runtime.engines.store import SourceFolder
from runtime.trust import Trust, dump_trust, trust_path, write_trust

SCRIPT = Path(__file__).parent / "boxes.sh"


@dataclass(frozen=True, slots=True)
class BoxBed:
    """Boxes that are up, and a folder for the sockets of connections to them."""

    folder: Path
    sockets: Path

    def do(self, verb: str, *words: str) -> str:
        """Run a verb of the script; return what it prints."""
        done = subprocess.run([SCRIPT, verb, *words], check=True, capture_output=True, text=True)
        return done.stdout

    def connection(
        self, box: str = "box1", *options: str, sockets: Path | None = None
    ) -> SshConnection:
        """A connection as `fleetctl`; `options` win over those of the bed."""
        words = (*options, "-F", str(self.folder / "ssh_config"))
        return SshConnection(box, words, sockets or self.sockets)

    def until_mended(self, box: str) -> None:
        """Put a box back on its network and return once it answers."""
        self.do("mend", box)
        self.do("on", box)


def missing() -> str | None:
    """Return why there is no bed here; None: there is."""
    if not os.environ.get("BED"):
        return "no bed of boxes: BED is not set"
    if os.geteuid() != 0:
        return "boxes need root"
    pid = Path(os.environ["BED"], "operator.pid")
    if not pid.exists() or subprocess.run([SCRIPT], check=False, capture_output=True).returncode:
        return "the boxes are not up"
    network = Path("/proc", pid.read_text(encoding="ascii").split()[0], "ns", "net")
    if network.readlink() != Path("/proc/self/ns/net").readlink():
        return "the boxes' addresses do not exist here"
    return None


@pytest.fixture
def bed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> BoxBed:
    """The boxes, trusted by the operator; every test has connections of its own."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    trust_path().parent.mkdir(mode=0o700)
    hosts = {f"box{number}:22": () for number in (1, 2)}
    write_trust(trust_path(), dump_trust(Trust(hosts=hosts)), home / "project")
    return BoxBed(Path(os.environ["BED"]), tmp_path_factory.mktemp("s"))


async def fault_of_copy(ssh: SshConnection, source: SourceFolder, path: str) -> str:
    """Hash a copy on a box; return its fault as the end of a sentence; empty: the copy is good."""
    return (await SshTransport(ssh, "").fault(source, path))[0]
