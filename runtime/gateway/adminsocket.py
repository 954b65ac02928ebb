"""The file of the admin side's socket: nobody's is taken, and one that is deleted comes back.

The system sweeps folders under `/tmp`, and a gateway that nobody can ask holds up every apply.
"""

import asyncio
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from aiohttp import web

from fleet.errors import FleetError, problem
from runtime.gateway.defects import tell
from runtime.gateway.places import prepare_socket_folder

LOOK_S: Final = 0.5
"""How often the file is looked at."""
_BACKLOG: Final = 128
_OWNER_ONLY: Final = 0o177
_LIVES: Final = "another process listens there"


class AdminSocket:
    """What listens for the admin side of one gateway on this machine."""

    def __init__(self, path: Path, home: Path, runner: web.AppRunner) -> None:
        """Prepare.

        Args:
            path: Of the file.
            home: The gateway's folder; while that is gone, no file is made again.
            runner: What serves the admin side; it has been set up.
        """
        self._path, self._home, self._runner = path, home, runner
        self._listening: asyncio.Server | None = None
        self._file: tuple[int, int] | None = None
        """Device and number of the file that is ours."""
        self._is_told = False

    async def open(self) -> None:
        """Listen.

        Raises:
            FleetError: another process listens there, or the folder cannot be used.
        """
        prepare_socket_folder(self._path)
        if (in_the_way := _clear(self._path)) is not None:
            raise _taken(self._path, in_the_way)
        try:
            bound = self._bound()
        except OSError as error:
            raise _taken(self._path, error.strerror or str(error)) from None
        assert self._runner.server is not None, "the runner is set up"
        loop, before = asyncio.get_running_loop(), self._listening
        self._listening = await loop.create_unix_server(
            self._runner.server, sock=bound, backlog=_BACKLOG
        )
        if before is not None:
            before.close()

    async def keep(self) -> None:
        """Open it again whenever its file is gone, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if _number(self._path) == self._file or not self._home.is_dir():
                continue
            try:
                await self.open()
            except (FleetError, OSError) as error:
                self._tell(f"was gone and cannot be opened again: {error}")
                self._is_told = True
            else:
                self._is_told = False
                self._tell("was gone and is there again.")

    def close(self) -> None:
        """Listen no more, and remove the file if it is ours."""
        if self._file is not None and _number(self._path) == self._file:
            self._path.unlink(missing_ok=True)
        if self._listening is not None:
            self._listening.close()

    def _tell(self, what: str) -> None:
        if not self._is_told:
            tell(f"The admin socket `{self._path}` {what}")

    def _bound(self) -> socket.socket:
        """Return a socket bound to the path, which fails where a file has come meanwhile."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(_OWNER_ONLY)
        try:
            made.bind(os.fspath(self._path))
            made.listen(_BACKLOG)  # at once: one that refuses is taken for a dead one's
        except OSError:
            made.close()
            raise
        finally:
            os.umask(before)
        self._file = _number(self._path)
        made.setblocking(False)
        return made


def _number(path: Path) -> tuple[int, int] | None:
    """Return the device and number of a file; None: there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _clear(path: Path) -> str | None:
    """Remove a socket on which nobody listens; return what else is in the way, if anything is."""
    dead = _number(path)
    if dead is None:
        return None
    if not stat.S_ISSOCK(path.lstat().st_mode):
        return "a file that is no socket is in its place"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            pass
        except OSError as error:
            return _LIVES if isinstance(error, BlockingIOError) else str(error.strerror)
        else:
            return _LIVES
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    path.rename(aside)
    if _number(aside) != dead:  # another gateway has opened it since: it gets it back
        with suppress(FileExistsError):
            path.hardlink_to(aside)
    aside.unlink()
    return None


def _taken(path: Path, why: str) -> FleetError:
    return FleetError(
        problem(
            "FC6007",
            "The gateway cannot listen",
            f"Its admin socket `{path}`: {why}.",
            hint="End what is there, or declare another `admin` on the gateway.",
        )
    )
