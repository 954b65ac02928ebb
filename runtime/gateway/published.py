"""What came of giving a table to every gateway."""

from dataclasses import dataclass

from fleet.errors import EngineError


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

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know."""
        return tuple(not_running(name) for name in self.absent)


def not_running(name: str) -> str:
    """Say that a gateway does not run, and what that means."""
    return (
        f"gateway {name} is not running and answers no client; "
        f"it reads the routes when it starts: fleetctl gateway start {name}"
    )


def unreachable(server: str) -> str:
    """Say that the routes name a server of which no gateway knows the address."""
    return f"the routes say no address of server {server}: what is sent to it fails"
