"""Read the declarations while some files are broken: the files without errors, if there are any."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import ConfigError
from fleet.spec import FleetSpec
from runtime.project.load import MAIN, load_project


@dataclass(frozen=True, slots=True)
class PartialFleet:
    """The fleet of the files without errors."""

    fleet: FleetSpec
    left_out: tuple[str, ...]
    """Paths of the files with errors."""


def load_valid_files(
    root: Path,
    environment: str | None,
    variables: Mapping[str, str],
    state_dir: Path,
    error: ConfigError,
) -> PartialFleet:
    """Return the fleet that the files without an error declare.

    Args:
        root: The folder that holds `fleet.yaml`.
        environment: Name of the overlay; None: none.
        variables: Values of `${var.NAME}`.
        state_dir: Where parsed files are cached.
        error: The errors of all files.

    Raises:
        ConfigError: `error` itself, where a problem is in `fleet.yaml` or in no file.
    """
    left_out: set[str] = set()
    found = error
    while True:
        wrong = {problem.place.file for problem in found.diagnostics if problem.place} - left_out
        if not wrong or MAIN in wrong:
            raise error
        left_out |= wrong
        try:
            rest = load_project(root, environment, variables, state_dir, frozenset(left_out))
        except ConfigError as more:
            found = more
            continue
        return PartialFleet(rest.fleet, tuple(sorted(left_out)))
