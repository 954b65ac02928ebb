"""Turns YAML files into a `FleetSpec`, with every mistake found at once; edits and formats files.

Layer 4, beside `evals` and `rollouts`. Callers hand in the texts of the files and the
`ProjectFacts` of the library; reading the files is the caller's. The face of the package: import
from here, not from the modules inside.
"""

from fleet.config.checks import ProjectFacts
from fleet.config.checks.bases import splits
from fleet.config.checks.former_names import with_former_names
from fleet.config.checks.lint import lint
from fleet.config.checks.references import aliases_of, declared_extensions
from fleet.config.checks.version_bytes import (
    declared_same_bytes,
    equal_bytes,
    lint_signatures,
    signature_fault,
    signature_problem,
)
from fleet.config.edit import add_entry, format_text, set_value
from fleet.config.files.lockfile import (
    LOCK_FILE,
    Lock,
    LockedAdapter,
    LockedSignature,
    lock_text,
    parse_lock,
)
from fleet.config.files.merge import (
    COMPILED_FILE,
    COMPILED_FILES,
    COMPILED_LINE,
    Tree,
    from_environment,
    merge_files,
    overlay,
    substitute,
)
from fleet.config.files.settings import DeclaredPath, declared_paths, effective_settings
from fleet.config.files.validate import Problem, check_shape, diagnostics
from fleet.config.files.yaml import Parsed, parse, unmark
from fleet.config.files.yaml_limits import check_project
from fleet.config.imported import (
    Imported,
    ImportedAdapter,
    LiveServer,
    ProxyNames,
    imported_from,
    proxy_names,
)
from fleet.config.resolve import resolve_fleet
from fleet.config.scalars.quantities import format_duration, parse_duration
from fleet.config.scalars.texts import KEY, refusal
from fleet.config.schema import json_schema
from fleet.config.schema.clients import Adapter
from fleet.config.schema.extensions import SHIPPED
from fleet.config.schema.fleet import Declarations, StateHome
from fleet.config.schema.rollouts import SigningKey
from fleet.config.set_aside import BrokenFile, SetAside, client_in_text
