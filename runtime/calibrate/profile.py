"""Profile files: `calibration/<base>-<kind>-r<rank>.json`, which planning reads back."""

import json
from dataclasses import asdict
from datetime import datetime

from fleet.capacity import PROFILE_FORMAT
from fleet.hardware import Profile
from runtime.calibrate.run import Calibration

FOLDER = "calibration"
"""Where a project keeps its profiles."""


def file_name(profile: Profile) -> str:
    """Return the name of a profile's file: one per base, kind of device, devices and rank."""
    cards = f"-tp{profile.tensor_parallel}" if profile.tensor_parallel > 1 else ""
    return f"{profile.base}-{profile.kind}{cards}-r{profile.max_lora_rank}.json"


def dump(made: Calibration, server: str, measured: datetime) -> str:
    """Return the text of a profile file; `fleet.profiles.parse_profile` reads its document.

    Args:
        made: The calibration.
        server: Which server was measured.
        measured: When.
    """
    document = {
        "format": PROFILE_FORMAT,
        **asdict(made.profile),
        "server": server,
        "measured": measured.isoformat(timespec="seconds"),
        "points": [
            {"batch": row.batch, "active": row.adapters, "step_s": row.measured_s}
            for row in made.rows
        ],
        "notes": list(made.notes),
    }
    return json.dumps(document, indent=2) + "\n"
