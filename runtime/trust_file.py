"""Reads and writes the operator's own file of trust, outside every checkout.

The file is `trust.yaml` in `${XDG_CONFIG_HOME:-~/.config}/fleetctl`. Its writer decides where
secrets go, so the file is read only where its owner alone can have written it.
"""

import os
import stat
from pathlib import Path
from typing import Final

from fleet.errors import FleetError
from runtime.files import PRIVATE_FOLDER, replace_file

LARGEST: Final = 1 << 20
"""Upper bound of the file's size. Bytes."""


def trust_path() -> Path:
    """Return the path of the file; a relative `XDG_CONFIG_HOME` counts as none, by the standard."""
    given = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (given if given.is_absolute() else _home() / ".config") / "fleetctl" / "trust.yaml"


def _home() -> Path:
    """Return the user's home; `/` where the user has none, or `HOME` would follow the caller."""
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor the user database names one
        return Path("/")
    return home if home.is_absolute() else Path("/")


def require_outside(root: Path, *, writing: bool = False) -> None:
    """Refuse a file of trust that the project, or the checkout around the project, could carry.

    `writing`: also where there is no file yet.

    Raises:
        FleetError: FC1274.
    """
    path, project = trust_path(), root.resolve()
    parents = (folder for folder in (project, *project.parents) if (folder / ".git").exists())
    checkout = next(parents, project)
    if (writing or os.path.lexists(path)) and _absolute(path).is_relative_to(checkout):
        detail = f"it lies in `{checkout}`, so a branch could bring its own."
        raise _refused(path, detail, "Set HOME or XDG_CONFIG_HOME to a folder outside.")


def read_trust(path: Path) -> bytes:
    """Return the content of the file; empty where there is none.

    Raises:
        FleetError: FC1274, another user or the target of a link could have written it.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        detail = "it is a link." if path.is_symlink() else f"{error.strerror}."
        raise _refused(path, detail, "Put a file in its place.") from None
    try:
        _require_private(path, os.fstat(handle), folder=False)
        _require_private(path.parent, path.parent.stat(), folder=True)
        content = os.read(handle, LARGEST + 1)
    finally:
        os.close(handle)
    if len(content) > LARGEST:
        raise _refused(path, f"it is larger than {LARGEST} bytes.", "Remove what is not needed.")
    return content


def write_trust(path: Path, content: bytes, root: Path) -> None:
    """Replace the file whole, readable by its owner alone.

    Raises:
        FleetError: FC1274, as `read_trust`, or it would lie in the checkout of `root`.
    """
    require_outside(root, writing=True)
    path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    read_trust(path)
    replace_file(path, content)


def _absolute(path: Path) -> Path:
    """Return a path whose folder has no links; the file itself is never followed."""
    return path.parent.resolve() / path.name


def _require_private(path: Path, status: os.stat_result, *, folder: bool) -> None:
    kind, theirs = (stat.S_ISDIR, 0o022) if folder else (stat.S_ISREG, 0o077)
    if not kind(status.st_mode):
        raise _refused(path, f"it is no {'folder' if folder else 'regular file'}.", "Remove it.")
    if status.st_uid != os.geteuid():
        raise _refused(path, "it belongs to another user.", "Make your own: `fleetctl trust add`.")
    if status.st_mode & theirs:
        mode = "700" if folder else "600"
        detail = f"other users may {'write in' if folder else 'read or write'} it."
        raise _refused(path, detail, f"Look at its content, then: chmod {mode} {path}")


def _refused(path: Path, detail: str, hint: str) -> FleetError:
    text = f"`{path}` says which hosts get secrets and which code may run, and {detail}"
    return FleetError.of("FC1274", "Trust file is not its owner's alone", text, hint=hint)
