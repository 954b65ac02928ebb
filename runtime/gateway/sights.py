"""What a gateway shows of itself, as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


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

    @classmethod
    def of(
        cls, name: str, config: Mapping[str, Any], counts: Mapping[str, Any], shown: Any
    ) -> Self:
        """Return what a gateway's admin side shows: `/-/config`, `/-/inflight`, `/-/shares`."""
        return cls(
            name,
            config["revision"],
            config["digest"],
            sum(each["count"] for each in counts["in_flight"]),
            waiting=counts["waiting"],
            shares=tuple(Observed(**each) for each in shown["shares"]),
            servers=tuple(sorted(config["servers"].items())),
            missing=tuple((each["adapter"], each["server"]) for each in config["missing"]),
        )
