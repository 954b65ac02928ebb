"""Keys and TLS of servers: which key goes to which server, and to no other host."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fleet.environment import server_key
from runtime.secrets import read_secret, secret_unreadable
from runtime.server_tls import TlsToServer
from runtime.trust import UntrustedError, authorization, require_bound


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
