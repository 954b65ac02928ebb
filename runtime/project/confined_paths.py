"""Refuses declared paths that lead out of the project, all at once."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from fleet.config import Declarations, DeclaredPath, Tree, declared_paths
from fleet.errors import Diagnostic
from runtime.confined import Outside, fault_of, left_outside, links_in, refused, special


def refuse_outside(
    root: Path, given: Declarations, tree: Tree, *, secrets: bool
) -> list[Diagnostic]:
    """Return the problems of declared paths: a single FC1285 for all that lead outside.

    The files of a model's folder count too, for publishers keep links there. `secrets`: whether
    paths of secrets count; a run that reads none needs no trust in their places.

    Raises:
        FleetError: as `load_trust`.
    """
    found: list[Outside] = []
    problems: list[Diagnostic] = []
    seen: set[DeclaredPath] = set()
    for path in declared_paths(given):
        like = replace(path, at=())
        if like in seen:
            continue
        seen.add(like)
        real = Path(os.path.realpath(root / path.text))
        is_absent = path.is_optional and not os.path.lexists(root / path.text)
        if is_absent or (path.is_secret and not secrets):
            continue
        named = f"`{path.text}` (`{'.'.join(map(str, path.at))}`)"
        fault = fault_of(real, is_socket=path.is_socket and os.path.lexists(real))
        if fault:
            problems.append(special(named, fault, tree.place(path.at)))
            continue
        found += [Outside(named, real, tree.place(path.at))]
        if path.is_optional:
            found += _linked(real, problems)
    for name in given.bases:
        found += _linked(root / given.library / "base" / name, problems)
    outside = left_outside(root, found)
    return [*problems, *([refused(outside)] if outside else [])]


def _linked(folder: Path, problems: list[Diagnostic]) -> Iterable[Outside]:
    for link in links_in(folder):
        real = Path(os.path.realpath(link))
        if fault := fault_of(real):
            problems.append(special(f"`{link}`", fault))
        else:
            yield Outside(f"`{link}`", real)
