"""What a broken declaration is, and what must be said about it."""

from typing import NamedTuple


class Case(NamedTuple):
    name: str
    file: str
    old: str
    """Text to replace; empty: `new` is the whole file."""
    new: str
    code: str
    place: str
    says: str
    """Part of the remedy or the reason."""


F, A, E, L = "fleet.yaml", "clients/acme.yaml", "env/prod.yaml", "fleet.lock"
