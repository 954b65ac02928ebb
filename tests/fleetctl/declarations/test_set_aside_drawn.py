"""A mistake in the file of one client harms that client alone."""

from collections.abc import Callable
from functools import cache
from random import Random

import pytest

from fleet.errors import FleetError
from fleet.plan import Plan
from fleet.resources import client_in
from tests.drawn import drawn, examples
from tests.fleetctl.one_file_mistakes import (
    MISTAKES,
    AppliedFleet,
    Files,
    applied_fleet,
    changes_of,
)

FLEETS = 4
Fleets = Callable[[int], tuple[AppliedFleet, Plan]]


def broken(made: AppliedFleet, name: str, victim: str, chance: Random) -> Files:
    """Return the declarations with a mistake that is refused: a lost letter may change no word."""
    for _ in range(100):
        files = dict(made.due)
        MISTAKES[name](files, victim, chance)
        try:
            made.plan(files)
        except FleetError:
            return files
    raise AssertionError(name)


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> Fleets:
    root = tmp_path_factory.mktemp("fleets")

    @cache
    def fleet(seed: int) -> tuple[AppliedFleet, Plan]:
        made = applied_fleet(root / str(seed), seed)
        return made, made.plan(made.due)[0]

    return fleet


@drawn
@pytest.mark.parametrize("seed", range(examples(50, 400)))
def test_one_mistake_leaves_the_changes_of_all_others_as_they_are(
    seed: int, fleets: Fleets
) -> None:
    """Before, 0 of the 9 other clients were planned: the error of the file stopped them all."""
    chance = Random(seed)  # noqa: S311 (a drawn case, no secret)
    made, sound = fleets(seed % FLEETS)
    name, victim = list(MISTAKES)[seed % len(MISTAKES)], chance.choice(made.victims)
    files = broken(made, name, victim, chance)
    plan = made.plan(files, without_broken=True)[0]
    assert {client_in(its) for change in sound.changes for its in change.resources} >= {*made.busy}
    assert changes_of(plan, victim) == changes_of(sound, victim)
    named = {note.subject for note in plan.set_aside}  # and a wrong name that it has now
    assert named & {*made.clients} == {victim}, (name, plan.set_aside)
    assert not [c for c in plan.changes if named.intersection(map(client_in, c.resources))]
