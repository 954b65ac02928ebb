"""Runs scripts on a host by the `ssh` program, over a shared connection, or on this machine."""

import asyncio
import hashlib
import os
import re
import shlex
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import ClassVar, Final, NamedTuple

from fleet.errors import (
    EngineError,
    EngineRejectedError,
    EngineTimedOutError,
    EngineUnreachableError,
)
from fleet.hardware import HostSpec
from fleet.names import SSH_DESTINATION
from runtime.engines.remote.client_process import ClientOutput, OutputTooLargeError, run_client
from runtime.files import make_private
from runtime.trust import require_contact


class ScriptResult(NamedTuple):
    """The result of a script that ran to its end on a host."""

    code: int
    """Exit status; 128 and the signal's number for a script killed by a signal."""
    stdout: str
    stderr: str = ""


def framed(script: str, mark: str) -> bytes:
    """Return the input of `sh -s` that runs a script between two marks, with no input of its own.

    The shell reads the parentheses whole before it runs a line: of a script that arrives cut off,
    nothing is run.
    """
    return (
        f"printf '%s\\n' {mark}\n(export LC_ALL=C\n{script}\n) </dev/null\n"
        f"printf '\\n%s %d\\n' {mark} \"$?\"\n"
    ).encode()


def has_begun(stdout: bytes | bytearray, mark: str) -> bool:
    """Say whether a script has begun."""
    return f"{mark}\n".encode() in stdout


def has_ended(stdout: bytes | bytearray, mark: str) -> bool:
    """Say whether the output of a script is whole."""
    tail = bytes(stdout[-len(mark) - 16 :])
    return re.search(rf"\n{mark} \d+\n\Z".encode(), tail) is not None


def unframed(stdout: bytes | bytearray, mark: str) -> ScriptResult | None:
    """Return the output between the marks, with the status; None: the script has no end.

    What the login shell's start files print before the first mark is dropped.
    """
    pattern = rf"{mark}\n(.*)\n{mark} (\d+)\n\Z".encode()
    found = re.search(pattern, bytes(stdout), re.DOTALL)
    return found and ScriptResult(int(found[2]), found[1].decode(errors="replace"))


_UNKNOWN = re.compile(r"^No (\S+) host key is known for (\S+) and you", re.MULTILINE)
_FINGERPRINT = re.compile(r"^debug1: Server host key: \S+ (SHA256:\S+)", re.MULTILINE)
_CHANGED_KEY = "REMOTE HOST IDENTIFICATION HAS CHANGED"
_SENT = re.compile(r"key sent by the remote host is\n(SHA256:\S+?)\.?$", re.MULTILINE)
_REMOVAL = re.compile(r"^\s*(ssh-keygen (?:-f .+ )?-R .+)$", re.MULTILINE)
_DENIED = re.compile(r"Permission denied|Too many authentication failures", re.MULTILINE)
# Not `Connection closed by`, which may as well end a session.
_BEFORE_SESSION = re.compile(
    r"^(ssh: |kex_|banner |Host key verification failed|No \S+ host "
    r"key|command-line|.*: Permission denied \(|.*: Bad |.*Too many authentication|Unable to nego)",
    re.MULTILINE,
)


def is_unknown_key(complaint: str) -> bool:
    """Say whether `ssh` refused a host with an unknown key."""
    return _UNKNOWN.search(complaint) is not None


def fingerprint_in(debug: str) -> str:
    """Return the fingerprint of the host's key in the output of `ssh -v`; may be empty."""
    return next(reversed(_FINGERPRINT.findall(debug)), "")


def never_began(complaint: str) -> bool:
    """Say whether `ssh` failed before a command could begin on the host."""
    return _BEFORE_SESSION.search(complaint) is not None


def last_line(complaint: str) -> str:
    """Return the last line that `ssh` wrote, without its full stop."""
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it gave no reason"


