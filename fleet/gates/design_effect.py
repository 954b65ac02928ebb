"""Computes the design effect: how many independent requests the requests of users are worth.

The split keeps a user on one version, so that requests of one user are not independent: a user
with one bad request is likely to have more. A test on counts of requests then fails healthy
versions and passes harmful ones. Two counts put that right. For FAIL a user's requests count up to
the first bad one, so that no user contributes more than one bad event (a hazard, as in a survival
analysis). For PASS all requests count, each side's number divided by the design effect.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Self

LEAST_BAD_UNITS = 5.0
"""Weight, in users with a bad request, of the belief that a user's requests are all alike.

Where few users had a bad request, nothing is known of how bad requests are spread; 5 keeps wrong
passes at the margin near 5 % in simulation, for 2 to 50 requests a user, alike or not.
"""


@dataclass(frozen=True, slots=True)
class Clustered:
    """The requests of a side, of a kind, in a window, by user; sums over windows add up.

    The squares are of a user's requests by the end of the window, less those before the window.
    """

    first: int = 0
    """Users whose first bad request lies here."""
    at_risk: int = 0
    """Requests of users without an earlier bad request."""
    units: int = 0
    """Users seen for the first time; a request without a user is a unit."""
    squares: int = 0
    """Sum of squares of a user's requests."""
    bad_squares: int = 0
    """Sum of squares of a user's bad requests."""
    products: int = 0
    """Sum of a user's bad requests times the user's requests."""

    def __add__(self, other: Self) -> Self:
        """Return the sums of two windows, or of two sides."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return type(self)(*(mine + theirs for mine, theirs in pairs))


SUMS = ("units", "squares", "bad_squares", "products")
"""Counts that a verdict keeps of a whole stage; the others are kept by window."""
BY_WINDOW = ("first", "at_risk")


class Units:
    """The users seen so far, kind after kind, in the order of their requests."""

    def __init__(self) -> None:
        """Begin without users."""
        self._seen: dict[tuple[str, ...], tuple[int, int]] = {}

    def new(self, unit: tuple[str, ...] | None, kind: str) -> bool:
        """Say whether a request is a user's first of a kind; a request without a user always is."""
        return unit is None or (*unit, kind) not in self._seen

    def add(self, unit: tuple[str, ...] | None, kind: str, *, bad: bool) -> tuple[int, ...]:
        """Add a request and return its part of `Clustered`'s fields; None: without a user."""
        key = (*unit, kind) if unit else ()
        worse, all_of = self._seen.get(key, (0, 0)) if key else (0, 0)
        if key:
            self._seen[key] = (worse + bad, all_of + 1)
        clean = not worse
        return (
            int(clean and bad),
            int(clean),
            int(not all_of),
            2 * all_of + 1,
            (2 * worse + 1) * bad,
            (worse + bad) * (all_of + 1) - worse * all_of,
        )


@dataclass(frozen=True, slots=True)
class SideCounts:
    """A side of a stage, all windows together."""

    bad: float
    requests: float
    units: float
    squares: float
    bad_squares: float
    products: float
    first: float

    @classmethod
    def of(cls, counts: Mapping[str, Any], suffix: str = "", prefix: str = "") -> Self:
        """Read a side from a finding's counts; without users, requests count as users."""
        bad, requests = (
            _sum(counts, f"{prefix or 'bad'}{suffix}"),
            _sum(counts, f"requests{suffix}"),
        )
        mark = f"{prefix}_" if prefix else ""
        if f"{mark}units{suffix}" not in counts:
            return cls(bad, requests, requests, requests, bad, bad, bad)
        sums = {name: float(counts[f"{mark}{name}{suffix}"]) for name in SUMS}
        return cls(bad=bad, requests=requests, first=_sum(counts, f"{mark}first{suffix}"), **sums)

    @property
    def rate(self) -> float:
        """The part of the requests that was bad."""
        return self.bad / self.requests if self.requests else 0.0

    @property
    def size(self) -> float:
        """Mean requests of the user of a random request."""
        return self.squares / self.requests if self.requests else 1.0


def design_effects(sides: Sequence[SideCounts]) -> tuple[float, ...]:
    """Return the divisors by which the requests of the sides count as independent; 1 or more.

    How alike a user's requests are is estimated from all sides together.

    Source:
        Rao and Scott 1992, Biometrics 48:577-585, for dividing by the design effect; Kish 1965,
        Survey Sampling, for the correlation within users that an effect stands for.
    """
    spread = plain = requests = squares = first = 0.0
    for side in sides:
        rate = side.rate
        residuals = side.bad_squares - 2 * rate * side.products + rate * rate * side.squares
        spread += residuals * side.units / (side.units - 1) if side.units > 1 else residuals
        plain += side.requests * rate * (1 - rate)
        requests += side.requests
        squares += side.squares
        first += side.first
    size = squares / requests if requests else 1.0
    if size <= 1:
        return tuple(1.0 for _ in sides)
    effect = spread / plain if plain else 1.0
    alike = min(1.0, max(0.0, (effect - 1) / (size - 1)))
    alike = (alike * first + LEAST_BAD_UNITS) / (first + LEAST_BAD_UNITS)
    return tuple(1 + max(0.0, side.size - 1) * alike for side in sides)


def series(
    windows: Iterable[Mapping[str, Clustered]], kind: str, suffix: str = "", prefix: str = ""
) -> Iterator[tuple[str, float | tuple[float, ...]]]:
    """Yield the counts by user that a finding keeps of a kind."""
    found = [window.get(kind, Clustered()) for window in windows]
    mark = f"{prefix}_" if prefix else ""
    for name in BY_WINDOW:
        yield f"{mark}{name}{suffix}", tuple(float(getattr(sums, name)) for sums in found)
    total = sum(found, start=Clustered())
    for name in SUMS:
        yield f"{mark}{name}{suffix}", float(getattr(total, name))


def _sum(counts: Mapping[str, Any], name: str) -> float:
    value = counts[name]
    return float(sum(value)) if isinstance(value, Sequence) else float(value)
