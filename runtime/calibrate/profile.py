"""Profile files: `calibration/<base>-<kind>-r<rank>.json`, which planning reads back.

What is calibrated: one server, with all that must be known of it beforehand.
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime

from fleet.capacity import PROFILE_FORMAT
from fleet.hardware import BaseSpec, DeviceSpec, Profile
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


@dataclass(frozen=True, slots=True)
class CalibrationTarget:
    """A running server of the fleet."""

    server: str
    url: str
    base: BaseSpec
    device: DeviceSpec | None
    """One of its devices; None on a server that somebody else runs."""
    kind: str
    """Kind of its devices, such as `h100_80g`."""
    tensor_parallel: int
    max_loras: int
    max_lora_rank: int
    memory_share: float | None = None
    """Part of each device's memory that it was given; None: vLLM's own default."""

    @property
    def usable_slots(self) -> int:
        """How many adapters may run at a time without waiting for one another.

        vLLM's CPU build computes requests to the base with the last slot, so that stays empty.
        """
        return self.max_loras - (1 if self.kind.startswith("cpu") else 0)
