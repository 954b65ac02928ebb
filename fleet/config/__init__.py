"""Turns YAML files into a `FleetSpec`, with every mistake found at once; edits and formats files.

Layer 4, beside `evals` and `rollouts`. Callers hand in the texts of the files and the
`ProjectFacts` of the library; reading the files is the caller's. The face of the package: import
from here, not from the modules inside.
"""

from fleet.config.checks import ProjectFacts
from fleet.config.checks.lint import lint
from fleet.config.checks.machines import splits
from fleet.config.checks.references import aliases_of
from fleet.config.edit import add_entry, set_value
from fleet.config.effective import effective_settings
from fleet.config.format import format_text
from fleet.config.lockfile import LOCK_FILE, Lock, LockedAdapter, base_shape, lock_text, parse_lock
from fleet.config.merge import COMPILED_FILE, COMPILED_LINE, Tree, merge_files, overlay, substitute
from fleet.config.problems import Problem, diagnostics
from fleet.config.required_version import KEY, refusal
from fleet.config.resolve import resolve_fleet
from fleet.config.scalars.quantities import format_duration, parse_duration
from fleet.config.schema import json_schema
from fleet.config.schema.clients import Adapter
from fleet.config.schema.fleet import Declarations
from fleet.config.validate import check_shape
from fleet.config.yaml import Parsed, parse

__all__ = [
    "COMPILED_FILE",
    "COMPILED_LINE",
    "KEY",
    "LOCK_FILE",
    "Adapter",
    "Declarations",
    "Lock",
    "LockedAdapter",
    "Parsed",
    "Problem",
    "ProjectFacts",
    "Tree",
    "add_entry",
    "aliases_of",
    "base_shape",
    "check_shape",
    "diagnostics",
    "effective_settings",
    "format_duration",
    "format_text",
    "json_schema",
    "lint",
    "lock_text",
    "merge_files",
    "overlay",
    "parse",
    "parse_duration",
    "parse_lock",
    "refusal",
    "resolve_fleet",
    "set_value",
    "splits",
    "substitute",
]
