"""Processes of this machine: told apart from later ones that got the same number."""

import errno
import hashlib
import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from socket import AF_INET, AF_INET6, IPPROTO_TCP, SOCK_RAW, socket

if sys.platform == "linux":
    from socket import AF_NETLINK

_PROC = Path("/proc")
_MACHINE = Path("/etc/machine-id")
_STATE, _SESSION, _START_TIME = 0, 3, 19
"""Fields of `/proc/<pid>/stat` after the parenthesised name."""
_LISTENS = "0A"
"""State of a listening socket in `/proc/net/tcp`."""
_LISTENING_STATES = 1 << int(_LISTENS, 16)
_SOCK_DIAG, _BY_FAMILY, _DUMP, _END = 4, 20, 0x301, 3
"""Numbers of `linux/netlink.h` and `linux/sock_diag.h`: protocol, kind of message, flags, last."""
_HEAD = struct.Struct("=IHHII")
"""Head of a message: length with the head, kind, flags, two numbers that are not used here."""
_PORT, _PORT_AT = struct.Struct("!H"), 20
_INODE, _INODE_AT = struct.Struct("=I"), 84
"""Fields of an answer, and where they begin."""
_LARGEST_ANSWER = 1 << 16
_KERNEL_S = 10


@cache
def machine_id() -> str:
    """Return a digest of the id of this machine, which is not for others; empty: it has none."""
    try:
        own = _MACHINE.read_bytes().strip()
    except OSError:
        own = b""
    return hashlib.sha256(b"fleetctl " + own).hexdigest()[:12] if own else ""


