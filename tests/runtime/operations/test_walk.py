"""A fleet to which thousands of things happen in a row, on the fake engine.

A walk is drawn by its seed: commands that people and jobs run, faults, and time that passes. After
every step the rules hold that a client relies on. No run gives traffic, or more of it, to a version
that has passed no smoke test of its bytes on its server in this launch; a way back alone waits for
none. The rest of a walk heals: then nothing is left to do, and every answer is of the right bytes.
"""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.drawn import drawn, examples, long
from tests.runtime.operations.walk_events import (
    alter_lock,
    apply,
    apply_on_full_disk,
    ask,
    declare,
    delete_copy,
    edit_route,
    evict,
    freeze_server,
    hours,
    kill_server,
    killed_apply,
    killed_reconcile,
    load_other,
    lost_answer,
    mute,
    overwrite,
    reconcile,
    reconcile_on_full_disk,
    refused,
    relaunch_server,
    release,
    restart_server,
    restore_lock,
    roll_back,
    unload,
    wrong_path,
)
from tests.runtime.operations.walk_rules import check, heal
from tests.runtime.operations.walk_world import World

STEPS = 50
"""Steps of a walk, before it heals."""
WALKS = int(os.environ.get("FLEETCTL_WALKS", examples(8, 16)))


Happening = Callable[[World, random.Random], str | None]
EVENTS: tuple[Happening, ...] = (
    *(apply,) * 3, *(reconcile,) * 5, roll_back, release, *(declare,) * 2, *(hours,) * 3,
    kill_server, restart_server, relaunch_server, freeze_server, unload, load_other, wrong_path,
    evict, overwrite, delete_copy, ask, ask, alter_lock, restore_lock,
    edit_route, killed_apply, killed_reconcile,
    apply_on_full_disk, reconcile_on_full_disk, lost_answer, refused, mute,
)  # fmt: skip


FOUND = (79, 92)
"""Seeds of walks that found a fault once."""


@drawn
@pytest.mark.parametrize("seed", [*range(WALKS), *long(*(n for n in FOUND if n >= WALKS))])
def test_whatever_happens_no_answer_is_wrong_unnamed(seed: int, tmp_path: Path) -> None:
    chance, world = random.Random(seed), World(tmp_path / "fleet")  # noqa: S311 (not a secret)
    taken: list[str] = []
    try:
        world.apply()
        for _ in range(STEPS):
            step = chance.choice(EVENTS)
            taken.append(step(world, chance) or step.__name__)
            check(world)
        heal(world)
    except AssertionError as error:
        said = "\n  ".join(world.said[-40:])
        steps = "; ".join(taken)
        raise AssertionError(f"{error}\n\nSeed {seed}: {steps}\n\nSaid:\n  {said}") from error
