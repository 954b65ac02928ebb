"""Brings folders to the store of a host, where a folder's name is its digest."""

import asyncio
import hashlib
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final, Self

from fleet.errors import EngineError, EngineUnreachableError
from runtime.engines.protocol import Direct, Report
from runtime.engines.ssh.client_process import run_client
from runtime.engines.ssh.connection import SCRIPT_S, SshConnection
from runtime.engines.ssh.fetching import fetch
from runtime.store_paths import manifest_of, name_of_copy

_SPARE: Final = 1 << 20
"""Room that a copy leaves on the host's disk. Bytes."""
_SILENCE_S: Final = 30
"""Upper bound of a transfer's time without a byte. Seconds."""
_REPORT_S: Final = 5.0
"""Time between two reports of a transfer. Seconds."""
_HASHED: Final = 50e6
"""Lower bound of the speed at which a host reads and hashes, for the deadline. Bytes a second."""
_OTHER_BYTES: Final = 5
_PATHS: Final = 3
"""Upper bound of the paths that are tried for a folder whose copies are damaged."""
_PROGRESS: Final = re.compile(rb"(\d+)\s+\d+%")

_PREPARE: Final = """\
mkdir -p {store} && cd {store} && pwd -P || exit
test -d {name} && exit
mkdir -p {name}.part && df -Pk . | awk 'NR == 2 {{ print $4 }}' && du -sk {name}.part | cut -f 1
"""
_CHECK: Final = """\
cd {folder} || exit
sha256sum --check --quiet --strict <<'{digest}' || exit 5
{manifest}{digest}
test "$(find . -type f | wc -l)" -eq {count} || exit 5
"""
_FINISH: Final = """\
find . -type f -exec chmod 444 {{}} + -exec sync {{}} + &&
find . -type d -exec chmod 555 {{}} + -exec sync {{}} + && cd .. || exit
mv -T {name}.part {name} || {{ chmod -R u+w {name}.part; rm -rf {name}.part; test -d {name}; }} &&
sync .
"""
"""Another run may have brought the same folder meanwhile."""


@dataclass(frozen=True, slots=True)
class SourceFolder:
    """The files of a folder of this machine, to be brought to hosts."""

    folder: Path
    manifest: str
    """The files with their digests, in the format of `sha256sum`."""
    size: int
    """Sum of the files. Bytes."""

    @classmethod
    def of(cls, folder: Path, names: Iterable[str], *, links: bool = False) -> Self:
        """Hash the files of these names, relative to the folder; `links` are followed if allowed.

        Raises:
            OSError: as `manifest_of`.
        """
        chosen = sorted(names)
        size = sum((folder / name).stat().st_size for name in chosen)
        return cls(folder, manifest_of(folder, chosen, links=links), size)

    @property
    def digest(self) -> str:
        """Digest of the folder; an adapter version's is that of `fleet.lock`."""
        return hashlib.sha256(self.manifest.encode()).hexdigest()

    @property
    def names(self) -> list[str]:
        """Names of the files."""
        return [line.partition("  ")[2] for line in self.manifest.splitlines()]


def now_and_then(host: str, source: SourceFolder, report: Report) -> Callable[[int, int], None]:
    """Return the report of a transfer, which is made every `_REPORT_S` seconds."""
    told = monotonic()

    def tell(done: int, size: int) -> None:
        nonlocal told
        if monotonic() - told >= _REPORT_S:
            told = monotonic()
            report(f"{source.folder.name} to {host}", done, size)

    return tell


async def bring_folder(
    ssh: SshConnection,
    source: SourceFolder,
    store: str,
    number: int = 1,
    report: Callable[[int, int], None] = lambda *_: None,
    direct: Direct | None = None,
) -> str:
    """Bring a folder into a host's store unless present there; return the copy's path.

    The copy is complete or absent: files arrive in `<name>.part`, are hashed there, written to disk
    and made read-only, and then get their name. What arrived before an interruption is used again.
    A copy that is there is not hashed: see `fault_of_copy`.

    Args:
        ssh: the host, which needs `rsync` as this machine does.
        source: the folder here.
        store: folder of the copies there, absolute or relative to the user's home.
        number: of the copy's path: 1, or more where earlier copies were damaged.
        report: called with the bytes that are there and those of the folder.
        direct: where the host may fetch the files itself; what it cannot is brought from here.

    Raises:
        EngineUnreachableError: FC4097, the transfer was interrupted; or as `SshConnection.run`.
        EngineError: FC4098, the host's disk lacks room; FC4099, other bytes arrived.
    """
    name = name_of_copy(source.digest, number)
    path, is_there = await _prepare(ssh, source, store, name)
    part = f"{path}.part"
    files = await direct(source.digest) if direct is not None and not is_there else ()
    for attempt in ("fetch", "send", "send again") if files else ("send", "send again"):
        if is_there:
            return path
        try:
            if attempt == "fetch":
                await fetch(ssh, files, part, source.size)
            else:
                await _transfer(ssh, source, part, report, again=attempt == "send again")
            script = _check(source, part) + _FINISH.format(name=name)
            ended = await ssh.run(script, timeout_s=_deadline_s(source))
            if ended.code not in (0, _OTHER_BYTES):
                raise _not_brought(ssh, source, ended.stderr)
        except EngineUnreachableError:  # or another run has brought the folder meanwhile
            if not (await _prepare(ssh, source, store, name))[1]:
                raise
            return path
        is_there = ended.code == 0
    if is_there:
        return path
    raise _other_bytes(ssh, source, part)


