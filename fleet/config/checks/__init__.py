"""Checks declarations against others and against the facts of the project."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from fleet.capacity import ObservedDemand
from fleet.config.files.lockfile import Lock
from fleet.hardware import BaseShape, Profile
from fleet.policies import GoldenFacts


@dataclass(frozen=True, slots=True)
class ProjectFacts:
    """The facts from outside the declarations."""

    lock: Lock = field(default_factory=Lock)
    zones: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Known time zones, with all minutes east of UTC in the course of a year.

    The minutes of zones that no adapter names may be left out. Empty: unknown, and not checked.
    """
    fingerprints: Mapping[str, str | None] = field(default_factory=dict)
    """Secret reference to fingerprint; None: not readable here."""
    weak: frozenset[str] = frozenset()
    """References of secrets that are estimated below 128 bits."""
    shapes: Mapping[str, BaseShape] = field(default_factory=dict)
    """Dimensions by base, read from the library."""
    absent: frozenset[str] = frozenset()
    """Golden sets that are declared and do not exist."""
    schemas: Mapping[str, str | None] = field(default_factory=dict)
    """JSON Schemas of output formats by file, in the shortest form; None: there is no such file."""
    observed: Mapping[str, ObservedDemand] = field(default_factory=dict)
    """Recorded demand by alias."""
    profiles: tuple[Profile, ...] = ()
    """Measured speeds of servers."""
    golden: Mapping[str, GoldenFacts] = field(default_factory=dict)
    """Size and digest of the golden sets, by path."""
    signing_keys: Mapping[str, str | None] = field(default_factory=dict)
    """Fingerprints of the keys that sign versions, by file; None: not a key of the right kind."""
    code: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Flags that the operator lets run code, by the host where they may."""

    def shape(self, base: str) -> BaseShape | None:
        """Return a base's dimensions: from the library, else as the lock keeps them.

        The lock's weights count where it has any: a checkout without the weight files plans alike.
        """
        here, locked = self.shapes.get(base), self.lock.bases.get(base)
        if here and locked and locked.weight_bytes:
            return replace(here, weight_bytes=locked.weight_bytes)
        return here or locked
