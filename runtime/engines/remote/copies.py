"""Brings folders to the store of a host, where their names are digests; lists and deletes them."""

import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

from fleet.errors import EngineError, EngineUnreachableError
from runtime.engines.adapters_file import FILE
from runtime.engines.launch_records import RECORD
from runtime.engines.protocol import Direct
from runtime.engines.remote.box import SERVERS
from runtime.engines.remote.client_process import run_client
from runtime.engines.remote.connection import SCRIPT_S, SshConnection
from runtime.engines.remote.units import done
from runtime.engines.store import (
    OTHER_BYTES,
    SourceFolder,
    check_limit_s,
    check_script,
    fault_of,
    faulty_files,
    fetch_limit_s,
    fetch_script,
    finish_script,
    not_fetched,
    other_bytes,
)
from runtime.state_folder import name_of_copy

_SPARE: Final = 1 << 20
"""Room that a copy leaves on the host's disk. Bytes."""
_PREPARE: Final = """\
mkdir -p {store} && cd {store} && pwd -P || exit
test -d {name} && exit
mkdir -p {name}.part && df -Pk . | awk 'NR == 2 {{ print $4 }}' && du -sk {name}.part | cut -f 1
"""
_SILENCE_S: Final = 30
"""Upper bound of a transfer's time without a byte. Seconds."""
_PROGRESS: Final = re.compile(rb"(\d+)\s+\d+%")


@dataclass(frozen=True, slots=True)
class SshTransport:
    """The way into the store of a host, which needs `rsync` as this machine does."""

    ssh: SshConnection
    store: str
    """Folder of the copies there, absolute or relative to the user's home."""
    report: Callable[[int, int], None] = lambda *_: None
    """Called with the bytes that are there and those of the folder."""
    direct: Direct | None = None
    """Where the host may fetch files itself; the files that it cannot are brought from here."""
    tell: Callable[[str], None] = lambda _: None
    """Called with the reason why the files are brought from here after all."""
    suspects: ClassVar = "the host's disk or memory"

    @property
    def place(self) -> str:
        """The host, as the end of a copy's path in texts."""
        return f" of `{self.ssh.address}`"

    async def bring(self, source: SourceFolder, number: int = 1) -> str:
        """Bring a folder into the store unless present there; return the copy's path.

        Files arrive in `<name>.part`, are hashed there, written to disk and made read-only, and
        then get their name. What arrived before an interruption is used again. `number`: of the
        copy's path: 1, or more where earlier copies were damaged.

        Raises:
            EngineUnreachableError: FC4097, the transfer was interrupted; or as `SshConnection.run`.
            EngineError: FC4098, the host's disk lacks room; FC4099, other bytes arrived.
        """
        name, before = name_of_copy(source.digest, number), ""
        path, is_there = await self._prepare(source, name)
        part, faulty = f"{path}.part", list[str]()
        files = await self.direct(source.digest) if self.direct is not None and not is_there else ()
        for attempt in ("fetch", "send", "send again") if files else ("send", "send again"):
            if is_there:
                return path
            try:
                if attempt == "fetch":
                    script = fetch_script(files, source, part)
                    fetched = await self.ssh.run(script, timeout_s=SCRIPT_S + fetch_limit_s(source))
                else:
                    await self._send(source, part, again=attempt == "send again", before=before)
                script = check_script(source, part) + finish_script(name)
                ended = await self.ssh.run(script, timeout_s=SCRIPT_S + check_limit_s(source))
                if ended.code not in (0, OTHER_BYTES):
                    raise not_brought(self.ssh, source, ended.stderr, before)
            except EngineUnreachableError:  # or another run has brought the folder meanwhile
                if not (await self._prepare(source, name))[1]:
                    raise
                return path
            is_there, faulty = ended.code == 0, faulty_files(ended.stdout)
            if attempt == "fetch" and not is_there:
                before = not_fetched(self.ssh.address, ended.stdout, fetched.stderr)
                self.tell(before)
                is_there = (await self._prepare(source, name))[1]  # or there is no room left
        if is_there:
            return path
        raise other_bytes(self, source, part, faulty)

    async def fault(self, source: SourceFolder, path: str) -> tuple[str, list[str]]:
        """Hash a copy; return its fault, and the files that have the fault."""
        script = check_script(source, path)
        ended = await self.ssh.run(script, timeout_s=SCRIPT_S + check_limit_s(source))
        return fault_of(ended.code, ended.stdout), faulty_files(ended.stdout)

    async def _prepare(self, source: SourceFolder, name: str) -> tuple[str, bool]:
        """Return the path of a copy on the host, and whether the copy is there.

        Raises:
            EngineError: FC4098, the disk has no room for what is missing of the copy.
        """
        ended = await self.ssh.run(_PREPARE.format(store=shlex.quote(self.store), name=name))
        path, *sizes = ended.stdout.splitlines() or [""]
        if ended.code or not path:
            if "No space left on device" in ended.stderr:
                raise no_room(self.ssh, source, path or self.store, "no further file has room")
            raise not_brought(self.ssh, source, ended.stderr)
        free, arrived = (int(size) << 10 for size in sizes or ("0", "0"))
        missing = source.size + _SPARE - free - arrived
        if sizes and missing > 0:
            why = f"{mib(free)} are free, {mib(missing)} more are needed"
            raise no_room(self.ssh, source, path, why)
        return f"{path}/{name}", not sizes

    async def _send(self, source: SourceFolder, part: str, *, again: bool, before: str) -> None:
        """Send a folder into a folder of a host.

        `again`: also files whose size and time are those of the source. `before`: what kept the
        host from fetching the files itself, for errors.

        Raises:
            EngineUnreachableError: FC4097, the transfer was interrupted.
            EngineError: FC4098, the host's disk lacks room.
        """

        def note(stdout: bytearray) -> bool:
            done = progress_in(stdout)
            if done is not None:
                self.report(done, source.size)
            return False

        words = (
            "rsync", "--copy-links", "--times", "--perms", "--chmod=D755,F644", "--inplace",
            "--protect-args", "--files-from=-", "--from0", "--info=progress2",
            "--no-human-readable", f"--timeout={_SILENCE_S}",
            *(["--ignore-times"] if again else []), "--rsh", shlex.join(self.ssh.words()),
            f"{source.folder}/", f"{self.ssh.rsync_host}:{part}/",
        )  # fmt: skip
        names = "\0".join(source.names).encode()
        async with self.ssh.session():
            ended = await run_client(words, stdin=names, timeout_s=None, is_whole=note)
        if "No space left on device" in ended.complaint:
            raise no_room(self.ssh, source, part, "it became full meanwhile")
        if ended.code:
            raise not_brought(self.ssh, source, ended.complaint, before)


