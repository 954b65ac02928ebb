"""The values that gateways give to apply, rollback, drain and observe."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fleet.errors import EngineError
from runtime.gateway.table.table import RoutingTable

READ_S = 2.0
"""Upper bound in seconds of a reading from a gateway's admin side."""
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
    """`up`, `resting`, `resting for CLIENTS`, `down (why)` or `stale` by server; `stale`: another
    launch answers."""
    missing: tuple[tuple[str, str], ...] = ()
    """(full adapter name, server): versions that a server should hold and said not to hold."""
    refusing: str = ""
    """Why clients are refused, such as `No space left on device`; empty: they are not."""
    secret_mark: str | None = None
    """Mark of the secret of servers' keys, empty without a secret; None: of an earlier release."""
    key_marks: Mapping[str, str] = field(default_factory=dict)
    """Marks of the keys of attached servers, by server."""
    unlogged: Mapping[str, int] = field(default_factory=dict)
    """Refused requests without a usage row, by client; without a valid key, client ''."""


@dataclass(frozen=True, slots=True)
class GatewayLoad:
    """Requests of a gateway that have not ended."""

    in_flight: Counter[OnServer]
    """Requests that were sent to a server."""
    queued: Counter[OnServer] = field(default_factory=Counter)
    """Requests that wait, counted on every server that may get them."""
    waiting: int = 0
    """Requests that wait, counted once."""


@dataclass(frozen=True, slots=True)
class ObservedShare:
    """A version's share of an alias: as declared, and as requests were split."""

    alias: str
    adapter: str
    percent: int
    requests: int
    """Since the split was last changed."""
    since: str


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """The status of a gateway; fields are None: the gateway does not run or does not answer."""

    name: str
    revision: int | None = None
    digest: str | None = None
    in_flight: int | None = None
    problem: str = ""
    """Why the gateway does not answer; empty: the gateway answers or does not run."""
    waiting: int = 0
    shares: tuple[ObservedShare, ...] = ()
    servers: tuple[tuple[str, str], ...] = ()
    """As `GatewayConfig.servers`, in pairs."""
    missing: tuple[tuple[str, str], ...] = ()
    unlogged: tuple[tuple[str, int], ...] = ()
    """As `GatewayConfig.unlogged`, in pairs."""


@dataclass(frozen=True, slots=True)
class Note:
    """A remark about a gateway, or about the routing table."""

    what: str
    """Predicate of the gateway, such as `lags behind`; about the table: a whole sentence."""
    gateway: str = ""
    """Name of the gateway; empty: the note is about the table."""
    runs: bool = True
    answers: bool = True
    """Whether the gateway shows its table."""
    is_damage: bool = False
    """Whether the table's file is another than was written last."""

    def __str__(self) -> str:
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
        """The notes on gateways that do not run and on a file that was not written."""
        notes = tuple(not_running(name) for name in self.absent)
        if not self.unwritten:
            return notes
        only_served = Note(
            f"the routes are served and could not be written to their file ({self.unwritten}): a "
            "gateway that starts anew goes back to the ones before. Once that is mended: fleetctl "
            "reconcile --once"
        )
        return (*notes, only_served)


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
    """Yield the note that a gateway's table differs from the newest; `config` None: not running."""
    match config:
        case None:
            if newest.aliases:
                yield not_running(name)
        case EngineError():
            why = f"does not answer: {config.diagnostics[0].detail}"
            yield Note(why, name, answers=False)
        case GatewayConfig(digest=newest.digest):
            return
        case GatewayConfig(revision=newest.revision):
            what = "serves another table than the file holds, both of revision"
            text = f"{what} {config.revision}: the file was changed by hand"
            yield Note(text, name, is_damage=True)
        case GatewayConfig():
            what = f"lags behind: it serves revision {config.revision}"
            yield Note(f"{what}, the newest is {newest.revision}", name)


def address_unknown(server: str) -> Note:
    """Return the note that the routes name a server without an address."""
    return Note(f"the routes say no address of server {server}: what is sent to it fails")
