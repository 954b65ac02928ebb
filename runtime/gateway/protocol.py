"""What apply, rollback, drain and observe need from gateways, and the values that they get."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from fleet.errors import EngineError
from fleet.resources import GatewayFault
from runtime.gateway.table import RoutingTable

READ_S = 2.0
"""Upper bound in seconds of one reading from a gateway's admin side."""
ACKNOWLEDGE_S = 15.0
"""Upper bound in seconds from handing a table to a gateway until the gateway serves the table."""

OnServer = tuple[str, str]
"""Server and full adapter name."""


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """The table that a gateway serves, and how servers answer there."""

    revision: int
    digest: str
    servers: Mapping[str, str] = field(default_factory=dict)
    """`up`, `resting` or `down` by server."""
    missing: tuple[tuple[str, str], ...] = ()
    """(full adapter name, server): versions that a server should hold and said not to hold."""


@dataclass(frozen=True, slots=True)
class GatewayLoad:
    """Requests of a gateway that have not ended."""

    in_flight: Counter[OnServer]
    """Requests that were sent to a server."""
    queued: Counter[OnServer] = field(default_factory=Counter)
    """Requests that wait, counted for each server that may get them."""
    waiting: int = 0
    """Requests that wait, each counted once."""


@dataclass(frozen=True, slots=True)
class ObservedShare:
    """A version's share of an alias: as wanted, and as requests were split."""

    alias: str
    adapter: str
    percent: int
    requests: int
    """Since the split was last changed."""
    since: str


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """What a gateway shows; fields are None where the gateway does not run or does not answer."""

    name: str
    revision: int | None = None
    digest: str | None = None
    in_flight: int | None = None
    problem: str = ""
    """Why the gateway does not answer; empty: the gateway answers or does not run."""
    waiting: int = 0
    shares: tuple[ObservedShare, ...] = ()
    servers: tuple[tuple[str, str], ...] = ()
    """Server and `up`, `resting` or `down`."""
    missing: tuple[tuple[str, str], ...] = ()
    """(full adapter name, server): versions that a server should hold and said not to hold."""


@dataclass(frozen=True, slots=True)
class Note:
    """A remark about a gateway, or about the routing table."""

    what: str
    """Predicate of the gateway, such as `lags behind`; a whole sentence where it is of the table.
    """
    gateway: str = ""
    """Name of the gateway; empty: the note is about the table."""
    runs: bool = True
    answers: bool = True
    """Whether the gateway shows its table."""

    def __str__(self) -> str:
        """Return the note as text."""
        return f"gateway {self.gateway} {self.what}" if self.gateway else self.what


@dataclass(frozen=True, slots=True)
class Published:
    """The outcome of a publication."""

    acknowledged: tuple[str, ...]
    """Gateways that serve the table now, sorted."""
    absent: tuple[str, ...]
    """Gateways that do not run, sorted; a gateway reads the file when it starts."""
    failures: tuple[tuple[str, EngineError], ...] = ()
    """Gateways that run and refused the table or did not answer, with the error."""
    waited_s: float = 0.0
    """Seconds spent on failures alone, after the last acknowledgement."""
    unwritten: str = ""
    """Why the file could not be written, so that gateways alone have the table; empty: it was."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """Return the notes on gateways that do not run and on a file that was not written."""
        absent = tuple(not_running(name) for name in self.absent)
        return (*absent, _only_served(self.unwritten)) if self.unwritten else absent


def not_running(name: str) -> Note:
    """Return the note that a gateway does not run."""
    return Note(
        "is not running and answers no client; it reads the routes when it starts: "
        f"fleetctl gateway start {name}",
        name,
        runs=False,
        answers=False,
    )


def lagging(
    name: str, config: GatewayConfig | EngineError | None, newest: RoutingTable
) -> Iterator[Note]:
    """Yield the note on how a gateway's table differs from the newest, if it does.

    Args:
        name: Name of the gateway.
        config: What the gateway serves, why it does not answer, or None: it does not run.
        newest: The newest table that is known.
    """
    match config:
        case None:
            if newest.aliases:
                yield not_running(name)
        case EngineError():
            why = f"does not answer: {config.diagnostics[0].detail}"
            yield Note(why, name, answers=False)
        case GatewayConfig(revision=revision, digest=digest):
            if digest == newest.digest:
                return
            what = f"lags behind: it serves revision {revision}, the newest is {newest.revision}"
            if revision == newest.revision:
                what = (
                    "serves another table than the file holds, both of revision "
                    f"{revision}: the file was changed by hand"
                )
            yield Note(what, name)


def address_unknown(server: str) -> Note:
    """Return the note that the routes name a server without an address."""
    return Note(f"the routes say no address of server {server}: what is sent to it fails")


def _only_served(why: str) -> Note:
    return Note(
        f"the routes are served and could not be written to their file ({why}): a gateway that "
        "starts anew goes back to the ones before. Once that is mended: fleetctl reconcile --once"
    )


class GatewayClient(Protocol):
    """One gateway's admin side. One implementation per kind of gateway.

    Raises from every method:
        EngineUnreachableError: no connection, or no answer in time (`EngineTimedOutError`).
        EngineRejectedError: an answer that is no success.
    """

    async def config(self, timeout_s: float = READ_S) -> GatewayConfig:
        """Return which table the gateway serves."""
        ...

    async def load(self) -> GatewayLoad:
        """Return the requests that have not ended."""
        ...

    async def shares(self) -> tuple[ObservedShare, ...]:
        """Return the split of aliases that have more than one version."""
        ...

    async def table(self) -> RoutingTable:
        """Return the table that the gateway serves."""
        ...

    async def serve(self, table: RoutingTable, timeout_s: float = ACKNOWLEDGE_S) -> tuple[int, str]:
        """Hand over a table; return revision and digest of the table that is served then."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class TableReader(Protocol):
    """The methods of `Gateways` that change nothing."""

    async def read_table(self) -> tuple[RoutingTable, tuple[Note, ...]]:
        """Return the newest table, and notes; see `Gateways.read_table`."""
        ...

    async def missing(self) -> tuple[tuple[str, str], ...]:
        """Return the versions that servers said not to hold; see `Gateways.missing`."""
        ...

    async def faults(self) -> Mapping[str, GatewayFault]:
        """Return faults of gateways by name; see `Gateways.faults`."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class Gateways(Protocol):
    """All gateways of a fleet as one."""

    async def read_table(self) -> tuple[RoutingTable, tuple[Note, ...]]:
        """Return the newest table that a gateway or the table file holds, and notes.

        A gateway that does not answer or lags behind is a note, not an error.
        """
        ...

    async def publish(self, table: RoutingTable) -> tuple[Note, ...]:
        """Write the table durably, hand it to every gateway, wait for all acknowledgements.

        Returns notes, such as that no gateway runs: a gateway reads the file when it starts.

        Raises:
            EngineError: a running gateway refuses the table or does not answer.
        """
        ...

    async def missing(self) -> tuple[tuple[str, str], ...]:
        """Return (full adapter name, server) of versions that a server said not to hold, sorted.

        The routing table says that the server holds them. A gateway that does not answer adds
        nothing.
        """
        ...

    async def statuses(self) -> tuple[GatewayStatus, ...]:
        """Return the status of every gateway, by name."""
        ...

    async def faults(self) -> Mapping[str, GatewayFault]:
        """Return by name the gateways that are down, frozen, or run otherwise than declared.

        A gateway that never ran has no fault.
        """
        ...

    async def in_flight(self, server: str, adapter: str) -> int:
        """Return the requests for a version on a server that have not ended, over all gateways."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
