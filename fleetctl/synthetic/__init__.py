"""Synthetic fleets: large, valid and lifelike, for sizing studies and benchmarks.

Popularity falls as a power law, clients sit in several time zones and work business hours,
some run daily batches, most are on the standard tier. The same wish gives the same bytes.
"""

from fleetctl.synthetic.capacity import warning
from fleetctl.synthetic.population import SyntheticSize, people
from fleetctl.synthetic.text import files

__all__ = ["SyntheticSize", "synthesise"]


def synthesise(wish: SyntheticSize) -> tuple[dict[str, str], str]:
    """Return the text of every file by its path, and a warning if the GPUs are too few."""
    population = people(wish)
    return files(wish, population), warning(wish, population)
