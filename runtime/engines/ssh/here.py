"""Runs scripts for units on this machine itself, for hosts of engine `local`."""

from collections.abc import Iterator
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from typing import ClassVar, Final

from fleet.hardware import HostSpec
from fleet.vllm import unit_name
from runtime.engines.ssh.connection import SshConnection
from runtime.engines.ssh.server_units import SECTION
from runtime.files import read_text

_LINGER: Final = Path("/var/lib/systemd/linger")
"""Folder of the users whose units run without a login."""


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


def has_units(host: HostSpec) -> bool:
    """Say whether servers of a host are units, or may be left from an earlier declaration."""
    if host.engine == "ssh" or host.supervisor:
        return True
    found = unit_file("").parent.glob(unit_name(f"*-{host.name}-*"))
    return host.engine == "local" and any(SECTION in read_text(path) for path in found)


def unit_file(server: str) -> Path:
    """Return the file of a server's unit on this machine."""
    return Path.home() / ".config" / "systemd" / "user" / unit_name(server)


def linger_notes() -> Iterator[str]:
    """Yield a note where units of this user end with its last login."""
    if _LINGER.parent.is_dir() and not (_LINGER / getuser()).exists():
        yield (
            f"Units of {getuser()} end with its last login and do not start with the machine: "
            f"sudo loginctl enable-linger {getuser()}"
        )
