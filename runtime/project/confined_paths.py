"""Refuses declared paths that lead out of the project, all at once."""

import os
from collections.abc import Iterable
from pathlib import Path

from fleet.config import Declarations, Tree, declared_paths
from fleet.errors import Diagnostic
from runtime.confined import Outside, fault_of, left_outside, links_in, refused, special


def refuse_outside(root: Path, given: Declarations, tree: Tree) -> list[Diagnostic]:
    """Return the problems of declared paths: a single FC1285 for all that lead outside.

    The files of a model's folder count too, for publishers keep links there.

    Raises:
        FleetError: as `load_trust`.
    """
    found: list[Outside] = []
    problems: list[Diagnostic] = []
    seen: dict[tuple[str, bool], Path] = {}
    for path in declared_paths(given):
        key = (path.text, path.is_socket)
        if key in seen:
            continue
        seen[key] = real = Path(os.path.realpath(root / path.text))
        if path.is_optional and not os.path.lexists(root / path.text):
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
