"""Reads a project in which clients are broken: each is set aside by name, the rest is read.

What no single client explains stops everything.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

from fleet.config import LOCK_FILE, BrokenFile, SetAside, client_in_text
from fleet.errors import ConfigError, FleetError
from fleet.history import History
from runtime.files import read_plain
from runtime.project.load import Project

_LOCK: Final = "FC1217"
Load = Callable[[SetAside | None], Project]
"""Reads the project, with these clients set aside."""


def load_set_aside(
    load: Load, root: Path, past: Callable[[], History], clients: Mapping[str, str], *, more: bool
) -> Project:
    """Read a project with clients set aside; `more`: and every further client that is broken.

    Raises:
        ConfigError: a problem is not of single clients, or the ledger does not tell what was
            applied of them.
    """
    first: ConfigError | None = None
    aside = _as_applied(past, clients) if clients else None
    while True:
        try:
            return load(aside)
        except ConfigError as error:
            first = first or error
            if aside is None and more:
                aside = _as_applied(past, {})  # then problems tell who of several is at fault
            elif aside is not None:
                aside = _with_broken(root, aside, error) if more else None
            if aside is None:
                raise first from None


def _as_applied(past: Callable[[], History], clients: Mapping[str, str]) -> SetAside | None:
    """Return the clients as last applied; None: the ledger does not tell."""
    try:
        history = past()
    except FleetError:  # what needs the ledger says so itself
        return None
    if history.settings is None and (history.owned or history.established):
        return None
    return SetAside.of(history.settings or {}, history.established.values(), clients)


def _with_broken(root: Path, aside: SetAside, error: ConfigError) -> SetAside | None:
    """Set aside the clients that problems name; None: a problem is not of a single client."""
    clients: dict[str, str] = {}
    files: dict[str, BrokenFile] = {}
    lock = [problem for problem in error.diagnostics if problem.code == _LOCK]  # explains others
    for problem in lock or error.diagnostics:
        if problem.clients:
            names = [*problem.clients]
            place = problem.place.file if problem.place else LOCK_FILE
            broken = [BrokenFile(place, _text(root, place), names[0], is_left_out=False)]
        else:
            spots = (problem.place, *(place for _, place in problem.also))
            broken = _files_at(root, {place.file for place in spots if place}, aside)
            names = sorted({file.client for file in broken})
        if len(names) != 1 or names[0] in (*aside.clients, ""):
            return None
        clients.setdefault(names[0], problem.reason)
        if names[0] not in aside.applied or not problem.clients:
            files |= {file.name: file for file in broken}
    every = {**clients, **aside.clients}
    return replace(aside, clients=every, files=(*aside.files, *files.values()))


def _files_at(root: Path, names: Collection[str], aside: SetAside) -> list[BrokenFile]:
    """Return the files that cannot be read, with their clients.

    Of several that declare the same, the only file that is named after another client is broken.
    """
    texts = {name: _text(root, name) for name in sorted(names)}
    found = [
        BrokenFile(name, text, client_in_text(name, text, aside.applied), is_left_out=True)
        for name, text in texts.items()
    ]
    odd = [
        replace(file, client=stem)
        for file in found
        if (stem := PurePosixPath(file.name).stem) in aside.applied
        and file.client not in ("", stem)
    ]
    return odd if len(odd) == 1 and len(found) > 1 else found


def _text(root: Path, file: str) -> str:
    """Return the text of a file, with marks for bytes that are no text; empty: no text."""
    try:
        return read_plain(root / file).decode("utf-8", "replace")
    except (OSError, FleetError):
        return ""
