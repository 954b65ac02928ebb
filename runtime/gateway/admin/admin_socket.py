"""The socket of a gateway's admin side: path, owner, and the HTTP server on it.

A Unix socket lies in the gateway's `run_dir`, outside the state folder, where nothing deletes files
that are old. Where the path is too long for the kernel, a link in `/tmp` leads to the folder; every
caller makes the link anew.
"""

import asyncio
import errno
import hashlib
import os
import socket
import ssl
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from fleet.errors import EngineError, FleetError
from fleet.spec import GatewaySpec
from runtime.files import PRIVATE, PRIVATE_FOLDER, make_private
from runtime.gateway.admin.state_dir import gateway_dir, run_dir

MAX_SOCKET_PATH: Final = 103
"""Upper bound of a Unix socket's path, in bytes: 107 on Linux, 103 on macOS."""
SOCKET: Final = "admin.sock"
KEEP_ALIVE_S: Final = 75
CLOSE_S: Final = 2.0
"""Upper bound in seconds of waiting for running calls when the server closes."""
_BACKLOG: Final = 128
_LINKS = Path("/tmp") / f"fleetctl-{os.getuid()}"  # noqa: S108 (checked to be private)
"""Folder of links to folders whose path is too long, named by hashes of their targets."""


def is_url(admin: str) -> bool:
    """Return whether an admin side is reached over TCP rather than over a Unix socket."""
    return admin.startswith(("http://", "https://"))


def socket_path(state_dir: Path, gateway: GatewaySpec) -> Path:
    """Return the path of a gateway's admin socket; a relative path counts from the project.

    An Envoy listens in the gateway's folder, as does a gateway that an earlier release started.
    """
    state = state_dir.resolve()
    if gateway.admin:
        return state.parent / gateway.admin
    inside = gateway_dir(state, gateway.name) / SOCKET
    is_inside = gateway.kind == "envoy" or inside.exists()
    return inside if is_inside else run_dir(state, gateway.name) / SOCKET


def certificate_path(state_dir: Path, gateway: GatewaySpec) -> Path | None:
    """Return the path of a gateway's certificate, as `socket_path`; None: it has none."""
    return state_dir.resolve().parent / gateway.certificate if gateway.certificate else None


def short_path(path: Path) -> Path:
    """Return a path to a socket that the kernel takes; makes the link that a long path needs.

    Raises:
        EngineError: FC6001, another user could change the link.
    """
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    link = _LINKS / _hash(path.parent)
    with suppress(FileExistsError):
        _LINKS.mkdir(mode=PRIVATE_FOLDER)
    _require_private(_LINKS)
    with suppress(FileExistsError):
        link.symlink_to(path.parent)
    return link / path.name


def reachable_path(path: Path) -> Path:
    """Return the path at which a process may listen on a socket, as `short_path`.

    A gateway of an earlier version has bound a file in `/tmp` where the path is too long.
    """
    short = short_path(path)
    earlier = _LINKS / f"{_hash(path)}.sock"
    return earlier if short != path and not path.exists() and earlier.exists() else short


def _hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def _require_private(folder: Path) -> None:
    status = folder.lstat()
    is_open = bool(stat.S_IMODE(status.st_mode) & 0o077)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or is_open:
        raise EngineError.of(
            "FC6001",
            "The folder of the admin socket is not private",
            f"`{folder}` must be a folder of yours with mode 0700: a user who opens the "
            "socket decides where clients' requests go.",
            hint="Remove it, or declare a short `admin` path on the gateway.",
        )


class AdminServer:
    """The HTTP server of an application on a socket: uvicorn's protocol in the event loop."""

    def __init__(self, app: ASGIApp) -> None:
        self._config = uvicorn.Config(
            app,
            http=HttpToolsProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self._state = ServerState()
        self._listening: asyncio.Server | None = None
        self._path: Path | None = None
        self._file: tuple[int, int] | None = None
        """Device and inode of the bound socket."""

    async def open_unix(self, path: Path, earlier: Path | None = None) -> None:
        """Listen on a Unix socket that its owner alone can open.

        Raises:
            EngineError: as `short_path`.
            FleetError: FC6007, another process listens there, or the path cannot be used.
        """
        try:
            make_private(path.parent)
            short = short_path(path)
            if earlier is not None:
                _remove_dead(short_path(earlier))
            _remove_dead(short)
            bound = _bind(short)
        except OSError as error:
            raise _cannot_listen(str(path), error) from None
        self._path, self._file = path, _file_id(path)
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_unix_server(self._protocol, sock=bound)

    async def open_tcp(self, url: str, certificate: Path | None = None) -> None:
        """Listen at the host and port of a URL, by TLS where there is a certificate with its key.

        Raises:
            FleetError: FC6007, the port or the certificate cannot be used.
        """
        host, _, port = url.partition("://")[2].partition("/")[0].rpartition(":")
        loop = asyncio.get_running_loop()
        try:
            tls = None
            if certificate is not None:
                tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                tls.load_cert_chain(certificate)
            self._listening = await loop.create_server(
                self._protocol, host.strip("[]"), int(port), backlog=_BACKLOG, ssl=tls
            )
        except OSError as error:
            raise _cannot_listen(url, error) from None

    async def close(self) -> None:
        """Stop listening, remove the socket's file unless replaced, end calls after `CLOSE_S`."""
        if self._path is not None and _file_id(self._path) == self._file:
            self._path.unlink(missing_ok=True)
        if self._listening is not None:
            self._listening.close()
        for connection in [*self._state.connections]:
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait([*self._state.tasks], timeout=CLOSE_S)
        for task in self._state.tasks:
            task.cancel()

    def _protocol(self) -> HttpToolsProtocol:
        return HttpToolsProtocol(self._config, self._state, app_state={})


def _bind(path: Path) -> socket.socket:
    """Return a listening socket at a path; fails where another process has made a file there."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(os.fspath(path))
        path.chmod(PRIVATE)  # no connection comes before `listen`
        bound.listen(_BACKLOG)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _file_id(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of a file; None: there is no file."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _remove_dead(path: Path) -> None:
    """Remove a socket on which no process listens, or raise the obstacle as an `OSError`."""
    dead = _file_id(path)
    if dead is None:
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise OSError("a file that is no socket is in its place")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        error = probe.connect_ex(os.fspath(path))
    if error in {0, errno.EAGAIN}:  # the second: too many callers wait there
        raise OSError("another process listens there")
    if error != errno.ECONNREFUSED:
        raise OSError(error, os.strerror(error))
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    path.rename(aside)
    if _file_id(aside) != dead:  # another gateway has bound the path since: it gets the name back
        with suppress(FileExistsError):
            path.hardlink_to(aside)
    aside.unlink()


def _cannot_listen(address: str, error: OSError) -> FleetError:
    return FleetError.of(
        "FC6007",
        "The gateway cannot listen",
        f"Its admin socket `{address}`: {error.strerror or error}.",
        hint="End what is there, or declare another `admin` on the gateway.",
    )
