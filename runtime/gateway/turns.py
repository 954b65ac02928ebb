"""Whose turn it is: start-time fair queueing."""


class Turns:
    """Turns between some who ask again and again, on a clock that moves as turns are taken.

    A turn begins where the last one of the same name ended, or where the clock stood when its
    request came, and is the shorter the more turns a name has in a row. The earliest one is next:
    who has a thousand requests waiting keeps who has one from work for one turn.

    Source:
        Goyal, Vin and Cheng 1996, Start-time Fair Queueing, section 2.
    """

    __slots__ = ("_ends", "now")

    def __init__(self) -> None:
        """Begin before the first turn."""
        self.now = 0.0
        self._ends: dict[str, float] = {}

    def start(self, name: str, since: float) -> float:
        """Return when the next turn of a name begins; its request came when the clock said `since`.

        It is found out when it is needed: who waited and left has taken no turn.
        """
        return max(since, self._ends.get(name, 0.0))

    def take(self, name: str, since: float, in_a_row: int) -> None:
        """Count a turn of a name that has so many turns where others have one."""
        start = self.start(name, since)
        self.now = max(self.now, start)
        self._ends[name] = start + 1 / in_a_row