def connection_error(
    address: str, complaint: str, words: Sequence[str], fingerprint: str = ""
) -> EngineUnreachableError:
    """Return the error of a connection that was not made.

    `words` are the command line of `ssh` up to the host, for commands to paste.
    """
    ssh = shlex.join(words)
    if found := _UNKNOWN.search(complaint):
        return EngineUnreachableError.of(
            "FC4091",
            "Host key is unknown",
            f"`{address}` shows the {found[1]} key {fingerprint or 'of an unknown fingerprint'}, "
            "and no known_hosts file has it. Nothing was sent.",
            hint="Compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the box's "
            "console; if it is the same, accept it.",
            command=f"{ssh} -o StrictHostKeyChecking=ask {address} true",
        )
    if _CHANGED_KEY in complaint:
        sent, removal = _SENT.search(complaint), _REMOVAL.search(complaint)
        return EngineUnreachableError.of(
            "FC4092",
            "Host key has changed",
            f"`{address}` shows the key {sent[1] if sent else 'of another host'}, and known_hosts "
            "has another: the box was installed anew, or another machine answers. Nothing was "
            "sent.",
            hint="If the box was installed anew, forget the old key and accept the new one.",
            command=removal[1] if removal else f"ssh-keygen -R {shlex.quote(address)}",
        )
    if _DENIED.search(complaint):
        return EngineUnreachableError.of(
            "FC4093",
            "Host refuses the key",
            f"`{address}`: {last_line(complaint)}. No key of this user's agent or ssh "
            "configuration opens it; a password is never asked for.",
            hint="Put the public key into the box's authorized_keys, or load the key: `ssh-add`.",
            command=f"{ssh} -o BatchMode=no {address} true",
        )
    return EngineUnreachableError.of(
        "FC4090",
        "Host cannot be reached by SSH",
        f"`{address}`: {last_line(complaint)}. What runs there is unknown.",
        hint="Servers go on without it. See whether the box is up and the network is there.",
        command=f"{ssh} -v {address} true",
    )


def unknown_outcome(address: str, why: str) -> EngineTimedOutError:
    """Return the error of a command that began on a host and whose end was not heard of."""
    return EngineTimedOutError.of(
        "FC4094",
        "Outcome on a host is unknown",
        f"`{address}`: {why}. The command may or may not have taken effect there, and may still "
        "run.",
        hint="Running the command again is safe.",
    )


SESSIONS: Final = 8
"""Upper bound of sessions at the same time on a host; sshd's own `MaxSessions` is 10."""
SCRIPT_S: Final = 30.0
"""Upper bound of a script, unless the caller names another. Above the 14 s in which a silent drop
of packets is noticed. Seconds."""
_CONNECT_S: Final = 30.0
"""Upper bound of the making of a connection, through jump hosts too. Seconds."""
MOST: Final = 4 << 20
"""Upper bound of a script's output, unless the caller names another. Bytes."""
_FIXED: Final = ("BatchMode=yes", "StrictHostKeyChecking=yes", "RemoteCommand=none",
                 "PermitLocalCommand=no", "LogLevel=ERROR")  # fmt: skip
"""Options that neither a declaration nor the operator's configuration changes."""
_USUAL: Final = ("ConnectTimeout=5", "ServerAliveInterval=3", "ServerAliveCountMax=2",
                 "ControlPersist=300")  # fmt: skip
"""Options that the caller may change. A connection without traffic is kept for 5 minutes."""


def control_folder() -> Path:
    """Return the folder of the sockets of shared connections, the user's alone; made if need be.

    Short, since the path of a socket has 107 bytes at most.
    """
    given = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(given) if given else Path.home() / ".local" / "state"
    make_private(folder / "fleetctl-ssh")
    return folder / "fleetctl-ssh"


