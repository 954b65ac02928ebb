"""From declarations to the fleet: defaults and tiers merged, every reference checked."""

from fleet.crosscheck import Facts
from fleet.resolve.diagnostics import diagnostics
from fleet.resolve.whole import resolve

__all__ = ["Facts", "diagnostics", "resolve"]
