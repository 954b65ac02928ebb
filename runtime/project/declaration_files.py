"""Finds the YAML files of a project; a link that leads outside is refused before it is opened."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from fleet.codes import diagnostic
from fleet.config import COMPILED_FILES, COMPILED_LINE
from fleet.errors import ConfigError
from runtime.confined import NamedPath, confined, problems_of
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
    folder = Path(os.path.normpath(root.absolute()))
    hint, command = "Name the project's folder with `-C DIR`, or begin one:", "scaffold fleet DIR"
    if above := next((path for path in folder.parents if (path / MAIN).is_file()), None):
        hint, command = "A folder above is one:", f"-C {shlex.quote(str(above))} status"
    there = f"holds no `{MAIN}`" if folder.is_dir() else "does not exist"
    detail = f"`{folder}` {there}, and fleetctl works on a folder with that file."
    raise ConfigError(diagnostic("FC1010", detail, hint=hint, command=f"fleetctl {command}"))


def declaration_files(root: Path) -> list[str]:
    """Return the YAML files of the project but overlays, relative to the project, sorted.

    Raises:
        ConfigError: FC1285, links lead outside; FC1286, a file is none; FC1312, too many files.
    """
    links: list[NamedPath] = []
    names = sorted(_found(root, links))
    if problems := problems_of(root, links):
        raise ConfigError(*problems)
    return names


def _found(root: Path, links: list[NamedPath]) -> Iterator[str]:
    """Yield the files; links that are met are added to `links`, and followed where they may be.

    A link to a folder around the link is not followed: that folder is read already.
    """
    seen, folders = 0, [""]
    while folders:
        prefix = folders.pop()
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if (seen := seen + 1) > _MOST_ENTRIES:
                    detail = f"`{root}` holds over {_MOST_ENTRIES}: move declarations away."
                    raise ConfigError(diagnostic("FC1312", detail))
                name, is_link = f"{prefix}{entry.name}", entry.is_symlink()
                is_folder = Path(entry).is_dir() if is_link else entry.is_dir()
                is_folder = is_folder and not name.endswith(_SUFFIXES)  # an error when it is read
                is_left_out = name in _LEFT_OUT if is_folder else not name.endswith(_SUFFIXES)
                if is_left_out:
                    continue
                if is_link or not (is_folder or entry.is_file()):
                    links.append(NamedPath.of(name, root))
                    around = Path(os.path.realpath(root / prefix))
                    if around.is_relative_to(links[-1].real) or problems_of(root, links[-1:]):
                        continue
                if is_folder:
                    folders.append(f"{name}/")
                elif not is_compiled(Path(entry)):
                    yield name


def is_compiled(path: Path) -> bool:
    """Say whether a file was written by `compile`; one that cannot be read was not."""
    if path.name not in COMPILED_FILES:
        return False
    try:
        with open_plain(path) as stream:
            return stream.readline(len(COMPILED_LINE)) == COMPILED_LINE.encode()
    except OSError:
        return False
