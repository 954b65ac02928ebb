"""Write `same.json` and `some.json` beside a synthetic fleet: live as declared, and 1 % off."""

import sys
from datetime import UTC, datetime
from pathlib import Path

from fleet.history.values import History
from fleet.planning.pipeline import desired_state
from fleet.resources import LoadedAdapter, State
from plans.documents import live_file
from runtime.project.load import load_project

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVERY = 100
"""One in so many adapters is missing in `some.json`."""


def main() -> None:
    """Plan from nothing and write what the fleet would then look like."""
    folder = Path(sys.argv[1])
    fleet = load_project(folder, None, {}).fleet
    same = desired_state(fleet, State(), History(), NOW)
    (folder / "same.json").write_text(live_file.dump(same), encoding="utf-8")
    adapters = [
        address for address, each in same.resources.items() if isinstance(each, LoadedAdapter)
    ]
    gone = set(sorted(adapters)[::EVERY])
    some = State({address: r for address, r in same.resources.items() if address not in gone})
    (folder / "some.json").write_text(live_file.dump(some), encoding="utf-8")


if __name__ == "__main__":
    main()
