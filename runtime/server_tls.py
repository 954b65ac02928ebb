"""Speaks TLS to servers by declared files, and says which key goes to which server.

Who a server is, no file of the checkout says: a branch may come from anybody, and the server gets
its key and the clients' prompts.
"""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fleet.environment import server_key
from fleet.hardware import ServerTls
from runtime.files import read_plain
from runtime.secrets import read_secret, secret_unreadable
from runtime.trust import UntrustedError, authorization, require_bound

_LARGEST: Final = 1 << 20
"""Upper bound of a PEM file. Bytes."""
_Stamp = tuple[tuple[int, int, int], ...]


class TlsFilesError(OSError):
    """The files for TLS to a server cannot be used; the text says which, and why."""


class TlsToServer:
    """TLS to a server, by files that are read anew once they have changed."""

    def __init__(self, files: ServerTls, root: Path) -> None:
        """Prepare; nothing is read. `root`: the project, which holds none of the files."""
        self.files = files
        self._root = root
        self._stamp: _Stamp = ()
        self._context: ssl.SSLContext | None = None

    @property
    def name(self) -> str | None:
        """The name that the server's certificate must have; None: the host of the URL."""
        return self.files.name or None

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection.

        Files that have changed and cannot be used, as in the middle of a rotation, leave the
        context as it was.

        Raises:
            TlsFilesError: the files were never usable.
        """
        stamp = tuple(_stamp(path) for path in self._paths())
        if self._context is None or stamp != self._stamp:
            try:
                self._context, self._stamp = self._load(), stamp
            except TlsFilesError:
                if self._context is None:
                    raise
        return self._context

    def _paths(self) -> Iterator[str]:
        yield from filter(None, (self.files.ca, self.files.certificate, self.files.key))

    def _load(self) -> ssl.SSLContext:
        files, path = self.files, ""
        try:
            for path in self._paths():
                self._require_outside(Path(path))
                read_plain(Path(path), _LARGEST)
            path = files.ca
            context = ssl.create_default_context(cafile=path or None)
            if path := files.certificate:
                # A password would be asked for on a terminal.
                context.load_cert_chain(path, files.key or None, password="")
        except ssl.SSLError as error:
            also = f" with `{files.key}`" if path == files.certificate and files.key else ""
            reason = (error.reason or "no PEM file").replace("_", " ").lower()
            raise TlsFilesError(f"`{path}` of its `tls` cannot be used{also}: {reason}") from None
        except TlsFilesError:
            raise
        except OSError as error:
            reason = error.strerror or str(error)
            raise TlsFilesError(f"`{path}` of its `tls` cannot be read: {reason}") from None
        return context

    def _require_outside(self, path: Path) -> None:
        if path.resolve().is_relative_to(self._root.resolve()):
            raise TlsFilesError(f"`{path}` of its `tls` lies in the project")


def _stamp(path: str) -> tuple[int, int, int]:
    """Return inode, time and size of a file, by which an exchange is noticed; zeros: no file."""
    try:
        found = Path(path).stat()
    except OSError:
        return (0, 0, 0)
    return found.st_ino, found.st_mtime_ns, found.st_size


def tls_fault(
    error: BaseException, to_server: TlsToServer | None, *, is_ended: bool = False
) -> str:
    """Return why a connection by TLS failed, in words; empty: TLS is not the reason.

    `is_ended`: the server ended the connection without an answer, whatever the error's causes. A
    server that wants another client certificate does so once the connection stands (TLS 1.3).
    """
    causes = [*_causes(error)]
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            by = "the `ca` of its `tls`" if to_server and to_server.files.ca else "this machine"
            return f"its certificate is not accepted by {by}: {cause.verify_message.rstrip('.')}"
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return f"TLS failed: {cause.reason.replace('_', ' ').lower()}"
    if is_ended or any(isinstance(cause, ConnectionResetError) for cause in causes):
        shown = to_server.files.certificate if to_server else ""
        given = f"shown was `{shown}`" if shown else "none was shown"
        return (
            "it ended the connection without an answer, as servers do that ask for another client "
            f"certificate ({given})"
        )
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def attached_key(root: Path, server: str, url: str, reference: str) -> str:
    """Return the key that an attached server asks for. Nothing is sent.

    Raises:
        UntrustedError: FC1270 to FC1273, the key may not go there, and was not read.
        EngineError: FC4025, the key cannot be read here.
    """
    require_bound(url, reference)  # before the secret is read
    key = read_secret(root, reference)
    if key is None:
        raise secret_unreadable(reference, server)
    authorization(url, reference, key)
    return key


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """The keys that servers ask for; they stand in no routing table."""

    secret: str = field(default="", repr=False)
    """The secret that keys of servers of fleetctl's own are derived from; empty: none have any."""
    attached: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    """Reference and key of attached servers, by server."""
    tls: Mapping[str, TlsToServer] = field(default_factory=dict)
    """TLS to attached servers that declare files for TLS, by server."""

    def key(self, server: str, launch: str, url: str) -> str:
        """Return the key for a server at a URL; empty: none is asked for, or none may go there."""
        if launch:
            return server_key(self.secret, server, launch)
        reference, key = self.attached.get(server, ("", ""))
        if key:
            with suppress(UntrustedError):
                authorization(url, reference, key)
                return key
        return ""


NO_KEYS: Final = ServerKeys()
