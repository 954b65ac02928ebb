"""Finds the YAML files of a project; a link that leads outside is refused before it is opened."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fleet.codes import diagnostic
from fleet.config import COMPILED_FILE, COMPILED_LINE
from fleet.errors import ConfigError, Diagnostic
from runtime.confined import Outside, confined, fault_of, left_outside, refused, special
from runtime.files import open_plain

MAIN = "fleet.yaml"
_SUFFIXES = (".yaml", ".yml")
_LEFT_OUT = {"env", "golden", "models", "node_modules", "training", "__pycache__"}
"""Folders of the project, not those below, that hold no declarations."""
_MOST_ENTRIES = 200_000
"""Upper bound of a project's files and folders."""


def every_file(root: Path) -> list[str]:
    """Return every YAML file of the project, overlays included, relative to the project.

    Raises:
        ConfigError: no fleet.yaml: the folder is no project, and its files are not fleetctl's.
    """
    require_project(root)
    overlays = [f"env/{path.name}" for path in confined(root, "env").glob("*.yaml")]
    for name in overlays:
        confined(root, name)
    return sorted([*declaration_files(root), *overlays])


def require_project(root: Path) -> None:
    """Refuse a folder without declarations.

    Raises:
        ConfigError: FC1010.
    """
    if (root / MAIN).is_file():
        return
    hint = "Name the project's folder with `-C DIR`, or begin one:"
    command = "fleetctl scaffold fleet DIR"
    detail = f"`{root}` holds no `{MAIN}`."
    raise ConfigError(diagnostic("FC1010", detail, hint=hint, command=command))


def declaration_files(root: Path) -> list[str]:
    """Return the YAML files of the project but overlays, relative to the project, sorted.

    Raises:
        ConfigError: FC1285, links lead outside; FC1286, a file is none; FC1312, too many files.
    """
    links = _Links(root, [], [])
    names = sorted(_found(links))
    problems = [*links.problems, *([refused(links.outside)] if links.outside else [])]
    if problems:
        raise ConfigError(*problems)
    return names


@dataclass(frozen=True, slots=True)
class _Links:
    """The links and special files met on the way, with their problems."""

    root: Path
    outside: list[Outside]
    problems: list[Diagnostic]

    def may_follow(self, entry: "os.DirEntry[str]", name: str) -> bool:
        """Say whether to follow a link; a folder around the link is read already."""
        real = Path(os.path.realpath(entry))
        if fault := fault_of(real):
            self.problems.append(special(f"`{name}`", fault))
            return False
        left = left_outside(self.root, [Outside(f"`{name}`", real)])
        self.outside.extend(left)
        return not left and not Path(os.path.realpath(Path(entry).parent)).is_relative_to(real)


def _found(links: _Links) -> Iterator[str]:
    seen, folders = 0, [""]
    while folders:
        prefix = folders.pop()
        with os.scandir(links.root / prefix) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if (seen := seen + 1) > _MOST_ENTRIES:
                    detail = f"`{links.root}` holds over {_MOST_ENTRIES}: move declarations away."
                    raise ConfigError(diagnostic("FC1312", detail))
                name, is_link = f"{prefix}{entry.name}", entry.is_symlink()
                is_folder = Path(entry).is_dir() if is_link else entry.is_dir()
                is_left_out = name in _LEFT_OUT if is_folder else not name.endswith(_SUFFIXES)
                is_plain = not is_link and (is_folder or entry.is_file())
                if is_left_out or not (is_plain or links.may_follow(entry, name)):
                    continue
                if is_folder:
                    folders.append(f"{name}/")
                elif not is_compiled(Path(entry)):
                    yield name


def is_compiled(path: Path) -> bool:
    """Say whether a file was written by `compile`; one that cannot be read was not."""
    if path.name != COMPILED_FILE:
        return False
    try:
        with open_plain(path) as stream:
            return stream.readline(len(COMPILED_LINE)) == COMPILED_LINE.encode()
    except OSError:
        return False
