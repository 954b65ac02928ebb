"""Sends folders to hosts by `rsync`, and words the errors of folders that do not arrive."""

import re
import shlex
from collections.abc import Callable
from typing import Final

from fleet.errors import EngineError, EngineUnreachableError
from runtime.engines.copy_scripts import listed
from runtime.engines.source_folder import SourceFolder
from runtime.engines.ssh.client_process import run_client
from runtime.engines.ssh.connection import SshConnection

_SILENCE_S: Final = 30
"""Upper bound of a transfer's time without a byte. Seconds."""
_PROGRESS: Final = re.compile(rb"(\d+)\s+\d+%")


async def send(
    ssh: SshConnection,
    source: SourceFolder,
    part: str,
    report: Callable[[int, int], None],
    *,
    again: bool,
    before: str,
) -> None:
    """Send a folder into a folder of a host.

    `again`: also files whose size and time are those of the source. `before`: what kept the host
    from fetching the files itself, for errors.

    Raises:
        EngineUnreachableError: FC4097, the transfer was interrupted.
        EngineError: FC4098, the host's disk lacks room.
    """

    def note(stdout: bytearray) -> bool:
        done = progress_in(stdout)
        if done is not None:
            report(done, source.size)
        return False

    words = (
        "rsync", "--copy-links", "--times", "--perms", "--chmod=D755,F644", "--inplace",
        "--protect-args", "--files-from=-", "--from0", "--info=progress2", "--no-human-readable",
        f"--timeout={_SILENCE_S}", *(["--ignore-times"] if again else []),
        "--rsh", shlex.join(ssh.words()),
        f"{source.folder}/", f"{ssh.rsync_host}:{part}/",
    )  # fmt: skip
    names = "\0".join(source.names).encode()
    async with ssh.session():
        ended = await run_client(words, stdin=names, timeout_s=None, is_whole=note)
    if "No space left on device" in ended.complaint:
        raise no_room(ssh, source, part, "it became full meanwhile")
    if ended.code:
        raise not_brought(ssh, source, ended.complaint, before)


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


def other_bytes(
    ssh: SshConnection, source: SourceFolder, path: str, files: list[str]
) -> EngineError:
    """Return the error of a copy with other bytes, in the named files."""
    where = f" in {listed(files)}" if files else ""
    return EngineError.of(
        "FC4099",
        "Files on a host have other bytes",
        f"The copy of `{source.folder}` at `{path}` of `{ssh.address}` has other bytes than its "
        f"digest{where}, again and again: files change here, or the host's disk or memory is "
        "faulty.",
        hint="See that no training writes into the folder, and check the library:",
        command="fleetctl adapter verify",
    )


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
    """Return the error of a folder that did not arrive; `before`: as of `send`."""
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
