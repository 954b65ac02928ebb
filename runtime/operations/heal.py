"""How often a cause is healed again before it is left to people."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fleet.planning import DriftCause

FIRST_S = 2.0
FACTOR = 3.0
LONGEST_S = 300.0
TRIES = 5


@dataclass(slots=True)
class HealBackoff:
    """Heals each cause at growing intervals: 2 s, 6 s, 18 s, … 300 s, five times at most.

    Times are seconds of a clock that never goes back.
    """

    _tries: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By cause: how often it was healed, and when it may be again."""

    def due(self, causes: Iterable[DriftCause], now: float) -> tuple[DriftCause, ...]:
        """Return the causes that may be healed now.

        One that has stayed away for 300 s after it could have been healed again is forgotten;
        one that flaps is not.
        """
        found = tuple(causes)
        here = {each.id for each in found}
        self._tries = {
            cause: (count, after)
            for cause, (count, after) in self._tries.items()
            if cause in here or now < after + LONGEST_S
        }
        return tuple(
            each
            for each in found
            for count, after in [self._tries.get(each.id, (0, now))]
            if count < TRIES and after <= now
        )

    def given_up(self, causes: Iterable[DriftCause]) -> tuple[DriftCause, ...]:
        """Return the causes that come back whatever is done."""
        return tuple(each for each in causes if self._tries.get(each.id, (0, 0.0))[0] >= TRIES)

    def tried(self, causes: Iterable[DriftCause], now: float) -> None:
        """Note that these have just been healed, or that it was tried."""
        for each in causes:
            count = self._tries.get(each.id, (0, 0.0))[0]
            pause = min(FIRST_S * FACTOR**count, LONGEST_S)
            self._tries[each.id] = (count + 1, now + pause)
