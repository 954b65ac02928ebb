"""What the house may cost: a figure for each budget, which no commit raises.

`tests/test_house.py` measures and compares. A figure that is measured below its ceiling is the
ceiling of the next commit: write it here. `make bench-house` and `make bench-paths` print all.
"""

from typing import Final, NamedTuple


class Budget(NamedTuple):
    """A figure of the house."""

    ceiling: float
    """What no commit exceeds: the figure as measured last."""
    aim: float
    """What it is to come down to first."""
    final: float
    """What it is to come down to in the end."""


HOUSE: Final = {
    "core lines": Budget(106_590, 97_000, 106_500),
    "lines of extensions": Budget(7_000, 7_000, 7_000),
    "modules": Budget(562, 560, 540),
    "lines of the longest module": Budget(500, 500, 500),
    "modules of 480 lines or more": Budget(10, 10, 10),
    "flat files in one room": Budget(20, 20, 20),
    "flat words of fleet": Budget(15, 15, 15),
    "mirrored pairs of classes": Budget(21, 5, 0),
    "imports inside functions": Budget(16, 10, 10),
    "functions of 8 parameters or more": Budget(20, 10, 5),
    "functions over 60 lines": Budget(13, 15, 10),
    "context-free names in four rooms": Budget(0.8, 10, 2),
    "context-free names": Budget(20.8, 10, 2),
    "circles of rooms": Budget(0, 0, 0),
    "imports back up between rooms": Budget(0, 0, 0),
}
"""What `tests.bench.house_budgets` measures; lines are those of `fleet`, `plans`, `runtime` and
`fleetctl`. Names are per 1,000 lines that are not blank. The two of a module's length stand at
their aims: modules that are one idea may grow together."""

PATHS: Final = {
    "a plain request: files": Budget(22, 20, 18),
    "a plain request: changes": Budget(45, 36, 32),
    "the first request of a connection: files": Budget(23, 22, 20),
    "the first request of a connection: changes": Budget(79, 60, 50),
    "an unchanged plan: files": Budget(157, 140, 130),
    "an unchanged plan: lines": Budget(39_408, 24_000, 22_000),
    "the steps of an apply: files": Budget(56, 40, 35),
    "a round of reconcile: files": Budget(169, 150, 140),
}
"""What `tests.bench.paths` measures: files that are entered, their lines, changes of file.

Lines of the files that a plan enters rose by 7 % when modules that are one idea became one file:
the files became fewer by a fifth, and the same calls are made.
"""
