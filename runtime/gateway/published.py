"""What came of giving a table to every gateway, and what is to be known of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fleet.errors import EngineError
from runtime.gateway.table import RoutingTable


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


def lagging(
    name: str, config: Mapping[str, Any] | EngineError | None, newest: RoutingTable
) -> Iterator[Note]:
    """Say how what a gateway shows differs from the newest table, if it does.

    Args:
        name: The gateway's.
        config: What it shows, why it shows nothing, or None: it does not run.
        newest: The newest table that is known.
    """
    match config:
        case None:
            if newest.aliases:
                yield not_running(name)
        case EngineError():
            why = f"does not answer: {config.diagnostics[0].detail}"
            yield Note(why, name, answers=False)
        case _ if config["digest"] != newest.digest:
            has, latest = config["revision"], newest.revision
            what = f"lags behind: it serves revision {has}, the newest is {latest}"
            if has == latest:
                what = (
                    "serves another table than the file holds, both of revision "
                    f"{latest}: the file was changed by hand"
                )
            yield Note(what, name)
        case _:
            pass


def only_served(why: str) -> Note:
    """Say that a table is in no file, and what helps."""
    return Note(
        f"the routes are served and could not be written to their file ({why}): a gateway that "
        "starts anew goes back to the ones before. Once that is mended: fleetctl reconcile --once"
    )


def unreachable(server: str) -> Note:
    """Say that the routes name a server of which no gateway knows the address."""
    return Note(f"the routes say no address of server {server}: what is sent to it fails")
