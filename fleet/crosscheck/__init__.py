"""References and rules that reach over several declarations."""

from fleet.crosscheck.check import check
from fleet.crosscheck.facts import Facts
from fleet.crosscheck.hints import hints
from fleet.crosscheck.references import Names, aliases_of

__all__ = ["Facts", "Names", "aliases_of", "check", "hints"]
