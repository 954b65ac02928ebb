"""Find the base that an adapter is checked against, without a valid fleet.

A fleet that names a version is valid once the lock has the version, and adding the version to the
lock needs its base. So only the entry of the base is read.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.errors import LibraryError, did_you_mean
from runtime.confined import confined, confined_folder
from runtime.library.add import KnownBase
from runtime.library.layout import base_folder
from runtime.project.facts import read_lock, read_shape
from runtime.project.load import library_folder, read_files, read_tree


def known_base(
    root: Path, environment: str | None, variables: Mapping[str, str], name: str
) -> KnownBase:
    """Return a declared base with its dimensions, from its folder or else from the lock.

    Raises:
        LibraryError: no such base is declared, or its dimensions are not known.
        ConfigError: the declarations, the lock or the base's config.json cannot be read.
    """
    texts = read_files(root, environment)
    value = read_tree(texts, environment, variables).value
    declared = value.get("bases")
    bases: dict[str, Any] = declared if isinstance(declared, dict) else {}
    if name not in bases:
        hint = did_you_mean(name, sorted(bases))
        hint = hint or (f"declared: {', '.join(sorted(bases))}" if bases else "declare it first")
        detail = f"The name says that the adapter is for base `{name}`, which is not declared."
        raise LibraryError.of("FC3014", "Base not declared", detail, hint=hint)
    its = bases[name]
    given = its.get("model") if isinstance(its, dict) else None
    model = given if isinstance(given, str) else ""
    also_known = its.get("known_as") if isinstance(its, dict) else None
    known_as = tuple(map(str, also_known)) if isinstance(also_known, list) else ()
    also = [root / model] if model else []
    places = list(dict.fromkeys([base_folder(library_folder(root), name), *also]))
    for folder in places:
        if (confined(root, folder) / "config.json").is_file():
            return KnownBase(name, model, read_shape(confined_folder(root, folder)), known_as)
    locked = read_lock(root).bases.get(name)
    if locked is None:
        where = " nor ".join(f"`{folder}`" for folder in places)
        detail = (
            f"{f'Neither {where} holds a' if len(places) > 1 else f'{where} holds no'} "
            f"config.json, and the lock does not know `{name}`: nothing says which adapters fit it."
        )
        hint = "Put the base's config.json there; its weights are not needed here."
        raise LibraryError.of("FC3015", "Base's dimensions unknown", detail, hint=hint)
    return KnownBase(name, model, locked, known_as)
