"""Finds the files of a project that hold declarations."""

import os
from collections.abc import Iterator
from pathlib import Path

from fleet.codes import diagnostic
from fleet.config import COMPILED_FILE, COMPILED_LINE
from fleet.errors import ConfigError
from runtime.files import open_plain

_SUFFIXES = (".yaml", ".yml")
_LEFT_OUT = {"env", "golden", "models", "node_modules", "training", "__pycache__"}
_MOST_ENTRIES = 200_000
"""Upper bound of a project's files and folders."""


def declaration_files(root: Path) -> Iterator[str]:
    """Yield the declarations; too many files, as where a link leads up, are refused: FC1312."""
    seen, folders = 0, [""]
    while folders:
        prefix = folders.pop()
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if (seen := seen + 1) > _MOST_ENTRIES:
                    detail = f"`{root}` holds over {_MOST_ENTRIES}; move the declarations away."
                    raise ConfigError(diagnostic("FC1312", detail))
                if entry.is_dir():
                    if entry.name not in _LEFT_OUT or prefix:
                        folders.append(f"{prefix}{entry.name}/")
                elif entry.name.endswith(_SUFFIXES) and not is_compiled(Path(entry.path)):
                    yield f"{prefix}{entry.name}"


def is_compiled(path: Path) -> bool:
    """Say whether a file was written by `compile`; one that cannot be read was not."""
    if path.name != COMPILED_FILE:
        return False
    try:
        with open_plain(path) as stream:
            return stream.readline(len(COMPILED_LINE)) == COMPILED_LINE.encode()
    except OSError:
        return False
