"""Find packages of others that hide ours: `fleet`, `plans` and `runtime` are common names."""

from importlib.util import find_spec
from pathlib import Path

OURS = ("fleet", "plans", "runtime")


def check_import_names(beside: Path) -> None:
    """End the process (1) where a package of ours is not the package in the folder `beside`."""
    for name in OURS:
        found = find_spec(name)
        origin = found.origin if found is not None else None
        if origin is None or Path(origin).parent != beside / name:
            refuse(name, origin or "no file")


def refuse(name: str, place: str) -> None:
    """End the process (1): the package at a place is another project's.

    Raises:
        SystemExit: always, with the text.
    """
    raise SystemExit(
        f"Error: the package `{name}` that Python finds is another project's.\n"
        f"  found   {place}\n"
        f"  why     fleetctl brings its own packages {', '.join(OURS)}; only one package of a name"
        " can be imported.\n"
        "  do      install fleetctl in an environment of its own: `uv tool install WHEEL` or"
        " `pipx install WHEEL`,\n"
        "          and run `fleetctl` in place of `python -m fleetctl`; unset PYTHONPATH."
    )
