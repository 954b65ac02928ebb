"""A bed of Ray: a head and nodes with own addresses, in network namespaces of this machine.

The head's namespace has a bridge that the nodes hang on. A test that asks for the bed runs in the
head's namespace, as an operator on the head's machine would; other threads of the process stay
outside. All processes end by their numbers, by the namespaces that they are in.
"""

import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.certificates import Authority

REPOSITORY: Final = Path(__file__).parents[2]
RAY: Final = REPOSITORY / ".venv-ray" / "bin" / "ray"
HEAD: Final = "10.93.0.10"
_NEW_NETWORK: Final = 0x40000000


def missing() -> str | None:
    """Return why there is no bed of Ray here; None: there can be one."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "`ip` is not installed"
    return None if RAY.is_file() else "Ray is not installed"


def _do(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class RayBed:
    """A cluster whose head is node 0."""

    name: str
    folder: Path
    """Temporary files, also those of Ray."""
    token: str
    """Empty: the cluster takes jobs from everybody."""
    gpus: int = 0
    """GPUs that a node says it has."""
    authority: "Authority | None" = None
    """Signs the certificates of sources that the nodes' `curl` accepts."""

    @property
    def cluster(self) -> str:
        """URL of the head."""
        return f"http://{HEAD}:8265"

    def address(self, node: int) -> str:
        return f"10.93.0.{10 + node}"

    def namespace(self, node: int) -> str:
        return f"{self.name}-{node}"

    def lay(self, nodes: int) -> None:
        """Make the networks of head and nodes."""
        head = self.namespace(0)
        _do("ip", "netns", "add", head)
        for words in (
            "link set lo up", "link add br0 type bridge", "link set br0 up",
            f"addr add {HEAD}/24 dev br0",
        ):  # fmt: skip
            _do("ip", "-n", head, *words.split())
        for node in range(1, nodes + 1):
            its = self.namespace(node)
            _do("ip", "netns", "add", its)
            for where, words in (
                (its, "link set lo up"),
                (its, f"link add eth0 type veth peer name node{node} netns {head}"),
                (its, f"addr add {self.address(node)}/24 dev eth0"),
                (its, "link set eth0 up"),
                (head, f"link set node{node} master br0 up"),
            ):
                _do("ip", "-n", where, *words.split())

    def start(self, node: int) -> None:
        """Start Ray on a node; node 0 is the head."""
        own = ["--head", "--num-cpus", "0", "--port", "6379", "--include-dashboard", "true",
               "--dashboard-host", HEAD, "--dashboard-port", "8265",
               "--temp-dir", str(self.folder)]  # fmt: skip
        joins = ["--address", f"{HEAD}:6379", "--num-cpus", "1", "--num-gpus", str(self.gpus)]
        variables = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RAY_", "PYTHON", "FLEETCTL_", "VIRTUAL_ENV"))
        }
        variables |= {
            "PATH": f"{RAY.parent}:{os.environ['PATH']}",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token" if self.token else "disabled",
            "RAY_AUTH_TOKEN": self.token,
        }
        words = ["ip", "netns", "exec", self.namespace(node), str(RAY), "start",
                 "--node-ip-address", self.address(node), "--object-store-memory", "80000000",
                 "--disable-usage-stats", *(joins if node else own)]  # fmt: skip
        log = self.folder.with_name(f"{self.folder.name}-{node}.log")
        with log.open("ab") as out:  # the daemons keep a pipe open
            done = subprocess.run(words, env=variables, stdout=out, stderr=out, check=False)
        if done.returncode:
            raise RuntimeError(log.read_text(encoding="utf-8")[-3000:])

    def pids(self, node: int, program: str = "") -> list[int]:
        """Return the processes of a node, of a program alone if it is named."""
        found = map(int, _do("ip", "netns", "pids", self.namespace(node)).split())
        return [pid for pid in found if pid != os.getpid() and program in _command(pid)]

    def kill(self, node: int, program: str = "") -> None:
        """Kill the processes of a node, of a program alone if it is named."""
        for pid in self.pids(node, program):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def cut(self, node: int) -> None:
        """Take a node off the network."""
        _do("ip", "-n", self.namespace(0), "link", "set", f"node{node}", "down")

    def mend(self, node: int) -> None:
        """Put a node back on the network."""
        _do("ip", "-n", self.namespace(0), "link", "set", f"node{node}", "up")

    def end(self, nodes: int) -> None:
        """Kill all processes and remove the networks."""
        for node in range(nodes, -1, -1):
            if Path("/run/netns", self.namespace(node)).exists():
                while self.pids(node):
                    self.kill(node)
                _do("ip", "netns", "del", self.namespace(node))


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@contextmanager
def inside(bed: RayBed) -> Iterator[None]:
    """Let this thread, and the processes that it starts, be in the network of the head."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(path: str) -> None:
        handle = os.open(path, os.O_RDONLY)
        try:
            if libc.setns(handle, _NEW_NETWORK):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
        finally:
            os.close(handle)

    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    enter(f"/run/netns/{bed.namespace(0)}")
    try:
        yield
    finally:
        enter(f"/proc/self/fd/{before}")
        os.close(before)


@contextmanager
def running(nodes: int = 2, *, is_open: bool = False, gpus: int = 0) -> Iterator[RayBed]:
    """Give a cluster that ends with the block, in whose head's network the block runs."""
    # Ray's sockets need a short path.
    folder = Path(tempfile.mkdtemp(prefix="fr", dir="/tmp"))
    token = "" if is_open else secrets.token_hex(32)
    bed = RayBed(folder.name, folder / "r", token, gpus)
    bed.folder.mkdir()
    try:
        bed.lay(nodes)
        for node in range(nodes + 1):
            bed.start(node)
        with inside(bed):
            yield bed
    finally:
        bed.end(nodes)
        shutil.rmtree(folder, ignore_errors=True)
