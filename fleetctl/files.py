"""Files that a command is given or writes: UTF-8, LF, whole or not at all."""

import os
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile

from fleet.errors import FleetError, problem


def read_text(path: Path) -> str:
    """Return the text of a file; `-` is standard input.

    Raises:
        FleetError: FC5020, the file cannot be read or is not UTF-8.
    """
    try:
        if str(path) == "-":
            return sys.stdin.read()
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise _unreadable(path, "it is not UTF-8 text") from None
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None


def write_text(path: Path, text: str) -> None:
    """Write a file by renaming a finished one into place; a reader never sees half of it.

    Raises:
        FleetError: FC5021, the file cannot be written.
    """
    try:
        with NamedTemporaryFile(
            "w",
            dir=path.parent,
            prefix=f".{path.name}.",
            delete=False,
            encoding="utf-8",
            newline="",
        ) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError as error:
        raise FleetError(
            problem(
                "FC5021",
                "File cannot be written",
                f"{path}: {error.strerror or error}.",
                hint="choose a folder that exists and that you may write to",
            )
        ) from None


def _unreadable(path: Path, reason: str) -> FleetError:
    return FleetError(
        problem(
            "FC5020",
            "File cannot be read",
            f"{path}: {reason}.",
            hint="check the name and the permissions",
        )
    )