def start_mark(pid: int) -> str | None:
    """Return the mark that tells a process from later processes of its number; None: no process.

    A zombie counts as gone: it serves nothing.
    """
    if _PROC.is_dir():
        fields = _stat(pid)
        return fields[_START_TIME] if fields else None
    state, _, started = _ps(pid, "stat=,lstart=").partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def _ps(pid: int, fields: str) -> str:
    done = subprocess.run(
        ["ps", "-ww", "-o", fields, "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def is_stopped(pid: int) -> bool:
    """Say whether a process is stopped, as by SIGSTOP, and so handles no signal but SIGKILL."""
    return _stat(pid)[_STATE : _STATE + 1] in (["T"], ["t"])


def _stat(pid: int) -> list[str]:
    """Return a live process's fields; empty for a zombie or none."""
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return [] if not fields or fields[_STATE] in "ZX" else fields


def _read(pid: int, file: str) -> str:
    """Return a file of `/proc/<pid>`; empty where the file cannot be read."""
    try:
        return (_PROC / str(pid) / file).read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _pids() -> list[int]:
    with suppress(OSError):
        names = os.listdir(_PROC)  # noqa: PTH208 (paths of all processes cost more than their files)
        return [int(name) for name in names if name.isdecimal()]
    return []


def in_session(leader: int) -> tuple[int, ...]:
    """Return the live processes of a session, sorted; the leader itself may be gone.

    A number is not given to a new process while a session of that number has members.
    """
    same = [str(leader)]
    return tuple(sorted(pid for pid in _pids() if _stat(pid)[_SESSION : _SESSION + 1] == same))


def marked_by(variable: str, value: str) -> tuple[int, ...]:
    """Return the processes whose environment says `variable=value`, sorted.

    Children inherit it, but one that renames itself (vLLM's engine does) may lose it.
    Only those of this user can be seen; without `/proc` none is found.
    """
    pair = os.fsencode(f"{variable}={value}")
    found = (pid for pid in _pids() if pair in _environ(pid).split(b"\0"))
    return tuple(sorted(pid for pid in found if start_mark(pid)))


def _environ(pid: int) -> bytes:
    path = f"{_PROC}/{pid}/environ"
    with suppress(OSError), open(path, "rb", buffering=0) as file:  # noqa: PTH123 (as above)
        return file.read()
    return b""


def started_with(word: str) -> tuple[int, ...]:
    """Return the processes with this word in their command line, sorted; without `/proc` none."""
    return tuple(sorted(pid for pid in _pids() if word in arguments(pid)))


def environment(pid: int) -> dict[str, str]:
    """Return the environment a process was started with; empty where it cannot be seen."""
    pairs = (part.partition("=") for part in _read(pid, "environ").split("\0"))
    return {name: value for name, separator, value in pairs if separator}


def arguments(pid: int) -> tuple[str, ...]:
    """Return a process's argument vector; empty where it cannot be seen."""
    if _PROC.is_dir():
        return tuple(_read(pid, "cmdline").removesuffix("\0").split("\0"))
    return tuple(_ps(pid, "command=").split())


def command_line(pid: int) -> str:
    """Return a process's command line; empty where it cannot be seen."""
    return " ".join(arguments(pid)).strip()


def open_ports() -> dict[int, set[str]]:
    """Return the TCP ports of this machine that a process listens on, with their sockets.

    The kernel is asked for listening sockets alone. Its tables in `/proc`, read where it does not
    answer, list connections too, and cost ten milliseconds of a core.
    """
    ports: dict[int, set[str]] = {}
    try:
        found = [pair for family in (AF_INET, AF_INET6) for pair in _listeners(family)]
    except OSError:
        found = [pair for table in ("tcp", "tcp6") for pair in _listed(table)]
    for port, inode in found:
        ports.setdefault(port, set()).add(f"socket:[{inode}]")
    return ports


def _listeners(family: int) -> Iterator[tuple[int, int]]:
    """Yield ports and inodes of the listening TCP sockets of a family, by sock_diag(7).

    Raises:
        OSError: this kernel does not answer.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    wanted = struct.pack("=BBBxI48x", family, IPPROTO_TCP, 0, _LISTENING_STATES)
    head = _HEAD.pack(_HEAD.size + len(wanted), _BY_FAMILY, _DUMP, 0, 0)
    with socket(AF_NETLINK, SOCK_RAW, _SOCK_DIAG) as link:
        link.settimeout(_KERNEL_S)
        link.send(head + wanted)
        while True:
            answer = memoryview(link.recv(_LARGEST_ANSWER))
            while answer:
                length, kind, *_ = _HEAD.unpack_from(answer)
                if kind == _END:
                    return
                if kind != _BY_FAMILY:
                    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
                (port,) = _PORT.unpack_from(answer, _PORT_AT)
                (inode,) = _INODE.unpack_from(answer, _INODE_AT)
                yield port, inode
                answer = answer[(length + 3) & ~3 :]


def _listed(table: str) -> Iterator[tuple[int, int]]:
    """Yield ports and inodes of the listening sockets of a table of `/proc/net`."""
    with suppress(OSError):
        for line in (_PROC / "net" / table).read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == _LISTENS:
                yield int(local.rpartition(":")[2], 16), int(inode)


def listening(port: int) -> tuple[int, ...]:
    """Return the processes that listen on a TCP port of this machine, sorted.

    Only those of this user can be seen; without `/proc` none is found.
    """
    sockets = open_ports().get(port, set())
    found = set()
    for pid in _pids() if sockets else ():
        with suppress(OSError):
            if any(str(path.readlink()) in sockets for path in (_PROC / f"{pid}/fd").iterdir()):
                found.add(pid)
    return tuple(sorted(found))


def lock_holder(path: Path) -> int | None:
    """Return the process that holds the lock of a file; None: none that this user can see."""
    try:
        inode = str(path.stat().st_ino)
        lines = (_PROC / "locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        kind, _, _, pid, place = line.partition(":")[2].split()[:5]
        if kind == "FLOCK" and place.rpartition(":")[2] == inode and _opened(int(pid), path):
            return int(pid)
    return None


def described_holder(pid: int) -> tuple[str, str, str]:
    """Return the process that holds a lock as the end of a sentence, a hint, and a command."""
    text = f" by process {pid}, `{command_line(pid):.120}`"
    if not is_stopped(pid):
        return text, "See what it waits for.", ""
    hint = "Let it go on: it ends its change, or learns that another run has the lease."
    return f"{text}, which is stopped (SIGSTOP)", hint, f"kill -CONT {pid}"


def _opened(pid: int, path: Path) -> bool:
    with suppress(OSError):
        return any(handle.samefile(path) for handle in (_PROC / f"{pid}/fd").iterdir())
    return False


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal; a process that is gone is fine."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def lines_of(words: Sequence[str]) -> Generator[str, None, None]:
    """Yield the lines of a program's output as they come; the program ends with the caller."""
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, encoding="utf-8", errors="replace"
    ) as program:
        assert program.stdout is not None
        try:
            yield from program.stdout
        finally:
            program.terminate()


def raise_file_limit() -> None:
    """Raise the process's limit on open files as far as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS allows less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
