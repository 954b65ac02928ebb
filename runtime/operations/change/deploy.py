"""Declare another version of an alias: the change of a file, its patch, plan and branch."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Final

from fleet.config import set_value
from fleet.errors import FleetError
from fleet.names import AdapterName
from fleet.plan import Plan
from fleet.resources import State
from fleet.spec import FleetSpec
from runtime.files import read_plain
from runtime.git import commit_on_branch
from runtime.operations.change.planning import plan_fleet
from runtime.project.facts import decode
from runtime.workspace import Call, Workspace

_LINE: Final = re.compile(r"[^\n]*\n|[^\n]+")
"""A line of a patch: other breaks of lines are characters of a line."""


@dataclass(frozen=True, slots=True)
class VersionChange:
    """The change of a file so that the file declares another version of an alias."""

    name: AdapterName
    file: str
    """Relative to the project, as in the patch."""
    before: str
    after: str

    @property
    def patch(self) -> str:
        """The change for `git apply` or `patch -p1` in the project's folder."""
        return "".join(_patch_lines(self))


def version_change(root: Path, fleet: FleetSpec, name: AdapterName) -> VersionChange | None:
    """Return the change that declares a version in place of the present version; writes nothing.

    None: the version is declared nowhere as a plain scalar.

    Raises:
        ConfigError: the file is not UTF-8.
    """
    path = ("clients", name.client, "adapters", name.task, "version")
    place = fleet.declared_at(*path)
    if place is None:
        return None
    before = decode(read_plain(root / place.file), place.file)
    written = ("clients", fleet.called.get(f"clients.{name.client}", name.client), *path[2:])
    after = set_value(before, place.file, written, str(name.version))
    return None if after is None else VersionChange(name, place.file, before, after)


def other_versions(fleet: FleetSpec, alias: str) -> tuple[AdapterName, ...]:
    """Return the versions of the library that an alias may declare instead, the newest first."""
    declared = fleet.adapters[alias].name
    names = map(AdapterName.parse, fleet.versions)
    found = [name for name in names if (name.alias, name.base) == (alias, declared.base)]
    found.sort(key=lambda name: name.version, reverse=True)
    return tuple(name for name in found if name != declared)


def plan_change(workspace: Workspace, live: State, change: VersionChange) -> Plan:
    """Return the plan of the declarations with a change, for a live state.

    Raises:
        FleetError: the changed declarations have a problem, or do not fit.
    """
    fleet = workspace.project.load({change.file: change.after}).fleet
    return plan_fleet(workspace, live, fleet)


def branch_change(call: Call, by: str, change: VersionChange) -> tuple[str, ...]:
    """Commit a change on a new branch; return lines for people. The checkout stays as it is.

    Raises:
        FleetError: FC6113, the branch cannot be made.
    """
    name, root = change.name, call.root
    branch = f"deploy/{name.alias}-{name.version}"
    message = f"Deploy {name.version} of {name.alias}"
    texts = change.before, change.after
    if problem := commit_on_branch(root, branch, change.file, texts, message, by):
        raise FleetError.of(
            "FC6113",
            "The branch cannot be made",
            f"`{branch}`: {problem}. Nothing was changed.",
            hint="Download the patch, and apply it in the project's folder: git apply FILE.",
        )
    return (
        f"Branch {branch} has the change, on top of the commit that is checked out.",
        "Nothing was checked out, and nothing was sent to another repository.",
        f"Next, in the project's folder: git push origin {branch}",
    )


def _patch_lines(change: VersionChange) -> Iterator[str]:
    before, after = _LINE.findall(change.before), _LINE.findall(change.after)
    for line in unified_diff(before, after, f"a/{change.file}", f"b/{change.file}"):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
