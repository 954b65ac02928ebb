"""Lists and deletes the copies in the store of a host, or in the shared folder of Ray's nodes.

`grep` reads a copy's name from its input: it would find the name in its own arguments.
"""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from runtime.engines.adapters_file import FILE
from runtime.engines.launch_records import RECORD
from runtime.engines.ssh.box import SERVERS
from runtime.engines.ssh.connection import SshConnection
from runtime.engines.ssh.units import done

_NAME: Final = re.compile(r"([0-9a-f]{64})(-\d+)?(\.part)?")
_DELETION_S: Final = 300.0
"""Upper bound of the deletion of a host's copies. Seconds."""
_LIST: Final = f"""\
cd {{store}} 2>/dev/null || exit 0
units="$HOME/.config/systemd/user $HOME/.config/containers/systemd"
shared="servers/*/*/{RECORD} servers/*/*/{FILE}"
for copy in *; do
  test -d "$copy" || continue
  printf %s "$copy" | grep -rqsFf - $units $shared ~/{SERVERS} /proc/[0-9]*/cmdline
  used=$?
  echo "$copy $used $(($(date +%s) - $(stat -c %Z "$copy"))) $(du -sk "$copy" | cut -f 1)"
done
:
"""
_DELETE: Final = """\
cd {store} && for copy in {names}; do chmod -R u+w "$copy" && rm -rf "$copy" || exit; done
"""


@dataclass(frozen=True, slots=True)
class HostCopy:
    """A copy in the store of a host, or the part of a copy that has arrived."""

    name: str
    digest: str
    is_used: bool
    """Whether a unit, a record, a file of adapters or a process there names the copy.

    Of whichever fleet. The records of Ray's servers lie beside the copies; others are units.
    """
    age_s: int
    """Seconds since the copy got its name."""
    size: int
    """Bytes on the disk."""


async def list_copies(ssh: SshConnection, store: str) -> list[HostCopy]:
    """Return the copies in a host's store; folders with other names are left out.

    Raises:
        EngineError: as `SshConnection.run`.
    """
    ended = await ssh.run(_LIST.format(store=shlex.quote(store)))
    rows = (line.split() for line in done(ssh, "cannot list its store", ended).stdout.splitlines())
    return [
        HostCopy(row[0], found[1], row[1] == "0", int(row[2]), int(row[3]) << 10)
        for row in rows
        if (found := _NAME.fullmatch(row[0]))
    ]


async def delete_copies(ssh: SshConnection, store: str, names: Iterable[str]) -> None:
    """Delete copies from a host's store.

    Raises:
        EngineError: FC4100, a copy cannot be deleted; or as `SshConnection.run`.
    """
    script = _DELETE.format(store=shlex.quote(store), names=" ".join(names))
    ended = await ssh.run(script, timeout_s=_DELETION_S)
    done(ssh, "cannot delete copies", ended)