async def bring_good(
    ssh: SshConnection,
    source: SourceFolder,
    store: str,
    number: int,
    report: Callable[[int, int], None],
    direct: Direct | None = None,
) -> str:
    """Bring a folder to a host, hash the copy there even if present, and return the copy's path.

    A copy with other bytes is left to the servers that may read it: the next path is taken.

    Raises:
        EngineError: as `bring_folder`.
    """
    for fresh in range(number, number + _PATHS):
        path = await bring_folder(ssh, source, store, fresh, report, direct)
        if not await fault_of_copy(ssh, source, path):
            return path
    raise _other_bytes(ssh, source, path)


async def source_of(folder: Path, *, links: bool = False) -> SourceFolder:
    """Hash the files of a folder, without its folders; `links`: as `SourceFolder.of`.

    Raises:
        EngineError: FC4097, a file cannot be read.
    """

    def hashed() -> SourceFolder:
        names = [path.name for path in folder.iterdir() if path.is_file()]
        return SourceFolder.of(folder, names, links=links)

    try:
        return await asyncio.to_thread(hashed)
    except OSError as error:
        detail = f"`{error.filename or folder}` cannot be read: {error.strerror or error}."
        hint = "Let your user read the folder and its files, then run the command again."
        raise EngineError.of(
            "FC4097", "Files did not arrive on a host", detail, hint=hint
        ) from None


async def fault_of_copy(ssh: SshConnection, source: SourceFolder, path: str) -> str:
    """Hash a copy on the host; return its fault as the end of a sentence; empty: it is good.

    Raises:
        EngineError: as `SshConnection.run`.
    """
    ended = await ssh.run(_check(source, path), timeout_s=_deadline_s(source))
    if ended.code in (0, _OTHER_BYTES):
        return "has other bytes than its digest" if ended.code else ""
    return "is gone, or cannot be read"


async def _prepare(
    ssh: SshConnection, source: SourceFolder, store: str, name: str
) -> tuple[str, bool]:
    """Return the path of a copy on the host, and whether the copy is there."""
    ended = await ssh.run(_PREPARE.format(store=shlex.quote(store), name=name))
    path, *sizes = ended.stdout.splitlines() or [""]
    if ended.code or not path:
        raise _not_brought(ssh, source, ended.stderr)
    if sizes and (int(sizes[0]) + int(sizes[1])) << 10 < source.size + _SPARE:
        raise _no_room(ssh, source, f"{int(sizes[0]) >> 10} MiB are free")
    return f"{path}/{name}", not sizes


async def _transfer(
    ssh: SshConnection,
    source: SourceFolder,
    part: str,
    report: Callable[[int, int], None],
    *,
    again: bool,
) -> None:
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
        raise _no_room(ssh, source, "it became full meanwhile")
    if ended.code:
        raise _not_brought(ssh, source, ended.complaint)


def progress_in(stdout: bytearray) -> int | None:
    """Take the last number of bytes that `rsync` printed out of its output; None: no whole one."""
    found = [*_PROGRESS.finditer(bytes(stdout))]
    if not found:
        return None
    del stdout[: found[-1].end()]
    return int(found[-1][1])


def _check(source: SourceFolder, path: str) -> str:
    return _CHECK.format(
        folder=shlex.quote(path),
        digest=source.digest,
        manifest=source.manifest,
        count=len(source.names),
    )


def _deadline_s(source: SourceFolder) -> float:
    return SCRIPT_S + source.size / _HASHED


def _other_bytes(ssh: SshConnection, source: SourceFolder, path: str) -> EngineError:
    return EngineError.of(
        "FC4099",
        "Files on a host have other bytes",
        f"The copy of `{source.folder}` at `{path}` of `{ssh.address}` has other bytes than its "
        "digest, again and again: files change here, or the host's disk or memory is faulty.",
        hint="See that no training writes into the folder, and check the library:",
        command="fleetctl adapter verify",
    )


def _no_room(ssh: SshConnection, source: SourceFolder, why: str) -> EngineError:
    return EngineError.of(
        "FC4098",
        "No room on a host",
        f"`{source.folder}` has {source.size >> 20} MiB, and the store's disk of `{ssh.address}` "
        f"lacks room: {why}. Servers there go on.",
        hint="Make room on the host, then run the command again: what arrived is used again. What "
        "no server needs there is deleted by:",
        command="fleetctl gc",
    )


def _not_brought(ssh: SshConnection, source: SourceFolder, complaint: str) -> EngineError:
    first = next((line for line in complaint.splitlines() if line.strip()), "no reason was given")
    return EngineUnreachableError.of(
        "FC4097",
        "Files did not arrive on a host",
        f"`{source.folder}` to `{ssh.address}`: {first.strip().rstrip('.')}.",
        hint="Run the command again: what arrived is used again. `rsync` is needed here and there.",
    )