def progress_in(stdout: bytearray) -> int | None:
    """Take the last number of bytes that `rsync` printed out of its output; None: no whole one."""
    found = [*_PROGRESS.finditer(bytes(stdout))]
    if not found:
        return None
    del stdout[: found[-1].end()]
    return int(found[-1][1])


def mib(size: int) -> str:
    """Return a size in words."""
    return f"{size / 2**20:.1f} MiB"


def no_room(ssh: SshConnection, source: SourceFolder, part: str, why: str) -> EngineError:
    """Return the error of a folder that the disk of a host has no room for."""
    return EngineError.of(
        "FC4098",
        "No room on a host",
        f"`{source.folder}` has {mib(source.size)}, and the disk of `{part}` on `{ssh.address}` "
        f"lacks room: {why}. Servers there go on.",
        hint="Make room on the host, then run the command again: what arrived is used again. What "
        "no server needs there is deleted by:",
        command="fleetctl gc",
    )


def not_brought(
    ssh: SshConnection, source: SourceFolder, complaint: str, before: str = ""
) -> EngineError:
    """Return the error of a folder that did not arrive; `before`: as of `_send`."""
    first = next((line for line in complaint.splitlines() if line.strip()), "no reason was given")
    fetched = f" Before, {before}." if before else ""
    hint = "Run the command again: what arrived is used again. `rsync` is needed here and there."
    if before:
        hint = f"Mend its source, or the way from there to the host. {hint}"
    return EngineUnreachableError.of(
        "FC4097",
        "Files did not arrive on a host",
        f"`{source.folder}` to `{ssh.address}`: {first.strip().rstrip('.')}.{fetched}",
        hint=hint,
    )


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
