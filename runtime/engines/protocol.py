"""The contract of every engine, fake and real alike."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from fleet.hardware import HostSpec
from fleet.names import Address
from fleet.resources import Server, State

Report = Callable[[str, int, int], None]
"""Called with folder and host of a transfer, the bytes that are there, and all bytes."""


class DirectFile(NamedTuple):
    """A file of a version that another machine may read at its source."""

    name: str
    url: str
    """With TLS. It may hold a right that ends soon, and is shown nowhere."""
    right: str
    """Value of the header `Authorization`, which ends soon; empty: none is needed."""


Direct = Callable[[str], Awaitable[Sequence[DirectFile]]]
"""Returns the files of a version by its digest; empty: another machine may not read them."""


@dataclass(frozen=True, slots=True)
class HostSetup:
    """A declared host, with all that an engine needs of the project."""

    host: HostSpec
    root: Path
    """Folder of the project; declared paths are relative to it."""
    state_dir: Path
    """The state folder."""
    fleet_name: str = ""
    """Put into the environment of started processes, with `fleet_id`, to recognise them by."""
    servers_secret: str = ""
    """Reference of the secret of the servers' keys; empty: servers have none."""
    bases: Collection[str] = ()
    """Names of the declared bases."""
    report: Report = lambda *_: None
    fleet_id: str = ""
    direct: Direct | None = None
    """Where a host that declares `fetch` finds versions itself."""

    @property
    def folder(self) -> Path:
        """Folder for the files of an engine that fleetctl does not ship; perhaps not there yet."""
        return self.state_dir / "extensions" / self.host.name


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's reply to a prompt."""

    text: str
    model: str
    """Name of the model that answered, by the server."""
    fingerprint: str
    """The server's `system_fingerprint`; carries the flags' digest on managed servers."""
    completion_tokens: int


class Observer(Protocol):
    """The reading half of an engine: a caller with an `Observer` alone cannot change a server."""

    async def observe(self, only: str = "") -> State:
        """Return the servers and adapters of this host; a server that does not answer is unknown.

        A managed server that is known to have exited is absent, not unknown. `only`: the server
        that the caller looks for, so that no other is asked; empty: all.
        """
        ...

    async def close(self) -> None:
        """Release connections; servers go on running."""
        ...


class Engine(Observer, Protocol):
    """Operations on the servers of a host.

    Every method is idempotent: calling again after a lost answer is safe.
    Failures are `EngineError`s, never the HTTP library's own.
    """

    async def check_start(self, server: Server) -> None:
        """Refuse a start that cannot succeed, such as on a port that is taken; changes nothing."""
        ...

    async def start(self, server: Server) -> None:
        """Start a server with its flags and return once the server answers."""
        ...

    async def stop(self, server: str) -> None:
        """Stop a server, letting running requests finish; a stopped server is fine."""
        ...

    async def load(self, server: str, adapter: str, source: str) -> None:
        """Load an adapter from the folder `source` (a path on this machine).

        Returns once the adapter can serve. Listed already from the same path is fine; listed from
        another path is `EngineRejectedError`: a name never changes its bytes in place.
        """
        ...

    async def unload(self, server: str, adapter: str) -> None:
        """Unload an adapter and verify the list of models; an absent adapter is fine."""
        ...

    async def keep_for_restart(self, live: State, kept: Collection[Address]) -> None:
        """Let a restart bring back the live adapters that are kept, and no others.

        For the end of an apply, when all is as declared: what a killed run left half done, and what
        was retired while a restarted server did not list it, ends here.
        """
        ...

    async def complete(
        self, server: str, model: str, prompt: str, max_tokens: int = 64
    ) -> Completion:
        """Return the greedy answer to a text."""
        ...
