"""Time placing alone, again: `python -m tests.bench.replan FOLDER` prints one line of JSON.

FOLDER holds a synthetic fleet with `same.json` and `some.json` of `tests.bench.converged` beside.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from fleet.history.values import History
from fleet.placement.model.state import SearchLimits
from fleet.placement.search import place
from fleet.resources import LoadedAdapter, State
from fleet.rollouts.decide import decide_rollouts
from fleet.spec import FleetSpec
from plans.documents import live_file
from runtime.project.load import load_project
from tests.bench.converged import NOW

BUDGET = 50
"""Optional moves allowed in the last case."""


def placed(fleet: FleetSpec, live: State, search: SearchLimits) -> tuple[float, int, int, int]:
    """Return CPU seconds, versions on other servers than before, forced and optional moves."""
    wanted = decide_rollouts(fleet, live, History(), NOW)
    began = time.process_time()
    placement = place(fleet, wanted, live, search)
    seconds = time.process_time() - began
    before: dict[str, set[str]] = {}
    for each in live.resources.values():
        if isinstance(each, LoadedAdapter):
            before.setdefault(each.adapter, set()).add(each.server)
    moved = sum(
        bool(servers - set(placement.bindings.get(name, ()))) for name, servers in before.items()
    )
    return seconds, moved, len(placement.forced), len(placement.optional)


def main() -> None:
    """Place with nothing changed, with 1 % missing, and with optional moves allowed."""
    folder = Path(sys.argv[1])
    fleet = load_project(folder, None, {}).fleet
    same, some = (
        live_file.load((folder / name).read_text(encoding="utf-8"))
        for name in ("same.json", "some.json")
    )
    usual = SearchLimits()
    cases = {
        "same": placed(fleet, same, usual),
        "some": placed(fleet, some, usual),
        "moves": placed(fleet, some, replace(usual, max_moves=BUDGET)),
    }
    print(json.dumps(cases))


if __name__ == "__main__":
    main()
