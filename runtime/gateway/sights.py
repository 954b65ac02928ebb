"""What a gateway shows of itself, as values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Observed:
    """A version's part of an alias's traffic, as it should be and as it is."""

    alias: str
    adapter: str
    percent: int
    requests: int
    """Since the split was last changed."""
    since: str


@dataclass(frozen=True, slots=True)
class Sight:
    """What one gateway shows of itself; None where it does not run or does not say."""

    name: str
    revision: int | None = None
    digest: str | None = None
    in_flight: int | None = None
    problem: str = ""
    waiting: int = 0
    shares: tuple[Observed, ...] = ()
    servers: tuple[tuple[str, str], ...] = ()
    """Each server, and `up`, `resting` or `down`."""
    missing: tuple[tuple[str, str], ...] = ()
    """(full adapter name, server): what a server should hold and does not."""
