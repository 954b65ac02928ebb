"""The same inputs give the same plan, whatever their order and the hash seed."""

import json
import subprocess
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.history.values import History
from fleet.planning.pipeline import make_plan
from tests.fleet.planning.builders import NOON, adapter, device, fleet, host, state

MANY = [adapter(f"c{each % 7}-t{each}-tiny-v1.{each % 3}.0") for each in range(30)]
HARDWARE = [host("a", device("gpu0"), device("gpu1", port=8101)), host("b", device("gpu0"))]


@settings(max_examples=25)
@given(st.permutations(range(30)), st.permutations(range(2)))
def test_the_order_of_declarations_does_not_matter(order: list[int], hosts: list[int]) -> None:
    ranks = {str(each.name): 8 << index % 3 for index, each in enumerate(MANY)}
    sorted_ = fleet(*MANY, hosts=HARDWARE, ranks=ranks)
    shuffled = fleet(
        *(MANY[each] for each in order), hosts=[HARDWARE[each] for each in hosts], ranks=ranks
    )
    expected = make_plan(sorted_, state(), History(), NOON)
    assert make_plan(shuffled, state(), History(), NOON) == expected


def test_hash_seeds_do_not_matter() -> None:
    code = (
        "import json, sys; sys.path.insert(0, '.');"
        "from tests.fleet.planning.test_determinism import *;"
        "fresh = make_plan(fleet(*MANY, hosts=HARDWARE), state(), History(), NOON);"
        "there = state(*[each.after for each in fresh.changes][::2]);"
        "moved = make_plan(fleet(*MANY[1:], hosts=HARDWARE), there, History(), NOON);"
        "print(json.dumps([fresh.id, moved.id, [s.id for s in moved.steps]]))"
    )
    root = Path(__file__).parents[3]
    answers = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=root, env={"PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }  # fmt: skip
    assert len(answers) == 1
    assert len(json.loads(answers.pop())[0]) == 16