@dataclass(eq=False)
class SshConnection:
    """A host that is reached by `ssh`, as the operator's own configuration says.

    The connection is shared by all commands of this user on this machine. It outlives the command,
    so that the next one need not connect.
    """

    address: str
    """`host`, `user@host` or `user@host:port`; the host may be an alias of the configuration."""
    options: tuple[str, ...] = ()
    """Further words for `ssh`, such as `-i FILE`."""
    folder: Path | None = None
    """Of the socket; None: `control_folder`."""
    is_here: ClassVar[bool] = False
    """Whether the host is this machine: servers read its files where they are."""
    _sessions: asyncio.Semaphore = field(
        default_factory=partial(asyncio.Semaphore, SESSIONS), init=False
    )
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _socket: str = field(default="none", init=False)
    _is_open: bool = field(default=False, init=False)
    _is_ours: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        parts = SSH_DESTINATION.fullmatch(self.address)
        if parts is None:
            detail = f"`{self.address}` is not `user@host:port`; user and port may be left out."
            raise EngineError.of("FC4090", "Host cannot be reached by SSH", detail)
        user, host = f"{parts['user']}@" if parts["user"] else "", parts["host"] or parts["ip"]
        self._target = f"{user}{host}"
        self._port = ("-p", parts["port"]) if parts["port"] else ()
        host = f"[{host}]" if parts["ip"] else host
        self.rsync_host = f"{user}{host}"
        """The host in the words of `rsync`, beside `words`."""
        self._trusted_as = f"ssh://{host}:{parts['port'] or 22}"

    def words(self, *further: str) -> tuple[str, ...]:
        """Return the command line of `ssh` up to the host, over the shared connection."""
        # Forwards are ours to ask for (by -O), not the configuration's.
        cleared = () if "-O" in further else ("ControlMaster=auto", "ClearAllForwardings=yes")
        own = (*_FIXED, f"ControlPath={self._socket}", *cleared)
        return ("ssh", *further, "-Txa", *_options(own), *self._port, *self.options,
                *_options(_USUAL))  # fmt: skip

    async def run(
        self, script: str, *, timeout_s: float = SCRIPT_S, most: int = MOST
    ) -> ScriptResult:
        """Run a script of POSIX shell on the host in the user's home folder; return its result.

        A script that fails is a result, whatever its status. No more than `SESSIONS` run at once;
        the others wait, and their time does not count.

        Raises:
            EngineUnreachableError: FC4090 to FC4093, the host was not reached and nothing was run;
                FC1270, the host is not trusted.
            EngineTimedOutError: FC4094, the end of the script was not heard of.
            EngineRejectedError: FC4095, more than `most` bytes of output; the script was cut off.
        """
        mark = f"fleetctl-{token_hex(12)}"
        async with self.session():
            try:
                output = await run_client(
                    self._shell("/bin/sh -s"),
                    stdin=framed(script, mark),
                    timeout_s=timeout_s,
                    most=most,
                    is_whole=partial(has_ended, mark=mark),
                )
            except TimeoutError:
                self._is_open = False
                raise unknown_outcome(self.address, f"no end within {timeout_s:g} s") from None
            except OutputTooLargeError:
                raise EngineRejectedError.of(
                    "FC4095",
                    "Answer of a host is too large",
                    f"`{self.address}` gave more than {most} bytes, and the rest was not read.",
                    hint="Often a login script prints on every connection. What it prints:",
                    command=f"ssh {self.address} true",
                ) from None
        result = unframed(output.stdout, mark)
        if result is not None:
            return result._replace(stderr=output.complaint)
        self._is_open = False
        is_ours = output.code in (None, 255)  # else it is that of the login shell
        if not has_begun(output.stdout, mark) and (not is_ours or never_began(output.complaint)):
            output.stderr = output.stderr or output.stdout
            raise await self._failure(output)
        raise unknown_outcome(self.address, f"the connection ended: {last_line(output.complaint)}")

    async def command(self, script: str) -> tuple[str, ...]:
        """Connect, and return a command line that runs a script on the host for the caller to read.

        Raises:
            EngineUnreachableError: as `run`.
        """
        await self._open()
        return self._shell(f"exec /bin/sh -c {shlex.quote(script)}")

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        """Give a session of the host, with the connection open; for `rsync` too."""
        await self._open()
        async with self._sessions:
            yield

    async def forward(self, local: int, remote: int, at: str = "127.0.0.1") -> None:
        """Forward a port of `at`, an address of this machine, to a port of the host's loopback.

        A forward ends with the shared connection: after a reboot, and after 5 minutes without
        traffic. Asking again is safe.

        Raises:
            EngineError: FC4096, the port here is taken or the host forbids forwards; or as `run`.
        """
        words = ("-O", "forward", "-L", _forward(at, local, remote))
        await self._open()
        if (done := await self._client(*words)).code:
            self._is_open = False  # the connection may have ended meanwhile
            await self._open()
            done = await self._client(*words)
        if done.code:
            raise EngineError.of(
                "FC4096",
                "Port cannot be forwarded",
                f"{at}:{local} to port {remote} of `{self.address}`: {last_line(done.complaint)}.",
                hint="The port here is taken, or the box's sshd forbids forwards "
                "(`AllowTcpForwarding`, `permitopen`).",
            )

    async def cancel_forward(self, local: int, remote: int, at: str = "127.0.0.1") -> None:
        """End a forward; an absent one is fine."""
        await self._client("-O", "cancel", "-L", _forward(at, local, remote))

    async def host_name(self) -> str:
        """Return the name or IP address at which the host is reached; empty: through others."""
        resolved = (await self._client("-G")).stdout.decode(errors="replace").splitlines()
        words = dict(line.partition(" ")[::2] for line in resolved)
        return "" if {"proxyjump", "proxycommand"} & {*words} else words.get("hostname", "")

    async def close(self, *, end_shared: bool = False) -> None:
        """Forget the connection; `end_shared` ends it, with its forwards, if it was opened here."""
        if end_shared and self._is_ours:
            await self._client("-O", "exit")
        self._is_open = self._is_ours = False

    async def _open(self) -> None:
        """Connect, unless a shared connection is there.

        First and alone: many connections at the same time are refused by sshd (`MaxStartups`).
        """
        async with self._opening:
            if self._is_open:
                return
            require_contact(self._trusted_as, ssh=True)
            if self._socket == "none":
                resolved = await self._client("-G")
                if resolved.code:
                    raise await self._failure(resolved)
                # Of the whole configuration: a changed host name must not find the old host.
                name = hashlib.sha256(resolved.stdout).hexdigest()[:16]
                self._socket = str((self.folder or control_folder()) / name)
            if (await self._client("-O", "check")).code:
                made = await self._client(command=("true",))
                if made.code:
                    raise await self._failure(made)
                self._is_ours = True
            self._is_open = True

    def _shell(self, command: str) -> tuple[str, ...]:
        return (*self.words(), "--", self._target, command)

    async def _client(self, *words: str, command: tuple[str, ...] = ()) -> ClientOutput:
        try:
            return await run_client(
                (*self.words(*words), "--", self._target, *command), timeout_s=_CONNECT_S, most=MOST
            )
        except (TimeoutError, OutputTooLargeError):
            self._is_open = False
            return ClientOutput(
                stderr=bytearray(f"no answer in {_CONNECT_S:g} s".encode()), code=255
            )

    async def _failure(self, output: ClientOutput) -> EngineUnreachableError:
        fingerprint = ""
        if is_unknown_key(output.complaint):
            words = ("-v", "-o", "ControlPath=none", "-o", "LogLevel=DEBUG1")
            fingerprint = fingerprint_in((await self._client(*words)).complaint)
        pasted = ("ssh", *self._port, *self.options)
        return connection_error(self._target, output.complaint, pasted, fingerprint)


def _options(options: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for option in options for word in ("-o", option))


def _forward(at: str, local: int, remote: int) -> str:
    return f"{at}:{local}:127.0.0.1:{remote}"


@dataclass(eq=False)
class ThisMachine(SshConnection):
    """This machine in the place of a host: a shell runs the scripts, and no port is forwarded."""

    address: str = "this machine"
    is_here: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Keep the address, which is no destination of `ssh`."""
        self._target, self._port = self.address, ()

    async def forward(self, local: int, remote: int, at: str = "127.0.0.1") -> None:
        """Do nothing: servers listen here."""

    async def _open(self) -> None:
        pass

    def _shell(self, command: str) -> tuple[str, ...]:
        return ("/bin/sh", "-c", f"cd && {command}")


def connection_to(host: HostSpec) -> SshConnection:
    """Return the machine that has the units and copies of a host, in which scripts see them."""
    return SshConnection(host.address) if host.engine == "ssh" else ThisMachine()
