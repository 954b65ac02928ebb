"""Brings folders to the store of a host, where a folder's name is its digest."""

import shlex
from collections.abc import Callable
from typing import Final

from fleet.errors import EngineUnreachableError
from runtime.engines.copy_scripts import (
    OTHER_BYTES,
    check_limit_s,
    check_script,
    fault_of,
    faulty_files,
    fetch_limit_s,
    fetch_script,
    finish_script,
    not_fetched,
)
from runtime.engines.protocol import Direct
from runtime.engines.source_folder import SourceFolder
from runtime.engines.ssh.connection import SCRIPT_S, SshConnection
from runtime.engines.ssh.sending import mib, no_room, not_brought, other_bytes, send
from runtime.store_paths import name_of_copy

_SPARE: Final = 1 << 20
"""Room that a copy leaves on the host's disk. Bytes."""
_PATHS: Final = 3
"""Upper bound of the paths that are tried for a folder whose copies are damaged."""

_PREPARE: Final = """\
mkdir -p {store} && cd {store} && pwd -P || exit
test -d {name} && exit
mkdir -p {name}.part && df -Pk . | awk 'NR == 2 {{ print $4 }}' && du -sk {name}.part | cut -f 1
"""


def _tell_nothing(_: str) -> None:
    """Tell of no fault."""


async def bring_folder(
    ssh: SshConnection,
    source: SourceFolder,
    store: str,
    number: int = 1,
    report: Callable[[int, int], None] = lambda *_: None,
    direct: Direct | None = None,
    tell: Callable[[str], None] = _tell_nothing,
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
        tell: called with the reason why the files are brought from here after all.

    Raises:
        EngineUnreachableError: FC4097, the transfer was interrupted; or as `SshConnection.run`.
        EngineError: FC4098, the host's disk lacks room; FC4099, other bytes arrived.
    """
    name, before = name_of_copy(source.digest, number), ""
    path, is_there = await _prepare(ssh, source, store, name)
    part, faulty = f"{path}.part", list[str]()
    files = await direct(source.digest) if direct is not None and not is_there else ()
    for attempt in ("fetch", "send", "send again") if files else ("send", "send again"):
        if is_there:
            return path
        try:
            if attempt == "fetch":
                script = fetch_script(files, source, part)
                fetched = await ssh.run(script, timeout_s=SCRIPT_S + fetch_limit_s(source))
            else:
                await send(ssh, source, part, report, again=attempt == "send again", before=before)
            script = check_script(source, part) + finish_script(name)
            ended = await ssh.run(script, timeout_s=SCRIPT_S + check_limit_s(source))
            if ended.code not in (0, OTHER_BYTES):
                raise not_brought(ssh, source, ended.stderr, before)
        except EngineUnreachableError:  # or another run has brought the folder meanwhile
            if not (await _prepare(ssh, source, store, name))[1]:
                raise
            return path
        is_there, faulty = ended.code == 0, faulty_files(ended.stdout)
        if attempt == "fetch" and not is_there:
            before = not_fetched(ssh.address, ended.stdout, fetched.stderr)
            tell(before)
            is_there = (await _prepare(ssh, source, store, name))[1]  # or there is no room left
    if is_there:
        return path
    raise other_bytes(ssh, source, part, faulty)


async def bring_good(
    ssh: SshConnection,
    source: SourceFolder,
    store: str,
    number: int,
    report: Callable[[int, int], None],
    direct: Direct | None = None,
    tell: Callable[[str], None] = _tell_nothing,
) -> str:
    """Bring a folder to a host, hash the copy there even if present, and return the copy's path.

    A copy with other bytes is left to the servers that may read it: the next path is taken.

    Raises:
        EngineError: as `bring_folder`.
    """
    for fresh in range(number, number + _PATHS):
        path = await bring_folder(ssh, source, store, fresh, report, direct, tell)
        fault, faulty = await _fault_of(ssh, source, path)
        if not fault:
            return path
        tell(f"the copy at `{path}` of `{ssh.address}` {fault}")
    raise other_bytes(ssh, source, path, faulty)


async def fault_of_copy(ssh: SshConnection, source: SourceFolder, path: str) -> str:
    """Hash a copy on the host; return its fault as the end of a sentence; empty: it is good.

    Raises:
        EngineError: as `SshConnection.run`.
    """
    return (await _fault_of(ssh, source, path))[0]


async def _fault_of(ssh: SshConnection, source: SourceFolder, path: str) -> tuple[str, list[str]]:
    """Return the fault of a copy, and the files that have the fault."""
    script = check_script(source, path)
    ended = await ssh.run(script, timeout_s=SCRIPT_S + check_limit_s(source))
    return fault_of(ended.code, ended.stdout), faulty_files(ended.stdout)


async def _prepare(
    ssh: SshConnection, source: SourceFolder, store: str, name: str
) -> tuple[str, bool]:
    """Return the path of a copy on the host, and whether the copy is there.

    Raises:
        EngineError: FC4098, the disk has no room for what is missing of the copy.
    """
    ended = await ssh.run(_PREPARE.format(store=shlex.quote(store), name=name))
    path, *sizes = ended.stdout.splitlines() or [""]
    if ended.code or not path:
        if "No space left on device" in ended.stderr:
            raise no_room(ssh, source, path or store, "no further file has room")
        raise not_brought(ssh, source, ended.stderr)
    free, arrived = (int(size) << 10 for size in sizes or ("0", "0"))
    missing = source.size + _SPARE - free - arrived
    if sizes and missing > 0:
        raise no_room(ssh, source, path, f"{mib(free)} are free, {mib(missing)} more are needed")
    return f"{path}/{name}", not sizes
