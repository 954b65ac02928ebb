"""Refuses declared paths that lead out of the project, all at once."""

import os
from dataclasses import replace
from pathlib import Path

from fleet.config import Declarations, DeclaredPath, Tree, declared_paths
from fleet.errors import Diagnostic
from runtime.confined import NamedPath, links_in, problems_of


def refuse_outside(
    root: Path, given: Declarations, tree: Tree, *, secrets: bool
) -> list[Diagnostic]:
    """Return the problems of declared paths: a single FC1285 for all that lead outside.

    The files of a model's folder count too, for publishers keep links there. `secrets`: whether
    paths of secrets count; a run that reads none needs no trust in their places.

    Raises:
        FleetError: as `load_trust`.
    """
    found: list[NamedPath] = []
    seen: set[DeclaredPath] = set()
    for path in declared_paths(given):
        like = replace(path, at=())
        if like in seen:
            continue
        seen.add(like)
        is_absent = path.is_optional and not os.path.lexists(root / path.text)
        if is_absent or (path.is_secret and not secrets):
            continue
        real = NamedPath.of(path.text, root).real
        named = f"`{path.text}` (`{'.'.join(map(str, path.at))}`)"
        is_socket = path.is_socket and os.path.lexists(real)
        found.append(NamedPath(named, real, tree.place(path.at), is_socket))
        if path.is_optional:
            found += links_in(real)
    for name in given.bases:
        found += links_in(root / given.library / "base" / name)
    return problems_of(root, found)
