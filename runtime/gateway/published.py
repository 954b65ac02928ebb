"""What came of giving a table to every gateway, and what is to be known of them."""

from dataclasses import dataclass

from fleet.errors import EngineError


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a reader should know of a gateway, or of the table that all have."""

    what: str
    """Such as `lags behind`; a whole sentence where it is of no gateway."""
    gateway: str = ""
    """Whose name stands before it; empty: it is of the table."""
    runs: bool = True
    answers: bool = True
    """Whether the gateway shows its table."""

    def __str__(self) -> str:
        """Return it for people."""
        return f"gateway {self.gateway} {self.what}" if self.gateway else self.what


@dataclass(frozen=True, slots=True)
class Published:
    """What came of a publication."""

    acknowledged: tuple[str, ...]
    """Gateways that serve the table now, sorted."""
    absent: tuple[str, ...]
    """Gateways that do not run, sorted; each reads the file when it starts."""
    failures: tuple[tuple[str, EngineError], ...] = ()
    """Gateways that run and refused or did not answer, with the error."""
    waited_s: float = 0.0
    """Seconds spent on failures alone, after the last acknowledgement."""
    unwritten: str = ""
    """Why the file could not be written, so that only gateways have the table; empty: it was."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """What a reader should know."""
        absent = tuple(not_running(name) for name in self.absent)
        return (*absent, only_served(self.unwritten)) if self.unwritten else absent


def not_running(name: str) -> Note:
    """Say that a gateway does not run, and what that means."""
    return Note(
        "is not running and answers no client; it reads the routes when it starts: "
        f"fleetctl gateway start {name}",
        name,
        runs=False,
        answers=False,
    )


def only_served(why: str) -> Note:
    """Say that a table is in no file, and what helps."""
    return Note(
        f"the routes are served and could not be written to their file ({why}): a gateway that "
        "starts anew goes back to the ones before. Once that is mended: fleetctl reconcile --once"
    )


def unreachable(server: str) -> Note:
    """Say that the routes name a server of which no gateway knows the address."""
    return Note(f"the routes say no address of server {server}: what is sent to it fails")
